"""A sweep's table as a Parquet file, by pyarrow."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any, Final

from parallel_hpo.analysis.table import NUMBERS, TIME, Table, as_text, kind_of
from parallel_hpo.extras import library

EXTRA: Final = "parquet"


def as_parquet(table: Table) -> bytes:
    """Return a table as a Parquet file; raises MissingExtraError without pyarrow.

    Columns keep the types of their values; one of lists, objects or several types is texts, as in CSV.
    """
    arrow = library("pyarrow", extra=EXTRA)
    parquet = library("pyarrow.parquet", extra=EXTRA)
    file = io.BytesIO()
    parquet.write_table(arrow.table({name: _column(arrow, name, each) for name, each in table.items()}), file)
    return file.getvalue()


def _column(arrow: Any, name: str, values: Sequence[Any]) -> Any:
    if name == TIME:
        moments = [None if value is None else round(value * 1e6) for value in values]
        return arrow.array(moments, arrow.timestamp("us", tz="UTC"))
    kind = float if name in NUMBERS else kind_of(values)
    if kind in (bool, int, float):
        return arrow.array(values, {bool: arrow.bool_(), int: arrow.int64(), float: arrow.float64()}[kind])
    return arrow.array([None if value is None else as_text(value) for value in values], arrow.string())
