"""`parallel-hpo join`: one machine takes part in a sweep, with what it finds in the sweep's pool.

Of its own it has what is about the machine: directory, workers, devices.
"""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from parallel_hpo.api import kind_names
from parallel_hpo.cli.arguments import find_from_here, parse_target
from parallel_hpo.cli.finding import find_pool_server
from parallel_hpo.cli.late_signals import LateSignals
from parallel_hpo.cli.output import print_for_people
from parallel_hpo.cli.run import DisplayFlags
from parallel_hpo.client.server_client import PoolClient, ask_patiently
from parallel_hpo.config.loader import (
    OF_THE_MACHINE,
    inside_worker,
    load_section_of_machine,
    read_document,
    with_section,
)
from parallel_hpo.config.section import SECTION, HpoSection
from parallel_hpo.core.child_spec import PickledMain
from parallel_hpo.core.errors import BackendError, ParallelHPOError, PoolOverError, TargetError, UsageError
from parallel_hpo.core.pool_messages import NewPool, why_unlike
from parallel_hpo.core.types import Program, Target, sweep_id_of
from parallel_hpo.display import Terminal
from parallel_hpo.pickling.payload import from_text, lay_down
from parallel_hpo.records.folders import prepare_directory
from parallel_hpo.session.membership import versions_here
from parallel_hpo.session.node import AWAIT_SERVER_S, NodeTask, take_part


@dataclass(frozen=True, slots=True)
class JoinRequest:
    """What the user asks of `join`."""

    sweep: str
    config: Path | None
    target: str | None
    arguments: tuple[str, ...]
    """What stands after `--`: the target's own arguments."""
    directory: Path | None
    name: str | None
    once: bool
    display: DisplayFlags


def perform_join(request: JoinRequest) -> int:
    """Take part until the sweep is over or somebody stops it; return the exit code.

    Raises:
        UsageError: there is no such sweep, or nobody says what its runs call.
        BackendError: its pool can't be reached, or refuses us.
        ConfigError, TargetError: this machine can't take part.
    """
    if inside_worker(os.environ):
        raise UsageError("this is a worker of a sweep (PARALLEL_HPO_WORKER is set), which can't join another")
    find_from_here()
    part = _find_part(request, os.environ)
    try:
        section = _section_of(part.pool, request, os.environ)
        main = _main_of(part, section, request)
    except ParallelHPOError as error:
        # What another version has made may be unreadable here: that is why, and not what we stumbled on.
        unlike = why_unlike(part.pool.versions, versions_here(), part.name)
        raise UsageError(f"{unlike}: {error}") if unlike else error from None
    with LateSignals() as late, Terminal(sys.stderr, verbosity=request.display.verbosity) as terminal:
        try:
            result = take_part(part, section, main, observer=late.watching(terminal), once=request.once)
        except PoolOverError as error:
            print_for_people(str(error))
            return error.ends_with
        terminal.conclude(result)
    return result.exit_code


def _find_part(request: JoinRequest, environment: Mapping[str, str]) -> NodeTask:
    """Find the pool, which says all that there is to know of the sweep."""
    sweep_id = sweep_id_of(request.sweep)
    url, key = find_pool_server(environment)
    if not key:
        raise BackendError(
            f"there is no key for {url}: set WANDB_BASE_URL and WANDB_API_KEY to the address and the key of"
            " the sweep's server, as `parallel-hpo server` or the sweep's head has printed them"
        )
    if sends_key_in_clear(url):
        print_for_people(
            f"warning: {url} is plain HTTP: the sweep's key crosses the network in clear, and"
            " anyone who reads it can have the sweep's machines run code; use https, or a tunnel"
        )
    pool = _facts(PoolClient(url, key, sweep_id))
    if pool is None:
        raise UsageError(
            f"{url} has no sweep {sweep_id} that machines can join: make one by"
            " `parallel-hpo run CONFIG TARGET --create`, or by hpo.machines"
        )
    return NodeTask(pool, url, key, request.name or socket.gethostname())


def sends_key_in_clear(url: str) -> bool:
    """Return whether a key sent to this address leaves the machine unencrypted."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    try:
        is_loopback = ip_address(host).is_loopback
    except ValueError:
        is_loopback = host == "localhost"
    return parts.scheme == "http" and not is_loopback


def _facts(door: PoolClient) -> NewPool | None:
    """Return what the pool says; a server that is just being started is waited for."""
    return ask_patiently(
        door.facts,
        within_s=AWAIT_SERVER_S,
        say=lambda error: print_for_people(f"{error}; it is tried for {AWAIT_SERVER_S:g} s"),
    )


def _main_of(part: NodeTask, section: HpoSection, request: JoinRequest) -> PickledMain | Target | Program:
    """Return what runs call: TARGET, else what the pool has."""
    if request.target is not None:
        return parse_target(request.target, request.arguments)
    if not part.pool.main:
        raise UsageError(
            "TARGET is missing: the sweep's pool has no main, so that each machine must bring it, as"
            " `parallel-hpo join SWEEP CONFIG TARGET`"
        )
    try:
        found = from_text(part.pool.main)
    except Exception as error:  # noqa: BLE001 - whatever unpickling raises
        raise TargetError(f"the main that the sweep's pool has can't be read here: {error}") from None
    prepare_directory(section.directory)
    return lay_down(found, section.directory / part.path.sweep_id)


def _section_of(pool: NewPool, request: JoinRequest, environment: Mapping[str, str]) -> HpoSection:
    """Return the pool's section, with this machine's own keys from CONFIG, environment and options."""
    own = {} if request.config is None else _own_of(request.config)
    sweep_id = pool.path.rpartition("/")[2]
    where = request.config or Path(f"the pool of sweep {sweep_id}")
    section = load_section_of_machine(
        {**pool.section, **own, "sweep_id": sweep_id},
        where,
        environment,
        directory=request.directory,
        kinds=kind_names(),
    )
    if section is None:
        raise UsageError(f"{where}: hpo.apply is false, so there is nothing to run; set it to true")
    return section


def _own_of(config: Path) -> dict[str, Any]:
    section = with_section(read_document(config), config)[SECTION]
    return {key: value for key, value in section.items() if key in OF_THE_MACHINE}
