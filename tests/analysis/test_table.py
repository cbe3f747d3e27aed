from __future__ import annotations

import csv
import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from parallel_hpo.analysis.table import FIXED, as_csv, kind_of, order_by, table_of
from parallel_hpo.core.errors import UsageError
from parallel_hpo.core.messages import Consumption
from parallel_hpo.core.types import Outcome
from tests.analysis.sweeps import keep_summary, result_of, row


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


def test_a_lone_surrogate_is_replaced() -> None:
    written = as_csv(table_of(result_of([row(0, {"name": "a\ud800b"})])))
    assert written.endswith(b",a?b\n")


def test_runs_are_sorted_by_value_and_those_without_one_come_last() -> None:
    table = table_of(result_of([row(0, {}, None), row(1, {}, 10.0), row(2, {}, 9.0)]))
    assert order_by("value", table) == [2, 1, 0]


def test_runs_are_sorted_by_a_parameter_of_mixed_kinds() -> None:
    assert order("parameters.x", {"x": "auto"}, {"x": 10}, {"x": 9.5}, {}, {"x": float("nan")}) == [
        *(2, 1, 0),
        *(3, 4),
    ]


def test_equal_runs_keep_their_order() -> None:
    assert order("outcome", {}, {}, {}) == [0, 1, 2]


def test_an_unknown_column_is_refused_with_the_known_ones() -> None:
    with pytest.raises(UsageError, match=r"--sort values: .*did you mean 'value'.*parameters.lr"):
        order("values", {"lr": 0.1})


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        ([True, None], bool),
        ([1, None, 2], int),
        ([1, 0.5], float),
        (["a"], str),
        ([True, 1], None),
        ([1, "a"], None),
        ([[1]], None),
        ([2**63 - 1], int),
        ([2**63, 0.5], None),
        ([None], None),
    ],
)
def test_a_column_has_the_type_of_its_values(values: list[Any], kind: type | None) -> None:
    assert kind_of(values) is kind
