"""`parallel-hpo join`: takes part in a sweep, as one machine, with the configuration in the sweep's pool.

Only the keys that concern the machine are its own: directory, workers, devices.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from parallel_hpo.cli.finding import find_pool_server
from parallel_hpo.cli.options import Directory, add_working_directory_to_path, parse_target, verbosity_of
from parallel_hpo.cli.output import LateSignals, print_for_people
from parallel_hpo.core.errors import (
    BackendError,
    ParallelHPOError,
    PoolOverError,
    ServerAwayError,
    TargetError,
    UsageError,
)
from parallel_hpo.core.retry import retry
from parallel_hpo.core.types import Program, Target, sweep_id_of

if TYPE_CHECKING:
    from parallel_hpo.client.server_client import PoolClient
    from parallel_hpo.config.section import HpoSection
    from parallel_hpo.core.child_spec import PickledMain
    from parallel_hpo.core.pool_messages import NewPool
    from parallel_hpo.session.node import NodeTask


def join(
    context: typer.Context,
    sweep: Annotated[str, typer.Argument(help="The sweep's id.", metavar="SWEEP")],
    config: Annotated[
        Path | None,
        typer.Argument(help="A file whose hpo section has this machine's own keys (default: none)."),
    ] = None,
    target: Annotated[
        str | None, typer.Argument(help="As for run (default: the target that the sweep was created with).")
    ] = None,
    directory: Directory = None,
    name: Annotated[
        str | None, typer.Option(help="Name of this machine (default: its host name).", metavar="NAME")
    ] = None,
    once: Annotated[
        bool,
        typer.Option("--once", help="Don't rejoin, and stop when standard input, a pipe, ends."),
    ] = False,
    quiet: Annotated[bool, typer.Option("-q", "--quiet", help="Show warnings and the result only.")] = False,
    verbose: Annotated[bool, typer.Option("-v", "--verbose", help="Show the workers' states too.")] = False,
) -> None:
    """Take part in a sweep with this machine.

    WANDB_BASE_URL and WANDB_API_KEY give the address and key of the sweep's server.
    """
    from parallel_hpo.config.loader import inside_worker
    from parallel_hpo.core.pool_messages import version_problem
    from parallel_hpo.display import Terminal
    from parallel_hpo.session.membership import versions_here
    from parallel_hpo.session.node import take_part

    if inside_worker(os.environ):
        raise UsageError("this is a worker of a sweep (PARALLEL_HPO_WORKER is set), which can't join another")
    add_working_directory_to_path()
    task = _find_task(sweep_id_of(sweep), name, os.environ)
    try:
        section = _section_of(task.pool, config, directory, os.environ)
        main = _main_of(task, section) if target is None else parse_target(target, context.obj or ())
    except ParallelHPOError as error:
        # Another version's data may be unreadable here: report the versions as the reason.
        unlike = version_problem(task.pool.versions, versions_here(), task.name)
        raise UsageError(f"{unlike}: {error}") if unlike else error from None
    verbosity = verbosity_of(quiet=quiet, verbose=verbose)
    with LateSignals() as late, Terminal(sys.stderr, verbosity=verbosity) as terminal:
        try:
            result = take_part(task, section, main, observer=late.watching(terminal), once=once)
        except PoolOverError as error:
            print_for_people(str(error))
            raise typer.Exit(error.ends_with) from None
        terminal.conclude(result)
    raise typer.Exit(result.exit_code)


def _find_task(sweep_id: str, name: str | None, environment: Mapping[str, str]) -> NodeTask:
    """Return this machine's task, with the facts of the sweep's pool."""
    import socket

    from parallel_hpo.client.server_client import PoolClient
    from parallel_hpo.session.node import NodeTask

    url, key = find_pool_server(environment)
    if not key:
        raise BackendError(
            f"there is no key for {url}: set WANDB_BASE_URL and WANDB_API_KEY to the address and the key of"
            " the sweep's server, as `parallel-hpo server` or the sweep's coordinator has printed them"
        )
    if sends_key_in_clear(url):
        print_for_people(
            f"warning: {url} is plain HTTP: the sweep's key crosses the network in clear, and"
            " anyone who reads it can have the sweep's machines run code; use https, or a tunnel"
        )
    pool = _read_facts(PoolClient(url, key, sweep_id))
    if pool is None:
        raise UsageError(
            f"{url} has no sweep {sweep_id} that machines can join: create one by"
            " `parallel-hpo run CONFIG TARGET --create`, or by hpo.machines"
        )
    return NodeTask(pool, url, key, name or socket.gethostname())


def sends_key_in_clear(url: str) -> bool:
    """Return whether a key sent to this address leaves the machine unencrypted."""
    from ipaddress import ip_address
    from urllib.parse import urlsplit

    parts = urlsplit(url)
    host = parts.hostname or ""
    try:
        is_loopback = ip_address(host).is_loopback
    except ValueError:
        is_loopback = host == "localhost"
    return parts.scheme == "http" and not is_loopback


def _read_facts(pool: PoolClient) -> NewPool | None:
    """Return the pool's facts, and wait for a server that is still starting."""
    from parallel_hpo.session.node import AWAIT_SERVER_S, RETRY_S

    return retry(
        pool.facts,
        ServerAwayError,
        within_s=AWAIT_SERVER_S,
        every_s=RETRY_S,
        say=lambda error: print_for_people(f"{error}; retrying for {AWAIT_SERVER_S:g} s"),
    )


def _main_of(task: NodeTask, section: HpoSection) -> PickledMain | Target | Program:
    """Return the main in the pool."""
    from parallel_hpo.pickling.payload import from_text, install_main
    from parallel_hpo.records.folders import prepare_directory

    if not task.pool.main:
        raise UsageError(
            "TARGET is missing: the sweep's pool has no main, so that each machine must bring it, as"
            " `parallel-hpo join SWEEP CONFIG TARGET`"
        )
    try:
        found = from_text(task.pool.main)
    except Exception as error:  # noqa: BLE001 - unpickling raises anything
        raise TargetError(f"the main in the sweep's pool can't be read here: {error}") from None
    prepare_directory(section.directory)
    return install_main(found, section.directory / task.path.sweep_id)


def _section_of(
    pool: NewPool, config: Path | None, directory: Path | None, environment: Mapping[str, str]
) -> HpoSection:
    """Return the pool's section, with this machine's own keys from CONFIG, environment and options."""
    from parallel_hpo.api import kind_names
    from parallel_hpo.config.loader import load_section_of_machine

    own = {} if config is None else _machine_keys(config)
    sweep_id = pool.path.rpartition("/")[2]
    where = config or Path(f"the pool of sweep {sweep_id}")
    section = load_section_of_machine(
        {**pool.section, **own, "sweep_id": sweep_id},
        where,
        environment,
        directory=directory,
        kinds=kind_names(),
    )
    if section is None:
        raise UsageError(f"{where}: hpo.apply is false, so there is nothing to run; set it to true")
    return section


def _machine_keys(config: Path) -> dict[str, Any]:
    """Return the keys of the file's section that concern the machine."""
    from parallel_hpo.config.loader import OF_THE_MACHINE, read_document, with_section
    from parallel_hpo.config.section import SECTION

    section = with_section(read_document(config), config)[SECTION]
    return {key: value for key, value in section.items() if key in OF_THE_MACHINE}
