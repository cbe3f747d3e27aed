"""The commands that speak of a sweep that another process runs or ran."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from parallel_hpo.analysis.result import RunSummary, describe_run, result_of
from parallel_hpo.analysis.table import PARAMETERS, as_csv, as_text, order_by, table_of
from parallel_hpo.cli.finding import find_anywhere
from parallel_hpo.cli.output import print_for_machines, print_for_people, warn, write_for_machines
from parallel_hpo.cli.tables import show_table
from parallel_hpo.client.base import PAUSED
from parallel_hpo.core.errors import BackendError, ExitCode, UsageError
from parallel_hpo.core.messages import total
from parallel_hpo.core.types import Outcome
from parallel_hpo.core.values import dotted, strict
from parallel_hpo.records.folders import KnownSweep, known_sweeps

_SHOWN: Final = (
    *("run_id", "outcome", "reason", "attempts", "slot", "machine", "device", "duration_s", "value"),
)
"""What a table says of a run, in the order of its columns; what it has used and its parameters follow."""
_MISSED_LEAST: Final = (
    *("folder", "cpu_kwh", "device_kwh", "device_hours", "backend", "project", "machines", "metric", "open"),
    *(outcome.value for outcome in (Outcome.STOPPED, Outcome.CRASHED, Outcome.FAILED)),
    *("running", "name", "date"),
)
"""The columns of `status` that a narrow terminal goes without, in this order."""


def status(directory: Path, sweep: str | None, *, as_json: bool) -> None:
    """Say how far one sweep is, or all of them."""
    sweeps = known_sweeps(directory, unreadable=warn) if sweep is None else [find_anywhere(directory, sweep)]
    listed = list(sweeps)
    paused = _paused(directory, listed)
    if sweep is not None and not paused and _runs_elsewhere(listed[0]):
        paused = _paused_elsewhere(listed[0])
    described = [_described(known, paused=known.sweep_id in paused) for known in listed]
    if as_json:
        described = _measured(directory, described)
        print_for_machines(json.dumps(described if sweep is None else described[0], indent=2))
    elif not described:
        print_for_people(f"there is no sweep in {directory}")
    else:
        show_table([_cells_of_sweep(each) for each in described], missed_least=_MISSED_LEAST)


def _measured(directory: Path, described: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Add what the embedded server has of each sweep: its runs and their lines, and their bytes."""
    from parallel_hpo.cli.clean import held_by  # SQLAlchemy takes 0.2 s to import
    from parallel_hpo.server import local

    try:
        with local.opened(directory) as world:
            held = [held_by(world, each["sweep"]) for each in described]
    except BackendError as error:
        print_for_people(str(error))
        return [each | {"rows": None, "bytes": None} for each in described]
    return [each | {"rows": has.rows, "bytes": has.size} for each, has in zip(described, held, strict=True)]


def runs(directory: Path, sweep: str, *, sort: str | None, csv: bool, as_json: bool) -> None:
    """List a sweep's runs in the order of their start, or of a column; UsageError for an unknown one."""
    result = result_of(find_anywhere(directory, sweep))
    table = table_of(result) if csv or sort is not None else {}
    order = range(len(result.runs)) if sort is None else order_by(sort, table)
    listed = [result.runs[place] for place in order]
    if csv:
        in_order = {name: [column[place] for place in order] for name, column in table.items()}
        write_for_machines(as_csv(in_order))
    elif as_json:
        print_for_machines(json.dumps(strict([asdict(run) for run in listed]), indent=2))
    elif not listed:
        print_for_people(f"{result.sweep_id} has no runs yet")
    else:
        show_table([*_rows_of(listed)])


def best(directory: Path, sweep: str, *, as_json: bool) -> None:
    """Show the best run so far; raises UsageError where there is none to compare."""
    known = find_anywhere(directory, sweep)
    if known.best is None:
        raise UsageError(
            f"{known.sweep_id} has no finished run with a value of {known.facts.get('metric')!r}"
        )
    run = describe_run(known.best)
    if as_json:
        print_for_machines(json.dumps(strict(asdict(run)), indent=2))
    else:
        metric = known.facts.get("metric")
        print_for_machines(f"{run.run_id}  {metric}={run.value:g}  {json.dumps(run.parameters)}")


def _paused(directory: Path, listed: Sequence[KnownSweep]) -> frozenset[str]:
    """Return which of the sweeps are paused, as far as the embedded server's database says it."""
    asked = [known.sweep_id for known in listed if _may_be_paused(known)]
    if not asked:
        return frozenset()
    from parallel_hpo.server import local  # SQLAlchemy takes 0.2 s to import
    from parallel_hpo.server.services.sweeps import paused_among

    try:
        with local.opened(directory) as world:
            return frozenset() if world is None else paused_among(world, asked)
    except BackendError as error:
        warn(error)
        return frozenset()


def _may_be_paused(known: KnownSweep) -> bool:
    """Whether the sweep is on the embedded server and has something left to do."""
    complete = known.facts.get("exit_code") in (ExitCode.COMPLETE, ExitCode.NO_RUN_FINISHED)
    return known.facts.get("backend") == "local" and (bool(known.supervised) or not complete)


def _runs_elsewhere(known: KnownSweep) -> bool:
    """Whether the sweep is performed now, and is on a server that the client is logged in to."""
    return known.facts.get("backend") == "wandb" and bool(known.supervised) and "path" in known.facts


def _paused_elsewhere(known: KnownSweep) -> frozenset[str]:
    """Return the sweep if its server says that it is paused; a server that doesn't answer is warned of."""
    from parallel_hpo.cli.steering import ask_wandb_state  # it takes a server's imports along

    try:
        state = ask_wandb_state(str(known.facts["path"]))
    except BackendError as error:
        warn(error)
        return frozenset()
    return frozenset({known.sweep_id} if state == PAUSED else ())


def _described(known: KnownSweep, *, paused: bool) -> dict[str, Any]:
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


def _date(began_at: float | None) -> str | None:
    """Return when a sweep began, with the offset of the time here; ledgers of old don't say."""
    return (
        None if began_at is None else datetime.fromtimestamp(began_at).astimezone().isoformat(" ", "seconds")
    )


def _cells_of_sweep(described: dict[str, Any]) -> dict[str, Any]:
    """Return a sweep's row for people: its date by the clock here, to the minute."""
    return described | {"date": described["date"] and described["date"][: len("2026-12-24 18:00")]}


def _rows_of(runs: Sequence[RunSummary]) -> Iterator[dict[str, Any]]:
    """Yield a row for each run, with a column for each parameter, by its dotted name."""
    asked = [dict(dotted(run.parameters)) for run in runs]
    names = list(dict.fromkeys(name for parameters in asked for name in parameters))
    for run, parameters in zip(runs, asked, strict=True):
        cells = {name: getattr(run, name) for name in _SHOWN} | asdict(run.consumption)
        told = {name: as_text(parameters[name]) if name in parameters else None for name in names}
        yield cells | {PARAMETERS + name if name in cells else name: value for name, value in told.items()}
