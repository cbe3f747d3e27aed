from __future__ import annotations

import csv
import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pyarrow import parquet

from parallel_hpo.analysis.table import FIXED, as_csv, as_parquet, order_by, table_of
from parallel_hpo.core.errors import UsageError
from parallel_hpo.core.messages import Consumption
from parallel_hpo.core.types import Outcome
from tests.analysis.sweeps import keep_summary, odd_sweep, result_of, row


def order(column: str, *parameters: dict[str, Any]) -> list[int]:
    return order_by(column, table_of(result_of(row(place, each) for place, each in enumerate(parameters))))


def test_known_consumption_is_a_column() -> None:
    used = replace(row(0, {}), consumption=Consumption(1.5, 0.25))
    table = table_of(result_of([used, row(1, {})]))
    assert (table["device_hours"], table["device_kwh"]) == ([1.5, None], [0.25, None])
    assert "cpu_kwh" not in table


def test_csv_has_a_column_per_parameter_and_summary_value(tmp_path: Path) -> None:
    keep_summary(tmp_path, "run1", {"acc": 0.75, "gpu": {"mem": 3}})
    runs = [
        row(0, {"optim": {"lr": 0.1, "name": "adam"}}, 0.5),
        row(1, {"layers": [1, 2], "early": True}, None, Outcome.FAILED),
    ]
    written = as_csv(table_of(result_of(runs, folder=tmp_path)))
    first, second = csv.DictReader(io.StringIO(written.decode()))
    assert [*first] == [
        *(name for name in FIXED if name != "machine"),
        *("parameters.optim.lr", "parameters.optim.name", "parameters.layers", "parameters.early"),
        *("summary.acc", "summary.gpu.mem"),
    ]
    assert [*first.values()] == [
        *("run0", "finished", "0.5", "2.5", "", "1", "0", "", "1700000000.0"),
        *("0.1", "adam", "", "", "", ""),
    ]
    assert [*second.values()] == [
        *("run1", "failed", "", "2.5", "", "1", "1", "", "1700000001.0"),
        *("", "", "[1, 2]", "true", "0.75", "3"),
    ]


def test_csv_without_runs_is_a_header() -> None:
    assert as_csv(table_of(result_of([]))) == (
        b"run_id,outcome,value,duration_s,reason,attempts,slot,device,started_at\n"
    )


def test_an_unknown_column_is_refused_with_the_known_ones() -> None:
    with pytest.raises(UsageError, match=r"--sort values: .*did you mean 'value'.*parameters.lr"):
        order("values", {"lr": 0.1})


@pytest.mark.parametrize(
    ("column", "parameters", "wanted"),
    [
        ("parameters.x", [{"x": "auto"}, {"x": 10}, {"x": 9.5}, {}, {"x": float("nan")}], [2, 1, 0, 3, 4]),
        ("outcome", [{}, {}, {}], [0, 1, 2]),
    ],
)
def test_runs_are_sorted_by_a_column_of_mixed_types_with_missing_values_last(
    column: str, parameters: list[dict[str, Any]], wanted: list[int]
) -> None:
    assert order(column, *parameters) == wanted


def test_a_data_frame_has_a_row_per_run_and_a_column_per_dotted_parameter() -> None:
    import pandas

    rows = [
        row(0, {"opt": {"lr": 0.1, "kind": "sgd"}}, 0.5),
        row(1, {"opt": {"lr": 0.2}}, None, Outcome.FAILED),
        row(2, {}, None, None),
    ]
    frame = result_of(rows).to_dataframe()
    assert list(frame.columns[:4]) == ["run_id", "outcome", "value", "duration_s"]
    assert {name: column(frame, name) for name in ("run_id", "outcome", "value", "duration_s")} == {
        "run_id": ["run0", "run1", "run2"],
        "outcome": ["finished", "failed", "open"],
        "value": [0.5, None, None],
        "duration_s": [2.5, 2.5, None],
    }
    assert "device_kwh" not in frame.columns
    assert column(frame, "parameters.opt.lr") == [0.1, 0.2, None]
    assert column(frame, "parameters.opt.kind") == ["sgd", None, None]
    assert frame["started_at"][1] == pandas.Timestamp(1_700_000_001, unit="s", tz="UTC")
    assert list(result_of([]).to_dataframe().columns[:4]) == list(frame.columns[:4])


def test_the_summary_of_a_runs_last_attempt_has_columns(tmp_path: Path) -> None:
    keep_summary(tmp_path, "run0", {"loss": 0.5, "time": {"gpu": 3}, "_wandb": {"runtime": 1}})
    keep_summary(tmp_path / "share-1-of-2", "run0", {"loss": 9.5}, made="20250101_000000")
    keep_summary(tmp_path / "share-1-of-2", "run1", {"image": {"_type": "image-file", "path": "a.png"}})
    for run_id, broken in (("run2", ""), ("run3", "[1]"), ("run4", "{")):
        keep_summary(tmp_path, run_id, broken)
    frame = result_of([row(number, {}) for number in range(5)], folder=tmp_path).to_dataframe()
    summary = [name for name in frame.columns if name.startswith("summary.")]
    assert summary == ["summary.loss", "summary.time.gpu", "summary.image"]
    assert column(frame, "summary.loss") == [0.5, None, None, None, None]
    assert column(frame, "summary.time.gpu") == [3, None, None, None, None]
    assert frame["summary.image"][1] == {"_type": "image-file", "path": "a.png"}


def column(frame: Any, name: str) -> list[Any]:
    import pandas  # takes longer than the tests here, in each process that collects them

    return [None if pandas.isna(value) else value for value in frame[name]]


@pytest.mark.parametrize(
    ("values", "dtype"),
    [
        ([1, 2], "int64"),
        ([1, None], "Int64"),
        ([True, False], "bool"),
        ([True, None], "boolean"),
        ([1, 0.5], "float64"),
        ([0.5, None], "float64"),
        ([True, 1], "object"),
        ([10**30, 1], "object"),
        ([[1, 2], "a"], "object"),
        ([None, None], "object"),
    ],
)
def test_a_column_keeps_the_type_of_its_values(values: list[Any], dtype: str) -> None:
    import pandas

    frame = result_of([row(number, {"x": value}) for number, value in enumerate(values)]).to_dataframe()
    assert str(frame["parameters.x"].dtype) == dtype
    assert [
        None if value is pandas.NA or value != value else value for value in frame["parameters.x"]
    ] == values


def read(*parameters: dict[str, Any]) -> Any:
    runs = [row(place, each, None, Outcome.FAILED) for place, each in enumerate(parameters)]
    return parquet.read_table(io.BytesIO(as_parquet(table_of(result_of(runs)))))


def test_parquet_columns_keep_their_types() -> None:
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


def test_parquet_has_a_row_per_run_of_an_odd_sweep() -> None:
    sweep = odd_sweep()
    table = parquet.read_table(io.BytesIO(as_parquet(table_of(sweep))))
    assert table["run_id"].to_pylist() == [run.run_id for run in sweep.runs]
    assert [json.loads(text) for text in table["parameters.layers"].to_pylist()] == [
        run.parameters["layers"] for run in sweep.runs
    ]


@pytest.mark.parametrize("value", [2**63, -(10**400)])
def test_parquet_keeps_a_huge_integer(value: int) -> None:
    assert [int(text) for text in read({"seed": value})["parameters.seed"].to_pylist()] == [value]
