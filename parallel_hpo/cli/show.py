"""`parallel-hpo status`, `runs` and `best`: show sweeps and their runs, whether they run or not."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from parallel_hpo.cli.finding import find_anywhere
from parallel_hpo.cli.options import Directory, Json, Sweep, directory_of, sweep_ids
from parallel_hpo.cli.output import (
    print_for_machines,
    print_for_people,
    show_table,
    warn,
    write_for_machines,
)
from parallel_hpo.core.errors import BackendError, ExitCode, UsageError
from parallel_hpo.core.types import Outcome
from parallel_hpo.core.values import dotted, strict

if TYPE_CHECKING:
    from parallel_hpo.analysis.table import RunSummary
    from parallel_hpo.records.folders import KnownSweep
    from parallel_hpo.server.services.pool import PoolSummary

_RUN_COLUMNS: Final = (
    *("run_id", "outcome", "reason", "attempts", "slot", "machine", "device", "duration_s", "value"),
)
"""First columns of a table of runs, in this order; consumption and parameters follow."""
_DROPPED_FIRST: Final = (
    *("folder", "cpu_kwh", "device_kwh", "device_hours", "backend", "project", "machines", "metric", "open"),
    *(outcome.value for outcome in (Outcome.STOPPED, Outcome.CRASHED, Outcome.FAILED)),
    *("running", "name", "date"),
)
"""Columns of `status` that a narrow terminal leaves out, in this order."""


def status(
    sweep: Annotated[
        str | None,
        typer.Argument(
            help="The sweep's id (default: all sweeps).", metavar="SWEEP", autocompletion=sweep_ids
        ),
    ] = None,
    directory: Directory = None,
    as_json: Json = False,
) -> None:
    """Show the progress of a sweep, or of all sweeps."""
    from parallel_hpo.records.folders import known_sweeps

    folder = directory_of(directory)
    sweeps = known_sweeps(folder, unreadable=warn) if sweep is None else [find_anywhere(folder, sweep)]
    listed = list(sweeps)
    paused, pools = _ask_database(folder, listed, with_pools=sweep is None)
    if sweep is not None and not paused and _runs_elsewhere(listed[0]):
        paused = _paused_elsewhere(listed[0])
    described = [_describe(known, paused=known.sweep_id in paused) for known in listed]
    described += map(_describe_pool, pools)
    if as_json:
        described = _with_sizes(folder, described)
        print_for_machines(json.dumps(described if sweep is None else described[0], indent=2))
    elif not described:
        print_for_people(f"there is no sweep in {folder}")
    else:
        show_table([_sweep_row(each) for each in described], dropped_first=_DROPPED_FIRST)


def runs(
    sweep: Sweep,
    sort: Annotated[
        str | None,
        typer.Option(
            help="Sort by this column, named as in --csv (default: by their start).", metavar="COLUMN"
        ),
    ] = None,
    csv: Annotated[bool, typer.Option("--csv", help="Print CSV, with a column per parameter.")] = False,
    directory: Directory = None,
    as_json: Json = False,
) -> None:
    """List a sweep's runs."""
    from parallel_hpo.analysis.result import result_of
    from parallel_hpo.analysis.table import as_csv, order_by, table_of

    if csv and as_json:
        raise typer.BadParameter("--csv and --json: choose one")
    result = result_of(find_anywhere(directory_of(directory), sweep))
    table = table_of(result) if csv or sort is not None else {}
    order = range(len(result.runs)) if sort is None else order_by(sort, table)
    listed = [result.runs[index] for index in order]
    if csv:
        in_order = {name: [column[index] for index in order] for name, column in table.items()}
        write_for_machines(as_csv(in_order))
    elif as_json:
        print_for_machines(json.dumps(strict([asdict(run) for run in listed]), indent=2))
    elif not listed:
        print_for_people(f"{result.sweep_id} has no runs yet")
    else:
        show_table([*_run_rows(listed)])


def best(sweep: Sweep, directory: Directory = None, as_json: Json = False) -> None:
    """Show a sweep's best run so far."""
    from parallel_hpo.analysis.result import describe_run

    known = find_anywhere(directory_of(directory), sweep)
    metric = known.facts.get("metric")
    if known.best is None:
        raise UsageError(f"{known.sweep_id} has no finished run with a value of {metric!r}")
    run = describe_run(known.best)
    if as_json:
        print_for_machines(json.dumps(strict(asdict(run)), indent=2))
    else:
        print_for_machines(f"{run.run_id}  {metric}={run.value:g}  {json.dumps(run.parameters)}")


def _with_sizes(directory: Path, described: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Add the numbers of rows and bytes that the embedded server stores for each sweep."""
    from parallel_hpo.cli.clean import stored_by_server
    from parallel_hpo.server import local  # SQLAlchemy takes 0.2 s to import

    try:
        with local.opened(directory) as context:
            usages = [stored_by_server(context, each["sweep"]) for each in described]
    except BackendError as error:
        print_for_people(str(error))
        return [each | {"rows": None, "bytes": None} for each in described]
    return [
        each | {"rows": usage.rows, "bytes": usage.size}
        for each, usage in zip(described, usages, strict=True)
    ]


def _ask_database(
    directory: Path, listed: Sequence[KnownSweep], *, with_pools: bool
) -> tuple[frozenset[str], list[PoolSummary]]:
    """Return what the embedded server's database knows besides the ledgers.

    These are the ids of the paused ones among the sweeps, and the pools of sweeps that have no folder here.
    """
    asked = [known.sweep_id for known in listed if _may_be_paused(known)]
    if not asked and not (with_pools and (directory / "server.db").exists()):
        return frozenset(), []
    from parallel_hpo.records.folders import folders_of_sweeps
    from parallel_hpo.server import local  # SQLAlchemy takes 0.2 s to import
    from parallel_hpo.server.services import pool
    from parallel_hpo.server.services.sweeps import paused_among

    try:
        with local.opened(directory) as context:
            if context is None:
                return frozenset(), []
            folders = [folder.name for folder in folders_of_sweeps(directory)]
            pools = pool.summaries(context, without=folders) if with_pools else []
            return paused_among(context, asked), pools
    except BackendError as error:
        warn(error)
        return frozenset(), []


def _may_be_paused(known: KnownSweep) -> bool:
    """Return whether the sweep is on the embedded server and incomplete."""
    complete = known.facts.get("exit_code") in (ExitCode.COMPLETE, ExitCode.NO_RUN_FINISHED)
    return known.facts.get("backend") == "local" and (bool(known.supervised) or not complete)


def _runs_elsewhere(known: KnownSweep) -> bool:
    """Return whether the sweep runs now, on a server that the client is logged in to."""
    return known.facts.get("backend") == "wandb" and bool(known.supervised) and "path" in known.facts


def _paused_elsewhere(known: KnownSweep) -> frozenset[str]:
    """Return the sweep if its server reports it as paused; warn if the server doesn't answer."""
    from parallel_hpo.cli.steer import ask_wandb_state
    from parallel_hpo.client.base import PAUSED

    try:
        state = ask_wandb_state(str(known.facts["path"]))
    except BackendError as error:
        warn(error)
        return frozenset()
    return frozenset({known.sweep_id} if state == PAUSED else ())


def _describe(known: KnownSweep, *, paused: bool) -> dict[str, Any]:
    from parallel_hpo.core.messages import total

    best_run = known.best
    return {
        "sweep": known.sweep_id,
        "date": _date(known.facts.get("began_at")),
        "name": known.facts.get("name"),
        "project": known.project,
        "running": bool(known.supervised),
        "paused": True if paused else None,
        "backend": known.facts.get("backend"),
        "count": known.count,
        "started": len(known.runs),
        **{outcome.value: known.number(outcome) for outcome in Outcome},
        "open": known.number(None),
        "machines": ", ".join(machine.name for machine in known.machines) or None,
        "metric": known.facts.get("metric"),
        "best": None if best_run is None else best_run.value,
        **asdict(total(run.consumption for run in known.runs)),
        "folder": str(known.folder) if known.folder.exists() else None,
    }


def _describe_pool(pool: PoolSummary) -> dict[str, Any]:
    """Return the row of a sweep that has no folder here; what its runs used is in its events only."""
    from parallel_hpo.core.messages import UNKNOWN

    return {
        "sweep": pool.sweep_id,
        "date": _date(pool.opened_at),
        "name": pool.name,
        "project": pool.project,
        "running": pool.is_performed,
        "paused": True if pool.is_paused else None,
        "backend": pool.backend,
        "count": pool.count,
        "started": sum(pool.outcomes.values()),
        **{outcome.value: pool.outcomes.get(outcome, 0) for outcome in Outcome},
        "open": pool.outcomes.get(None, 0),
        "machines": ", ".join(pool.machines) or None,
        "metric": pool.metric,
        "best": pool.best,
        **asdict(UNKNOWN),
        "folder": None,
    }


def _date(began_at: float | None) -> str | None:
    """Return the start of a sweep as local time with its offset; None for old ledgers, which lack it."""
    from datetime import datetime

    if began_at is None:
        return None
    return datetime.fromtimestamp(began_at).astimezone().isoformat(" ", "seconds")


def _sweep_row(described: dict[str, Any]) -> dict[str, Any]:
    """Return a sweep's row for people: its date in local time, to the minute."""
    return described | {"date": described["date"] and described["date"][: len("2026-12-24 18:00")]}


def _run_rows(runs: Sequence[RunSummary]) -> Iterator[dict[str, Any]]:
    """Yield a row per run, with a column per parameter, by its dotted name."""
    from parallel_hpo.analysis.table import PARAMETERS, as_text

    parameters_of = [dict(dotted(run.parameters)) for run in runs]
    names = list(dict.fromkeys(name for parameters in parameters_of for name in parameters))
    for run, parameters in zip(runs, parameters_of, strict=True):
        cells = {name: getattr(run, name) for name in _RUN_COLUMNS} | asdict(run.consumption)
        texts = {name: as_text(parameters[name]) if name in parameters else None for name in names}
        yield cells | {PARAMETERS + name if name in cells else name: text for name, text in texts.items()}
