"""A sweep's runs as a table, one row each, and this table as CSV, pandas DataFrame and Parquet file.

wandb client: `files/wandb-summary.json` in a run's folder is written when the run is closed; a killed process
leaves none.
"""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol

from parallel_hpo.config.checks import nearest
from parallel_hpo.core.errors import UsageError
from parallel_hpo.core.folders import RunFolder, run_folders
from parallel_hpo.core.messages import UNKNOWN, Consumption
from parallel_hpo.core.values import dotted
from parallel_hpo.core.version import library

if TYPE_CHECKING:
    import pandas


@dataclass(frozen=True, slots=True)
class BestRun:
    """The finished run with the best finite value of the sweep's metric."""

    run_id: str
    value: float
    parameters: dict[str, Any]


@dataclass(frozen=True, slots=True)
class RunSummary:
    """One run: `outcome` is finished, failed, stopped or crashed, or open while it goes on.

    `reason` is in words; `duration_s` is the sum over all its attempts.
    """

    run_id: str
    parameters: dict[str, Any]
    attempts: int
    outcome: str
    reason: str
    duration_s: float | None
    slot: int
    device: str | None
    value: float | None = None
    """The sweep's metric; None without a finite number."""
    started_at: float | None = None
    """Start of its first attempt, in seconds since the epoch."""
    machine: str | None = None
    """Machine of its last attempt; None: the sweep has only one."""
    consumption: Consumption = UNKNOWN
    """Device time and energy used by all its attempts."""


class AnalysedSweep(Protocol):
    """A sweep, running or ended; `SweepResult` is one."""

    @property
    def sweep_id(self) -> str: ...
    @property
    def metric(self) -> str | None: ...
    @property
    def goal(self) -> str: ...
    @property
    def folder(self) -> str: ...
    @property
    def best(self) -> BestRun | None: ...
    @property
    def runs(self) -> Sequence[RunSummary]: ...


SUMMARY_FILE: Final = "files/wandb-summary.json"
_CLIENT_KEY: Final = "_wandb"
"""The client's own entry in a summary."""
_PIECE: Final = 1 << 20


def read_summaries(folder: Path) -> dict[str, dict[str, Any]]:
    """Return the summaries of a sweep's runs by id, including those of its shares and machines."""
    found = sorted(_folders(folder))
    return {each.run_id: read for each in found if (read := _read(each.path)) is not None}


def _folders(folder: Path) -> Iterator[RunFolder]:
    homes = ("worker-*/wandb", "share-*/worker-*/wandb", "machine-*/worker-*/wandb")
    for home in (found for each in homes for found in folder.glob(each)):
        yield from run_folders(home)


def _read(run_folder: str) -> dict[str, Any] | None:
    """Return a run's summary without the client's own entry; None if it can't be read."""
    try:
        summary = json.loads(_text(f"{run_folder}/{SUMMARY_FILE}"))
    except (OSError, ValueError):
        return None
    if not isinstance(summary, dict):
        return None
    summary.pop(_CLIENT_KEY, None)
    return summary


def _text(path: str) -> str:
    """Read a file with `os.read`, three times as fast as Python's file objects for small files."""
    file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        content = os.read(file, _PIECE)
        while len(content) % _PIECE == 0 and (more := os.read(file, _PIECE)):
            content += more
    finally:
        os.close(file)
    return content.decode()


Table = dict[str, list[Any]]
"""Columns by name, with one value per run, or None."""

FIXED: Final = (
    *("run_id", "outcome", "value", "duration_s"),
    *("reason", "attempts", "slot", "device", "machine", "started_at"),
)
"""The first columns, named like the fields of a run."""
USED: Final = tuple(field.name for field in fields(Consumption))
"""Columns of a run's consumption."""
NUMBERS: Final = ("value", "duration_s", *USED)
TIME: Final = "started_at"
"""Column of the start, in seconds since the epoch."""
PARAMETERS: Final = "parameters."
SUMMARY: Final = "summary."
_BITS: Final = 63


def table_of(sweep: AnalysedSweep) -> Table:
    """Return the table of a sweep's runs, in the order of their start.

    Columns: FIXED (`machine` only for sweeps on many machines), the known ones of USED, the parameters as
    `parameters.<dotted name>`, and the summary from each run's folder as `summary.<dotted name>`.
    """
    runs = sweep.runs
    summaries = read_summaries(Path(sweep.folder)) if sweep.folder else {}
    table = {name: [getattr(run, name) for run in runs] for name in FIXED}
    if not any(table["machine"]):
        del table["machine"]
    used = {name: [getattr(run.consumption, name) for run in runs] for name in USED}
    table |= {name: values for name, values in used.items() if any(value is not None for value in values)}
    table |= _spread(PARAMETERS, [run.parameters for run in runs])
    return table | _spread(SUMMARY, [summaries.get(run.run_id, {}) for run in runs])


def _spread(prefix: str, objects: Sequence[Mapping[str, Any]]) -> Table:
    """Return a column per dotted name."""
    columns: Table = {}
    for row, values in enumerate(objects):
        is_nested = dict in map(type, values.values())
        for name, value in dotted(values) if is_nested else values.items():
            if name not in columns:
                columns[name] = [None] * len(objects)
            columns[name][row] = value
    return {prefix + name: column for name, column in columns.items()}


def kind_of(values: Sequence[Any]) -> type | None:
    """Return the common type of a column's values: bool, int, str, or float (also for int and float mixed).

    None for an empty column, other or mixed types, or a number that doesn't fit into 64 bits.
    """
    kinds = {type(value) for value in values if value is not None}
    if int in kinds and any(type(value) is int and value.bit_length() > _BITS for value in values):
        return None
    if len(kinds) == 1:
        return next((kind for kind in (bool, int, float, str) if kind in kinds), None)
    return float if kinds == {int, float} else None


def order_by(column: str, table: Table) -> list[int]:
    """Return the row numbers of a table, sorted by a column; rows without a value come last.

    Raises:
        UsageError: there is no such column.
    """
    if column not in table:
        raise UsageError(f"--sort {column}: there is no such column; {nearest(column, list(table))}")
    values = table[column]
    return sorted(range(len(values)), key=lambda row: _rank(values[row]))


def as_csv(table: Table) -> bytes:
    """Return a table as CSV with a header; values except text are written as JSON, None as an empty cell."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(table)
    for row in zip(*table.values(), strict=True):
        writer.writerow("" if value is None else as_text(value) for value in row)
    return text.getvalue().encode()


def as_text(value: Any) -> str:
    """Return a value as JSON; text as it is, without lone surrogates, which a file can't contain."""
    if isinstance(value, str):
        return value if value.isascii() else value.encode(errors="replace").decode()
    return json.dumps(value, default=repr)


def _rank(value: Any) -> tuple[int, float, str]:
    """Return the sort key of a value: numbers first, then text and other values, then missing ones."""
    if value is None or value != value:  # NaN
        return (2, 0.0, "")
    if isinstance(value, int | float):
        return (0, value, "")
    return (1, 0.0, as_text(value))


EXTRA: Final = "pandas"
_WITH_GAPS: Final[Mapping[type | None, str]] = {bool: "boolean", int: "Int64", float: "float64"}


def to_dataframe(sweep: AnalysedSweep) -> pandas.DataFrame:
    """Return the table of a sweep as a DataFrame; raises MissingExtraError without pandas.

    Columns keep the types of their values. `started_at` is a time in UTC.
    """
    frames = library("pandas", extra=EXTRA)
    return frames.DataFrame({name: _column(frames, name, each) for name, each in table_of(sweep).items()})


def _column(frames: Any, name: str, values: Sequence[Any]) -> Any:
    if name in NUMBERS:
        return frames.Series(values, dtype="float64")
    if name == TIME:
        return frames.to_datetime(frames.Series(values, dtype="float64"), unit="s", utc=True)
    return _infer(frames, values)


def _infer(frames: Any, values: Sequence[Any]) -> Any:
    """Return a column; numbers and booleans keep their type although some values are missing."""
    kind, has_gaps = kind_of(values), any(value is None for value in values)
    if kind is str:
        return frames.Series(values)  # pandas chooses its type
    return frames.Series(values, dtype=_WITH_GAPS.get(kind, "object") if has_gaps else kind or "object")


PARQUET_EXTRA: Final = "parquet"


def as_parquet(table: Table) -> bytes:
    """Return a table as a Parquet file; raises MissingExtraError without pyarrow.

    Columns keep the types of their values; lists, objects and mixed types become text, as in CSV.
    """
    arrow = library("pyarrow", extra=PARQUET_EXTRA)
    parquet = library("pyarrow.parquet", extra=PARQUET_EXTRA)
    file = io.BytesIO()
    parquet.write_table(
        arrow.table({name: _parquet_column(arrow, name, each) for name, each in table.items()}), file
    )
    return file.getvalue()


def _parquet_column(arrow: Any, name: str, values: Sequence[Any]) -> Any:
    if name == TIME:
        moments = [None if value is None else round(value * 1e6) for value in values]
        return arrow.array(moments, arrow.timestamp("us", tz="UTC"))
    kind = float if name in NUMBERS else kind_of(values)
    if kind in (bool, int, float):
        return arrow.array(values, {bool: arrow.bool_(), int: arrow.int64(), float: arrow.float64()}[kind])
    return arrow.array([None if value is None else as_text(value) for value in values], arrow.string())
