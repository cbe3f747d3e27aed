"""The commands that speak of a sweep that another process runs or ran."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from parallel_hpo.cli.output import print_for_machines, print_for_people, warn
from parallel_hpo.cli.run_columns import as_csv, sorted_by
from parallel_hpo.consumption import total
from parallel_hpo.errors import BackendError, UsageError
from parallel_hpo.supervisor.records.ledger_reader import RunRow
from parallel_hpo.supervisor.records.sweep_folders import KnownSweep, find_sweep, known_sweeps
from parallel_hpo.words import Outcome

_SHOWN: Final = (
    *(
        "run_id",
        "outcome",
        "reason",
        "attempts",
        "slot",
        "machine",
        "device",
        "duration_s",
        "value",
    ),
)
"""What is said of a run, in the order of the table's columns; what it has used and its parameters follow."""
ANY_WIDTH: Final = 100_000
"""As wide as any table."""


def status(directory: Path, sweep: str | None, *, as_json: bool) -> None:
    """Say how far one sweep is, or all of them."""
    sweeps = known_sweeps(directory, unreadable=warn) if sweep is None else [find_sweep(directory, sweep)]
    described = [_described(known) for known in sweeps]
    if as_json:
        described = _measured(directory, described)
        print_for_machines(json.dumps(described if sweep is None else described[0], indent=2))
    elif not described:
        print_for_people(f"there is no sweep in {directory}")
    else:
        _show_table(described)


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
    known = find_sweep(directory, sweep)
    listed = known.runs if sort is None else sorted_by(sort, known.runs)
    if csv:
        print_for_machines(as_csv(listed).removesuffix("\n"))
    elif as_json:
        print_for_machines(json.dumps([_run(run) for run in listed], indent=2))
    elif not listed:
        print_for_people(f"{known.sweep_id} has no runs yet")
    else:
        _show_table([row | {"parameters": json.dumps(row["parameters"])} for row in map(_run, listed)])


def best(directory: Path, sweep: str, *, as_json: bool) -> None:
    """Show the best run so far; raises UsageError where there is none to compare."""
    known = find_sweep(directory, sweep)
    if known.best is None:
        raise UsageError(
            f"{known.sweep_id} has no finished run with a value of {known.facts.get('metric')!r}"
        )
    row = _run(known.best)
    if as_json:
        print_for_machines(json.dumps(row, indent=2))
    else:
        metric = known.facts.get("metric")
        print_for_machines(f"{row['run_id']}  {metric}={row['value']:g}  {json.dumps(row['parameters'])}")


def _described(known: KnownSweep) -> dict[str, Any]:
    best_run = known.best
    return {
        "sweep": known.sweep_id,
        "date": _date(known.facts.get("began_at")),
        "name": known.facts.get("name"),
        "project": known.facts["path"].split("/")[1] if "path" in known.facts else None,
        "running": bool(known.supervised),
        "backend": known.facts.get("backend"),
        "count": known.count,
        "started": len(known.runs),
        **{outcome.value: known.number(outcome) for outcome in Outcome},
        "open": known.number(None),
        "machines": ", ".join(machine.name for machine in known.machines) or None,
        "metric": known.facts.get("metric"),
        "best": None if best_run is None else best_run.value,
        **asdict(total(run.consumption for run in known.runs)),
        "folder": str(known.folder),
    }


def _date(began_at: float | None) -> str | None:
    """Return when a sweep began, with the offset of the time here; ledgers of old don't say."""
    return (
        None if began_at is None else datetime.fromtimestamp(began_at).astimezone().isoformat(" ", "seconds")
    )


def _run(run: RunRow) -> dict[str, Any]:
    told = {name: getattr(run, name) for name in _SHOWN}
    took_s = None if run.duration_s is None else round(run.duration_s, 3)
    return told | {
        "outcome": run.outcome or "open",
        "duration_s": took_s,
        **asdict(run.consumption),
        "parameters": dict(run.parameters),
    }


def _show_table(rows: list[dict[str, Any]]) -> None:
    """Print rows of the same keys as a table, without the columns in which nothing stands.

    A row is one line, however wide the terminal is, which breaks it, or the pipe, which must not.
    """
    names = [name for name in rows[0] if any(row[name] not in (None, "") for row in rows)]
    table = Table(*names, box=None, pad_edge=False)
    for row in rows:
        table.add_row(*map(escape, _cells(row, names)))
    Console(width=ANY_WIDTH).print(table)


def _cells(row: dict[str, Any], names: list[str]) -> Iterator[str]:
    for name in names:
        value = row[name]
        yield "" if value is None else f"{value:g}" if isinstance(value, float) else str(value)
