"""`parallel-hpo export` and `report`: write a sweep into a file, for other programs or as one HTML page.

The data comes from the sweep's folder and its server. For a sweep on W&B's server there is only the folder:
its runs by the ledger, without histories and sweep configuration, so that the report infers from the runs
which parameters vary, and on which kind of axis.
"""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from parallel_hpo.cli.finding import find_anywhere
from parallel_hpo.cli.options import Directory, Sweep, directory_of
from parallel_hpo.cli.output import (
    is_stdout,
    print_for_machines,
    whole_file,
    write_for_machines,
)
from parallel_hpo.core.errors import UsageError
from parallel_hpo.core.types import Outcome, RunId, SweepPath, sweep_id_of
from parallel_hpo.core.values import dotted, strict

if TYPE_CHECKING:
    from parallel_hpo.analysis.result import SweepResult
    from parallel_hpo.analysis.study import MetricHistory
    from parallel_hpo.records.folders import KnownSweep
    from parallel_hpo.records.reader import Attempt, PerformedRuns, RunRow
    from parallel_hpo.server.pages.report import Contents


class ExportFormat(StrEnum):
    """Formats of `export`."""

    CSV = "csv"
    PARQUET = "parquet"
    JSON = "json"
    OPTUNA = "optuna"


SUFFIXES: Final = {
    ".csv": ExportFormat.CSV,
    ".parquet": ExportFormat.PARQUET,
    ".json": ExportFormat.JSON,
    ".log": ExportFormat.OPTUNA,
    ".journal": ExportFormat.OPTUNA,
}
"""Format of a file by its suffix."""

_NOTE: Final = "This report is from the sweep's folder: its histories are on W&B's server, at {url}"
_NOTE_OF_POOL: Final = "This report is from the sweep's pool: its histories are on its server, at {url}"


def export(
    sweep: Sweep,
    wanted: Annotated[
        ExportFormat | None,
        typer.Option(
            "--format", help="Format of the file; optuna: a storage with a study (default: by the suffix)."
        ),
    ] = None,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="File to write (default: stdout).", metavar="FILE")
    ] = None,
    directory: Directory = None,
) -> None:
    """Write a sweep's runs as a table or an Optuna storage.

    Prints the file's path. A table is CSV, Parquet or JSON.
    """
    from parallel_hpo.analysis.result import result_of

    folder = directory_of(directory)
    wanted = wanted or _format_by_name(output)
    if output is not None and is_stdout(output):
        output = None
    _check_output(wanted, output)
    result = result_of(find_anywhere(folder, sweep))
    if output is None:
        write_for_machines(_content(result, wanted))
        return
    if wanted is ExportFormat.OPTUNA:
        _write_storage(folder, result, output)
    else:
        content = _content(result, wanted)
        with whole_file(output) as draft:
            draft.write_bytes(content)
    print_for_machines(str(output))


def report(
    sweep: Sweep,
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", help="File to write (default: SWEEP.html, here).", metavar="FILE"),
    ] = None,
    directory: Directory = None,
) -> None:
    """Write a sweep's charts and runs as one HTML file.

    The file needs no server. Prints its path.
    """
    from parallel_hpo.server.pages.report import document

    folder, sweep_id, now = directory_of(directory), sweep_id_of(sweep), time.time()
    contents = _contents_from_server(folder, sweep_id) or contents_of(find_anywhere(folder, sweep), now)
    file = output or Path(f"{sweep_id}.html")
    written = document(contents, now).encode()
    if is_stdout(file):
        write_for_machines(written)
        return
    with whole_file(file) as draft:
        draft.write_bytes(written)
    print_for_machines(str(file))


def _format_by_name(output: Path | None) -> ExportFormat:
    wanted = None if output is None else SUFFIXES.get(output.suffix.lower())
    if wanted is None:
        formats, suffixes = ", ".join(ExportFormat), ", ".join(SUFFIXES)
        where = "stdout" if output is None else str(output)
        raise UsageError(
            f"the format of {where} is unknown: give --format ({formats}), or -o FILE that ends in {suffixes}"
        )
    return wanted


def _check_output(wanted: ExportFormat, output: Path | None) -> None:
    if output is None and wanted is ExportFormat.OPTUNA:
        raise UsageError("--format optuna can't go to stdout: name a file by -o FILE")
    if output is None and wanted is ExportFormat.PARQUET and sys.stdout and sys.stdout.isatty():
        raise UsageError("--format parquet can't go to a terminal: name a file by -o FILE, or use a pipe")


def _content(result: SweepResult, wanted: ExportFormat) -> bytes:
    from parallel_hpo.analysis.table import as_csv, as_parquet, table_of

    match wanted:
        case ExportFormat.JSON:
            return _as_json(result)
        case ExportFormat.PARQUET:
            return as_parquet(table_of(result))
    return as_csv(table_of(result))


def _as_json(result: SweepResult) -> bytes:
    """Return the content of `summary.json`, with the summary of each run."""
    from parallel_hpo.analysis.table import read_summaries

    summaries = read_summaries(Path(result.folder))
    content = asdict(result)
    content["runs"] = [run | {"summary": summaries.get(run["run_id"], {})} for run in content["runs"]]
    return json.dumps(strict(content), indent=2, allow_nan=False).encode() + b"\n"


def _write_storage(directory: Path, result: SweepResult, output: Path) -> None:
    """Write an Optuna storage; an existing storage keeps its other studies."""
    from parallel_hpo.analysis.study import write_storage

    if output.exists() and not output.is_file():
        raise UsageError(f"{output} is not a regular file: name another one by -o")
    earlier = output if output.exists() and output.stat().st_size else None
    histories = _histories(directory, result)
    with whole_file(output) as draft:
        write_storage(result, draft, lambda run_id: histories.get(run_id, {}), earlier=earlier)


def _histories(directory: Path, result: SweepResult) -> Mapping[str, MetricHistory]:
    """Return each run's history of the metric, if the embedded server here has it."""
    from parallel_hpo.server import local  # SQLAlchemy takes 0.2 s to import
    from parallel_hpo.server.pages.report import courses

    names = [run.run_id for run in result.runs]
    with local.opened(directory) as context:
        if context is None or result.metric is None:
            return {}
        curves = courses(context, result.sweep_id, names, result.metric)
    return {name: dict(zip(map(int, curve.x), curve.y, strict=True)) for name, curve in curves.items()}


def _contents_from_server(directory: Path, sweep_id: str) -> Contents | None:
    """Return a sweep's report data from the embedded server; None if the sweep isn't there."""
    from parallel_hpo.server import local  # SQLAlchemy takes 0.2 s to import
    from parallel_hpo.server.pages.report import read

    with local.opened(directory) as context:
        return None if context is None else read(context, sweep_id)


def contents_of(known: KnownSweep, now: float) -> Contents:
    """Return a sweep's report data from its ledgers; `now` is in seconds since the epoch."""
    from parallel_hpo.core.messages import in_words, total
    from parallel_hpo.server.pages.report import Contents
    from parallel_hpo.server.pages.timeline import lanes_of

    shares = known.performed
    columns = _parameters(known.runs)
    path = SweepPath.parse(known.facts["path"])
    metric = known.facts.get("metric")
    goal = known.facts.get("goal") or "minimize"
    sweep = {
        "sweep": {
            "id": known.sweep_id, "name": known.sweep_id, "entity": path.entity, "project": path.project,
            "state": "running" if known.supervised else known.facts.get("stop_reason", "not running"),
            "method": None, "created": None, "count": known.count,
            "metric": None if metric is None else {"name": metric, "goal": goal},
            "used": in_words(total(run.consumption for run in known.runs)),
        },
        "parameters": [_axis(name, values) for name, values in columns.items()],
        "runs": _columns(known, shares) | {"parameters": columns},
        "keys": [],
        "best": None if known.best is None else known.best.run_id,
        "revision": "",
        "complete": True,
    }  # fmt: skip
    timeline = {"now": now, **lanes_of(shares, lambda _: bool(known.supervised))}
    note = _NOTE if known.of_pool is None else _NOTE_OF_POOL
    return Contents(sweep, [], timeline, note.format(url=known.facts.get("url")))


def _columns(known: KnownSweep, shares: Sequence[PerformedRuns]) -> dict[str, list[Any]]:
    attempts: dict[RunId, list[Attempt]] = {}
    for share in shares:
        for attempt in share.attempts:
            attempts.setdefault(attempt.run_id, []).append(attempt)
    runs = known.runs
    names = {slot: share.name_of(slot) for share in shares for slot in share.places}
    of_each = [attempts.get(run.run_id, []) for run in runs]
    return {
        "id": [run.run_id for run in runs],
        "name": [run.run_id for run in runs],
        "state": [_state(run, running=bool(known.supervised)) for run in runs],
        "value": [run.value if run.value is not None and math.isfinite(run.value) else None for run in runs],
        "started": [each[0].started_at if each else None for each in of_each],
        "ended": [each[-1].ended_at if each else None for each in of_each],
        "attempts": [run.attempts for run in runs],
        "worker": [names.get(run.slot, str(run.slot)) for run in runs],
        "sweep": [known.sweep_id] * len(runs),
    }


def _state(run: RunRow, *, running: bool) -> str:
    if run.outcome is None:
        return "running" if running else "cut short"
    return "killed" if run.outcome is Outcome.STOPPED else str(run.outcome)


def _parameters(runs: Sequence[RunRow]) -> dict[str, list[Any]]:
    """Return the values of each parameter by its dotted name; None in runs without it."""
    parameters_of = [dict(dotted(run.parameters)) for run in runs]
    names = dict.fromkeys(name for parameters in parameters_of for name in parameters)
    return {name: [parameters.get(name) for parameters in parameters_of] for name in names}


def _axis(name: str, values: Sequence[Any]) -> dict[str, Any]:
    from parallel_hpo.analysis.study import is_logarithmic

    present = [value for value in values if value is not None]
    numeric = bool(present) and all(type(value) in (int, float) for value in present)
    return {
        "name": name,
        "kind": "number" if numeric else "category",
        "log": numeric and is_logarithmic(present),
        "varied": len({str(value) for value in values}) > 1,
        "low": min(present) if numeric else None,
        "high": max(present) if numeric else None,
        "values": None,
    }
