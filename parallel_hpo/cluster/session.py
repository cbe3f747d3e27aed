"""The coordinator's session of a sweep on many machines: its pool, its nodes, the loop."""

from __future__ import annotations

import queue
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Final

from parallel_hpo.client.base import OpenedSweep
from parallel_hpo.cluster.base import COORDINATOR_STDERR, STDERR, ClusterMachine, NodeCommand, open_file
from parallel_hpo.cluster.loop import ClusterLoop
from parallel_hpo.cluster.nodes import NodeManager, NodeReport
from parallel_hpo.cluster.watcher import Answer, EventCopier, PoolSource, PoolWatcher
from parallel_hpo.config.section import HpoSection
from parallel_hpo.config.tables import Machines
from parallel_hpo.core.errors import ConfigError, ExitCode, ParallelHPOError
from parallel_hpo.core.messages import SweepEnd
from parallel_hpo.core.notices import Message
from parallel_hpo.core.pool_messages import AT_ONCE, NODE_TOKEN, POOL_KEY, POOL_URL, NewPool
from parallel_hpo.core.types import StopKind
from parallel_hpo.pickling.payload import to_text
from parallel_hpo.records.ledger import Ledger
from parallel_hpo.session.membership import versions_here
from parallel_hpo.session.settings import LaunchSettings
from parallel_hpo.session.setup import NOTHING
from parallel_hpo.session.signals import CommandPipe
from parallel_hpo.session.sweep import PreparedSweep, SweepSession
from parallel_hpo.session.waiting import StoppedError

COORDINATOR_KEYS: Final = (
    *("apply", "kind", "count", "machines", "sweep_configuration", "sweep_id", "project", "entity"),
    *("backend", "engine", "on_end", "notify"),
)
"""Keys of the section that no node needs: the coordinator applies them, or nodes get them otherwise."""
KEY_FILE: Final = "sweep.key"


@dataclass(frozen=True, slots=True)
class PoolAddress:
    """Addresses and keys of a sweep and its pool, for nodes."""

    url: str
    key: str = field(repr=False)
    """Valid for this sweep only."""
    is_apart: bool
    """Whether the sweep itself is on W&B's server."""
    login: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Variables for the sweep's server in that case."""

    @property
    def variables(self) -> dict[str, str]:
        """Variables for a node's environment."""
        url, key = ("WANDB_BASE_URL", "WANDB_API_KEY")
        if self.is_apart:
            url, key = (POOL_URL, POOL_KEY)
        return {**self.login, url: self.url, key: self.key}


def new_pool(
    setting: LaunchSettings,
    opened: OpenedSweep,
    count: int | None,
    *,
    is_apart: bool,
    node_timeout_s: float,
    has_coordinator: bool = True,
) -> NewPool:
    """Return the pool of a sweep; TargetError if `main` is too large to be sent to each machine."""
    return NewPool(
        path=str(opened.path),
        backend="wandb" if is_apart else "local",
        url=opened.url,
        count=count,
        node_timeout_s=node_timeout_s,
        section=_section(setting, has_coordinator=has_coordinator),
        configuration=opened.configuration,
        main="" if setting.main is NOTHING else to_text(setting.main),
        versions=versions_here(),
        has_coordinator=has_coordinator,
    )


def _section(setting: LaunchSettings, *, has_coordinator: bool) -> dict[str, Any]:
    section = section_of_nodes(setting.section)
    if has_coordinator and "deadline" in section:
        section["deadline"] = setting.deadline_for_machines(time.time())
    return section


def section_of_nodes(section: HpoSection) -> dict[str, Any]:
    """Return the keys that were set and that concern a node, as in a configuration file."""
    given = section.model_dump(mode="json", exclude_unset=True)
    return {key: value for key, value in given.items() if key not in COORDINATOR_KEYS}


def node_command(
    sweep_id: str, address: PoolAddress, machine: ClusterMachine, token: str, *, grace_s: float
) -> NodeCommand:
    """Return the command of a node on a machine."""
    return NodeCommand(
        arguments=("-m", "parallel_hpo", "join", sweep_id, "--name", machine.name, "--once"),
        variables={**address.variables, NODE_TOKEN: token, COORDINATOR_STDERR: open_file(STDERR)},
        grace_s=grace_s,
    )


def write_key(folder: Path, key: str) -> Path:
    """Write a sweep's key, for nodes started by hand, into a file that only the user may read."""
    path = folder / KEY_FILE
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch(mode=0o600)
    path.chmod(0o600)
    path.write_text(key + "\n")
    return path


def how_to_join(sweep_id: str, address: PoolAddress, key_file: Path) -> str:
    """Return the command by which another machine joins, without the key."""
    of_pool = {name: value for name, value in address.variables.items() if name not in address.login}
    words = [
        f"{name}={f'$(cat {key_file})' if value == address.key else value}" for name, value in of_pool.items()
    ]
    return " ".join([*words, "parallel-hpo join", sweep_id])


NODES_STOP_IN_S: Final = 3.0
"""Timeout for the engine to end the last nodes, in seconds; a hanging node ends by its own fence."""


class ClusterSession(SweepSession):
    """One launch of a sweep on many machines, at its coordinator."""

    def __init__(
        self,
        there: PreparedSweep,
        ledger: Ledger,
        *,
        machines: Machines,
        address: PoolAddress,
        pool: PoolSource,
        nodes: NodeManager | None,
        reports: queue.SimpleQueue[NodeReport | Answer],
    ) -> None:
        """`nodes` is None if machines join by themselves."""
        super().__init__(there, ledger)
        self._machines = machines
        self._address = address
        self._pool = pool
        self._nodes = nodes
        self._which = nodes.which if nodes else "the machines that join"
        self._reports = reports

    # --- before anything runs ----------------------------------------------------------

    def _find_facts(self) -> Mapping[str, Any]:
        """Copy the events that the ledger lacks: all, if another machine began the sweep."""
        known = self._waits.call(self._pool.facts)
        if known is None and self._setting.resumes:
            raise ConfigError(
                f"sweep {self._sweep.path.sweep_id} was begun on one machine:"
                " resume it there, without hpo.machines"
            )
        if known is not None:
            self._catch_up()
        return facts_with_pool(self._ledger.facts, known, self._setting.count)

    def _catch_up(self) -> None:
        copier = EventCopier(self._ledger, lambda notice: None)
        while True:
            last = copier.last_event, copier.last_notice
            news = self._waits.call(partial(self._pool.news, *last))
            copier.take(news)
            if len(news.events) < AT_ONCE:
                return

    def _facts(self) -> dict[str, Any]:
        return {**super()._facts(), "machines": self._which}

    def _announce(self) -> None:
        pool = new_pool(
            self._setting,
            self._sweep,
            self._count.total,
            is_apart=self._address.is_apart,
            node_timeout_s=self._machines.node_timeout_s,
        )
        self._waits.call(lambda: self._pool.create(pool))
        self._notify_opened(workers=0, machines=self._which)
        key_file = write_key(self._folder, self._address.key)
        command = how_to_join(self._sweep.path.sweep_id, self._address, key_file)
        self._setting.observer(Message(f"other machines can join by: {command}"))

    # --- while it runs -----------------------------------------------------------------

    def _run(self, command_pipe: CommandPipe) -> SweepEnd:
        setting, nodes = self._setting, self._nodes
        copier = EventCopier(self._ledger, setting.observer)
        watcher = PoolWatcher(self._pool, lambda: (copier.last_event, copier.last_notice), self._post)
        copier.name_workers()
        if nodes is not None:
            nodes.begin(self._command_for)
        loop = ClusterLoop(
            control=setting.control,
            command_pipe=command_pipe,
            watcher=watcher,
            copier=copier,
            observer=setting.observer,
            stop_nodes=nodes.stop if nodes else None,
            reports=self._reports,
            grace_s=setting.section.grace_period_s,
        )
        try:
            ending = loop.run()
        finally:
            watcher.close()
        self._waits.runs_have_ended(ending.stop)
        if nodes is not None:
            nodes.stop_within(NODES_STOP_IN_S)
        with suppress(StoppedError):
            self._finish(ending)
        return ending

    def _post(self, answer: Answer) -> None:
        self._reports.put(answer)
        self._setting.control.ring()

    def _command_for(self, machine: ClusterMachine, token: str) -> NodeCommand:
        grace_s = self._setting.section.grace_period_s
        return node_command(self._sweep.path.sweep_id, self._address, machine, token, grace_s=grace_s)

    def _finish(self, ending: SweepEnd) -> None:
        """Finish a sweep on W&B's server; on a server of ours the pool has done so."""
        if self._address.is_apart and self._should_finish(ending):
            self._waits.call(lambda: self._backend.finish_sweep(self._sweep.path))
        self._find_phantoms(ending)

    def _abandon(self, reason: str) -> None:
        """Make all machines leave, as far as possible."""
        ends = SweepEnd(f"a fault at the coordinator: {reason}", ExitCode.OUR_FAULT, StopKind.INTERRUPT)
        with suppress(ParallelHPOError):
            self._pool.stop(ends)
        if self._nodes is not None:
            self._nodes.stop_within(NODES_STOP_IN_S)


def facts_with_pool(facts: Mapping[str, Any], known: NewPool | None, count: int | None) -> Mapping[str, Any]:
    """Return a ledger's facts; if it has no count, such as on another machine, that of the pool, if any."""
    if "count" in facts or known is None:
        return facts
    return {**facts, "count": known.count, "count_given": count is None}
