"""A sweep's runs as a table: a row for each, the same columns whoever writes it. CSV is written here."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from parallel_hpo.analysis.runs import AnalysedSweep
from parallel_hpo.analysis.summaries import read_summaries
from parallel_hpo.config.sweep_checks import nearest
from parallel_hpo.errors import UsageError
from parallel_hpo.nested import dotted

Table = dict[str, list[Any]]
"""The values of each column by its name, one for each run; None where a run has none."""

FIXED: Final = (
    *("run_id", "outcome", "value", "duration_s"),
    *("reason", "attempts", "slot", "device", "machine", "started_at"),
)
"""The first columns, each named like what a run has."""
NUMBERS: Final = ("value", "duration_s")
TIME: Final = "started_at"
"""In seconds since the epoch."""
PARAMETERS: Final = "parameters."
SUMMARY: Final = "summary."
_BITS: Final = 63


def table_of(sweep: AnalysedSweep) -> Table:
    """Return a row for each run of a sweep, in the order of their start.

    After FIXED (`machine` where the sweep is on many) come the parameters as `parameters.<dotted name>`, and
    what each run logged last, by its folder, as `summary.<dotted name>`.
    """
    runs = sweep.runs
    summaries = read_summaries(Path(sweep.folder)) if sweep.folder else {}
    table = {name: [getattr(run, name) for run in runs] for name in FIXED}
    if not any(table["machine"]):
        del table["machine"]
    table |= _spread(PARAMETERS, [run.parameters for run in runs])
    return table | _spread(SUMMARY, [summaries.get(run.run_id, {}) for run in runs])


def _spread(prefix: str, objects: Sequence[Mapping[str, Any]]) -> Table:
    """Return a column for each dotted name."""
    columns: Table = {}
    for row, values in enumerate(objects):
        is_nested = dict in map(type, values.values())
        for name, value in dotted(values) if is_nested else values.items():
            if name not in columns:
                columns[name] = [None] * len(objects)
            columns[name][row] = value
    return {prefix + name: column for name, column in columns.items()}


def kind_of(values: Sequence[Any]) -> type | None:
    """Return the one type of a column's values: bool, int, str, or float, which whole numbers may be among.

    None where there is none or no such one, or a number that 64 bits can't hold.
    """
    kinds = {type(value) for value in values if value is not None}
    if int in kinds and any(type(value) is int and value.bit_length() > _BITS for value in values):
        return None
    if len(kinds) == 1:
        return next((kind for kind in (bool, int, float, str) if kind in kinds), None)
    return float if kinds == {int, float} else None


def order_by(column: str, table: Table) -> list[int]:
    """Return the places of a table's rows in the order of a column; those without a value there come last.

    Raises:
        UsageError: there is no such column.
    """
    if column not in table:
        raise UsageError(f"--sort {column}: there is no such column; {nearest(column, list(table))}")
    values = table[column]
    return sorted(range(len(values)), key=lambda row: _rank(values[row]))


def as_csv(table: Table) -> bytes:
    """Return a table as CSV with a header; what is no text stands as in JSON, nothing as nothing."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(table)
    for row in zip(*table.values(), strict=True):
        writer.writerow("" if value is None else as_text(value) for value in row)
    return text.getvalue().encode()


def as_text(value: Any) -> str:
    """Return a value as in JSON; a text as it is, save for half characters, which no file can hold."""
    if isinstance(value, str):
        return value if value.isascii() else value.encode(errors="replace").decode()
    return json.dumps(value, default=repr)


def _rank(value: Any) -> tuple[int, float, str]:
    """Return what values of any kind are ordered by: numbers, then texts and the rest, then nothing."""
    if value is None or value != value:  # NaN
        return (2, 0.0, "")
    if isinstance(value, int | float):
        return (0, value, "")
    return (1, 0.0, as_text(value))
