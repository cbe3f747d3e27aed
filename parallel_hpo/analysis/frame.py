"""A sweep's runs as a pandas DataFrame: a row for each, whose columns keep the types of their values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from types import NoneType
from typing import TYPE_CHECKING, Any, Final

from parallel_hpo.analysis.runs import AnalysedSweep
from parallel_hpo.analysis.summaries import read_summaries
from parallel_hpo.consumption import Consumption
from parallel_hpo.extras import library
from parallel_hpo.nested import dotted

if TYPE_CHECKING:
    import pandas

EXTRA: Final = "pandas"
_TEXTS: Final = ("run_id", "outcome")
_NUMBERS: Final = ("value", "duration_s")
_MORE: Final = ("reason", "attempts", "slot", "device")
_USED: Final = tuple(field.name for field in fields(Consumption))


def to_dataframe(sweep: AnalysedSweep) -> pandas.DataFrame:
    """Return a row for each run of a sweep; raises MissingExtraError without pandas.

    After `run_id`, `outcome`, `value`, `duration_s`, `reason`, `attempts`, `slot`, `device`, what a
    `Consumption` has, `machine` (of a sweep on many) and `started_at` come the parameters as
    `parameters.<dotted name>`, and what the run's summary has as `summary.<dotted name>`. What a run
    hasn't is missing in its row.
    """
    frames = library("pandas", extra=EXTRA)
    runs = sweep.runs
    columns = {name: _infer(frames, [getattr(run, name) for run in runs]) for name in _TEXTS}
    for name in _NUMBERS:
        columns[name] = frames.Series([getattr(run, name) for run in runs], dtype="float64")
    columns |= {name: _infer(frames, [getattr(run, name) for run in runs]) for name in _MORE}
    for name in _USED:
        columns[name] = frames.Series([getattr(run.consumption, name) for run in runs], dtype="float64")
    if any(run.machine is not None for run in runs):
        columns["machine"] = _infer(frames, [run.machine for run in runs])
    starts = frames.Series([run.started_at for run in runs], dtype="float64")
    columns["started_at"] = frames.to_datetime(starts, unit="s", utc=True)
    summaries = read_summaries(Path(sweep.folder)) if sweep.folder else {}
    nested = {
        "parameters.": [run.parameters for run in runs],
        "summary.": [summaries.get(run.run_id, {}) for run in runs],
    }
    for prefix, objects in nested.items():
        columns |= {name: _infer(frames, values) for name, values in _spread(objects, prefix).items()}
    return frames.DataFrame(columns)


def _spread(objects: Sequence[Mapping[str, Any]], prefix: str) -> dict[str, list[Any]]:
    """Return the values of each dotted name, one for each object; None where it has no such."""
    columns: dict[str, list[Any]] = {}
    for row, values in enumerate(objects):
        is_nested = dict in map(type, values.values())
        for name, value in dotted(values) if is_nested else values.items():
            if name not in columns:
                columns[name] = [None] * len(objects)
            columns[name][row] = value
    return {prefix + name: column for name, column in columns.items()}


def _infer(frames: Any, values: Sequence[Any]) -> Any:
    """Return a column; numbers and truth values stay what they are where some are missing, too."""
    kinds = set(map(type, values))
    dtype = _dtype(kinds - {NoneType}, gaps=NoneType in kinds)
    try:
        return frames.Series(values, dtype=dtype)
    except OverflowError:  # a whole number may have any length
        return frames.Series(values, dtype="object")


def _dtype(kinds: set[type], *, gaps: bool) -> str | None:
    """Return the type of a column of values of these kinds; None leaves it to pandas, which knows texts."""
    if kinds == {bool}:
        return "boolean" if gaps else "bool"
    if kinds == {int}:
        return "Int64" if gaps else "int64"
    if kinds and kinds <= {int, float}:
        return "float64"
    return None if kinds == {str} else "object"
