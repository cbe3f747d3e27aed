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


def test_columns_keep_their_types_and_what_has_none_is_as_in_csv() -> None:
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


def test_without_any_value_a_sweeps_value_is_a_number_still_and_its_start_a_time() -> None:
    table = read({})
    assert str(table.schema.field("value").type) == "double"
    assert table["started_at"].to_pylist() == [datetime(2023, 11, 14, 22, 13, 20, tzinfo=UTC)]


def test_a_sweep_with_all_that_is_odd_is_a_row_for_each_run() -> None:
    sweep = odd_sweep()
    table = parquet.read_table(io.BytesIO(as_parquet(table_of(sweep))))
    assert table["run_id"].to_pylist() == [run.run_id for run in sweep.runs]
    assert [json.loads(text) for text in table["parameters.layers"].to_pylist()] == [
        run.parameters["layers"] for run in sweep.runs
    ]


@pytest.mark.parametrize("value", [2**63, -(10**400)])
def test_a_number_of_any_length_is_kept(value: int) -> None:
    assert [int(text) for text in read({"seed": value})["parameters.seed"].to_pylist()] == [value]
