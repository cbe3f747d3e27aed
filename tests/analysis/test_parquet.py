from __future__ import annotations

import io
import json
from datetime import UTC, datetime
from typing import Any

import pytest
from pyarrow import parquet

from parallel_hpo.analysis.table import as_parquet, table_of
from parallel_hpo.core.types import Outcome
from tests.analysis.sweeps import odd_sweep, result_of, row


def read(*parameters: dict[str, Any]) -> Any:
    runs = [row(place, each, None, Outcome.FAILED) for place, each in enumerate(parameters)]
    return parquet.read_table(io.BytesIO(as_parquet(table_of(result_of(runs)))))


def test_columns_keep_their_types() -> None:
    table = read(
        {"lr": 0.1, "depth": 3, "on": True, "name": "adam", "layers": [64, 32], "mixed": "auto"},
        {"lr": 1, "name": "\ud800", "mixed": 3},
    )
    types = {name: str(table.schema.field(f"parameters.{name}").type) for name in ("lr", "depth", "on")}
    assert types == {"lr": "double", "depth": "int64", "on": "bool"}
    assert {name: table[f"parameters.{name}"].to_pylist() for name in ("lr", "depth", "on", "name")} == {
        "lr": [0.1, 1.0],
        "depth": [3, None],
        "on": [True, None],
        "name": ["adam", "?"],
    }
    assert table["parameters.layers"].to_pylist() == ["[64, 32]", None]
    assert table["parameters.mixed"].to_pylist() == ["auto", "3"]


def test_empty_columns_keep_their_types() -> None:
    table = read({})
    assert str(table.schema.field("value").type) == "double"
    assert table["started_at"].to_pylist() == [datetime(2023, 11, 14, 22, 13, 20, tzinfo=UTC)]


def test_odd_values_have_a_row_per_run() -> None:
    sweep = odd_sweep()
    table = parquet.read_table(io.BytesIO(as_parquet(table_of(sweep))))
    assert table["run_id"].to_pylist() == [run.run_id for run in sweep.runs]
    assert [json.loads(text) for text in table["parameters.layers"].to_pylist()] == [
        run.parameters["layers"] for run in sweep.runs
    ]


@pytest.mark.parametrize("value", [2**63, -(10**400)])
def test_a_huge_number_is_kept(value: int) -> None:
    assert [int(text) for text in read({"seed": value})["parameters.seed"].to_pylist()] == [value]
