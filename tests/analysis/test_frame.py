from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from parallel_hpo.core.types import Outcome
from tests.analysis.sweeps import keep_summary, odd_sweep, result_of, row


def column(frame: Any, name: str) -> list[Any]:
    import pandas  # takes longer than the tests here, in each process that collects them

    return [None if pandas.isna(value) else value for value in frame[name]]


def test_each_run_is_a_row_and_each_parameter_a_column_by_its_dotted_name() -> None:
    import pandas

    rows = [
        row(0, {"opt": {"lr": 0.1, "kind": "sgd"}}, 0.5),
        row(1, {"opt": {"lr": 0.2, "kind": "adam"}}, 0.25),
    ]
    frame = result_of(rows).to_dataframe()
    assert list(frame.columns[:4]) == ["run_id", "outcome", "value", "duration_s"]
    assert column(frame, "run_id") == ["run0", "run1"]
    assert column(frame, "outcome") == ["finished", "finished"]
    assert column(frame, "value") == [0.5, 0.25]
    assert column(frame, "duration_s") == [2.5, 2.5]
    assert "device_kwh" not in frame.columns
    assert column(frame, "parameters.opt.lr") == [0.1, 0.2]
    assert column(frame, "parameters.opt.kind") == ["sgd", "adam"]
    assert frame["started_at"][1] == pandas.Timestamp(1_700_000_001, unit="s", tz="UTC")


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


def test_a_missing_parameter_is_missing_in_the_row() -> None:
    frame = result_of([row(0, {"a": 1}), row(1, {"b": 2})]).to_dataframe()
    assert column(frame, "parameters.a") == [1, None]
    assert column(frame, "parameters.b") == [None, 2]


def test_a_run_without_a_value_has_a_row() -> None:
    frame = result_of([row(0, {}, None, Outcome.FAILED), row(1, {}, None, None)]).to_dataframe()
    assert column(frame, "outcome") == ["failed", "open"]
    assert column(frame, "value") == [None, None]


def test_summaries_are_columns(tmp_path: Path) -> None:
    keep_summary(tmp_path, "run0", {"loss": 0.5, "time": {"gpu": 3}, "_wandb": {"runtime": 1}})
    keep_summary(tmp_path / "share-1-of-2", "run1", {"image": {"_type": "image-file", "path": "a.png"}})
    frame = result_of([row(0, {}), row(1, {}), row(2, {})], folder=tmp_path).to_dataframe()
    summary = [name for name in frame.columns if name.startswith("summary.")]
    assert summary == ["summary.loss", "summary.time.gpu", "summary.image"]
    assert column(frame, "summary.loss") == [0.5, None, None]
    assert column(frame, "summary.time.gpu") == [3, None, None]
    assert frame["summary.image"][1] == {"_type": "image-file", "path": "a.png"}


def test_the_last_attempt_of_a_run_has_its_summary(tmp_path: Path) -> None:
    keep_summary(tmp_path, "run-0", {"loss": 1.0}, made="20260101_000001")
    keep_summary(tmp_path / "share-1-of-1", "run-0", {"loss": 2.0}, made="20260101_000000")
    one = row(0, {}).__class__(**{**_fields(row(0, {})), "run_id": "run-0"})
    assert column(result_of([one], folder=tmp_path).to_dataframe(), "summary.loss") == [1.0]


def _fields(one: Any) -> dict[str, Any]:
    return {name: getattr(one, name) for name in one.__dataclass_fields__}


@pytest.mark.parametrize("broken", ["", "[1]", "{"])
def test_an_unreadable_summary_is_ignored(tmp_path: Path, broken: str) -> None:
    keep_summary(tmp_path, "run0", broken)
    frame = result_of([row(0, {"x": 1})], folder=tmp_path).to_dataframe()
    assert [name for name in frame.columns if name.startswith("summary.")] == []


def test_a_sweep_without_runs_has_an_empty_frame_with_columns() -> None:
    frame = result_of([]).to_dataframe()
    assert len(frame) == 0
    assert {"run_id", "outcome", "value", "duration_s"} <= set(frame.columns)


def test_a_missing_pandas_is_named_with_its_extra() -> None:
    script = (
        "import sys; sys.modules['pandas'] = None\n"
        "from tests.analysis.sweeps import keep_summary, odd_sweep\n"
        "odd_sweep(3).to_dataframe()"
    )
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert "MissingExtraError: this needs pandas" in ended.stderr
    assert "pip install 'parallel_hpo[pandas]'" in ended.stderr


def test_libraries_of_extras_are_imported_late() -> None:
    script = (
        "import sys; from parallel_hpo import HPO, ConfigLoader, SweepResult, load\n"
        "print(sorted({'pandas', 'optuna', 'plotly', 'IPython', 'ipykernel'} & sys.modules.keys()))"
    )
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert ended.stdout == "[]\n", ended.stderr


def test_ten_thousand_runs_are_a_row_each(tmp_path: Path) -> None:
    frame = odd_sweep(10_000).to_dataframe()
    assert frame["run_id"].nunique() == len(frame) == 10_000
