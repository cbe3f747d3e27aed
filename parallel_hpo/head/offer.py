"""What a sweep's machines are given: the pool that they draw from, and how a node there is started."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from parallel_hpo.backend.base import OpenedSweep
from parallel_hpo.config.hpo import HpoSection
from parallel_hpo.machines.base import FoundMachine, NodeCommand
from parallel_hpo.protocol.pool import NODE_TOKEN, POOL_KEY, POOL_URL, NewPool
from parallel_hpo.supervisor.launch import NOTHING
from parallel_hpo.supervisor.membership.telling import versions_here
from parallel_hpo.supervisor.packing.parcel import to_text
from parallel_hpo.supervisor.setting import Setting

OF_THE_HEAD: Final = (
    *("apply", "kind", "count", "machines", "sweep_configuration", "sweep_id", "project", "entity"),
    *("backend", "engine", "on_end", "notify"),
)
"""Keys of the section that no node needs: what they are about is done at the head, or said otherwise."""
KEY_FILE: Final = "sweep.key"


@dataclass(frozen=True, slots=True)
class PoolPlace:
    """Where machines find the pool, and the sweep."""

    url: str
    key: str = field(repr=False)
    """Good for this sweep alone."""
    is_apart: bool
    """The sweep itself is on W&B's server."""
    login: Mapping[str, str] = field(default_factory=dict, repr=False)
    """By which nodes reach the sweep then."""

    @property
    def variables(self) -> dict[str, str]:
        """What a node's environment must have."""
        url, key = ("WANDB_BASE_URL", "WANDB_API_KEY")
        if self.is_apart:
            url, key = (POOL_URL, POOL_KEY)
        return {**self.login, url: self.url, key: self.key}


def new_pool(
    setting: Setting,
    opened: OpenedSweep,
    count: int | None,
    *,
    is_apart: bool,
    node_timeout_s: float,
    headed: bool = True,
) -> NewPool:
    """Return the pool of a sweep; TargetError where `main` is too large to be sent to each machine."""
    return NewPool(
        path=str(opened.path),
        backend="wandb" if is_apart else "local",
        url=opened.url,
        count=count,
        node_timeout_s=node_timeout_s,
        section=_section(setting, headed=headed),
        configuration=opened.configuration,
        main="" if setting.main is NOTHING else to_text(setting.main),
        versions=versions_here(),
        headed=headed,
    )


def _section(setting: Setting, *, headed: bool) -> dict[str, Any]:
    section = section_of_nodes(setting.section)
    if headed and "deadline" in section:
        section["deadline"] = setting.deadline_for_machines(time.time())
    return section


def section_of_nodes(section: HpoSection) -> dict[str, Any]:
    """Return the keys that were given and that concern a node, as a configuration file has them."""
    given = section.model_dump(mode="json", exclude_unset=True)
    return {key: value for key, value in given.items() if key not in OF_THE_HEAD}


def node_command(
    sweep_id: str, place: PoolPlace, machine: FoundMachine, token: str, *, grace_s: float
) -> NodeCommand:
    """Return what starts a node on a machine."""
    return NodeCommand(
        arguments=("-m", "parallel_hpo", "join", sweep_id, "--name", machine.name, "--once"),
        variables={**place.variables, NODE_TOKEN: token},
        grace_s=grace_s,
    )


def write_key(folder: Path, key: str) -> Path:
    """Keep a sweep's key for those who start nodes by hand, in a file that its owner alone may read."""
    path = folder / KEY_FILE
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch(mode=0o600)
    path.chmod(0o600)
    path.write_text(key + "\n")
    return path


def how_to_join(sweep_id: str, place: PoolPlace, key_file: Path) -> str:
    """Return the command by which another machine takes part; the key is not in it."""
    of_pool = {name: value for name, value in place.variables.items() if name not in place.login}
    words = [
        f"{name}={f'$(cat {key_file})' if value == place.key else value}" for name, value in of_pool.items()
    ]
    return " ".join([*words, "parallel-hpo join", sweep_id])
