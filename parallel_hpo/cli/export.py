"""`parallel-hpo export`: a sweep as a file for other programs, from what its folder and its server have."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

from parallel_hpo.analysis.result import SweepResult, result_of
from parallel_hpo.analysis.study import Course, write_storage
from parallel_hpo.analysis.table import as_csv, as_parquet, read_summaries, table_of
from parallel_hpo.cli.finding import find_anywhere
from parallel_hpo.cli.options import SUFFIXES, ExportFormat
from parallel_hpo.cli.output import is_stdout, print_for_machines, whole_file, write_for_machines
from parallel_hpo.core.errors import BackendError, UsageError
from parallel_hpo.core.values import strict


def perform_export(directory: Path, sweep: str, asked: ExportFormat | None, output: Path | None) -> None:
    """Write a sweep to a file, and print its path alone; `output` missing, or stdout: write it there.

    Raises:
        UsageError: there is no such sweep; nothing says the format; the file can't be written; stdout is no
            place for that format.
        MissingExtraError: Parquet without pyarrow.
        LedgerError: its ledger can't be read.
        BackendError: the server's database, which has what the runs logged, can't be read now.
    """
    wanted = asked or _format_by_name(output)
    if output is not None and is_stdout(output):
        output = None
    _expect_room_for(wanted, output)
    result = result_of(find_anywhere(directory, sweep))
    if output is None:
        write_for_machines(_content(result, wanted))
        return
    if wanted is ExportFormat.OPTUNA:
        _write_storage(directory, result, output)
    else:
        content = _content(result, wanted)
        with whole_file(output) as draft:
            draft.write_bytes(content)
    print_for_machines(str(output))


def _format_by_name(output: Path | None) -> ExportFormat:
    wanted = None if output is None else SUFFIXES.get(output.suffix.lower())
    if wanted is None:
        formats, suffixes = ", ".join(ExportFormat), ", ".join(SUFFIXES)
        where = "stdout" if output is None else str(output)
        raise UsageError(
            f"{where} doesn't say which format: give --format ({formats}), or -o FILE that ends in {suffixes}"
        )
    return wanted


def _expect_room_for(wanted: ExportFormat, output: Path | None) -> None:
    if output is None and wanted is ExportFormat.OPTUNA:
        raise UsageError("--format optuna is a journal that can't go to stdout: name one by -o FILE")
    if output is None and wanted is ExportFormat.PARQUET and sys.stdout and sys.stdout.isatty():
        raise UsageError("--format parquet is nothing for a terminal: name a file by -o FILE, or use a pipe")


def _content(result: SweepResult, wanted: ExportFormat) -> bytes:
    match wanted:
        case ExportFormat.JSON:
            return _as_json(result)
        case ExportFormat.PARQUET:
            return as_parquet(table_of(result))
    return as_csv(table_of(result))


def _as_json(result: SweepResult) -> bytes:
    """Return what `summary.json` has, and of each run what it logged last."""
    summaries = read_summaries(Path(result.folder))
    told = asdict(result)
    told["runs"] = [run | {"summary": summaries.get(run["run_id"], {})} for run in told["runs"]]
    return json.dumps(strict(told), indent=2, allow_nan=False).encode() + b"\n"


def _write_storage(directory: Path, result: SweepResult, output: Path) -> None:
    """Write an Optuna storage; a file that is one already keeps its other studies."""
    if output.exists() and not output.is_file():
        raise UsageError(f"{output} is no regular file: name another one by -o")
    earlier = output if output.exists() and output.stat().st_size else None
    courses = _courses(directory, result)
    with whole_file(output) as draft:
        write_storage(result, draft, lambda run_id: courses.get(run_id, {}), earlier=earlier)


def _courses(directory: Path, result: SweepResult) -> Mapping[str, Course]:
    """Return what each run logged as the metric, where the embedded server here has it."""
    from parallel_hpo.server import local  # SQLAlchemy takes 0.2 s to import
    from parallel_hpo.server.pages.report import courses
    from parallel_hpo.server.store.database import UnavailableError

    names = [run.run_id for run in result.runs]
    try:
        with local.opened(directory) as world:
            if world is None or result.metric is None:
                return {}
            curves = courses(world, result.sweep_id, names, result.metric)
    except UnavailableError as error:
        raise BackendError(f"the server's database can't be used now: {error}; try again later") from None
    return {name: dict(zip(map(int, curve.x), curve.y, strict=True)) for name, curve in curves.items()}
