"""A sweep's table as a pandas DataFrame, whose columns keep the types of their values.

A sweep's table as a Parquet file, by pyarrow.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from parallel_hpo.analysis.table import NUMBERS, TIME, AnalysedSweep, Table, as_text, kind_of, table_of
from parallel_hpo.core.libraries import library

if TYPE_CHECKING:
    import pandas

EXTRA: Final = "pandas"
_WITH_GAPS: Final[Mapping[type | None, str]] = {bool: "boolean", int: "Int64", float: "float64"}


def to_dataframe(sweep: AnalysedSweep) -> pandas.DataFrame:
    """Return the table of a sweep, as `analysis.table` says; raises MissingExtraError without pandas.

    `started_at` is a time in UTC. What a run hasn't is missing in its row.
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
    """Return a column; numbers and truth values stay what they are where some are missing, too."""
    kind, has_gaps = kind_of(values), any(value is None for value in values)
    if kind is str:
        return frames.Series(values)  # pandas knows which type of its own is the best
    return frames.Series(values, dtype=_WITH_GAPS.get(kind, "object") if has_gaps else kind or "object")


PARQUET_EXTRA: Final = "parquet"


def as_parquet(table: Table) -> bytes:
    """Return a table as a Parquet file; raises MissingExtraError without pyarrow.

    Columns keep the types of their values; one of lists, objects or several types is texts, as in CSV.
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
