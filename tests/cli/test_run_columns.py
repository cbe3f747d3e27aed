from __future__ import annotations

import csv
import io
from dataclasses import replace
from typing import Any

import pytest

from parallel_hpo.cli.run_columns import as_csv, sorted_by
from parallel_hpo.consumption import Consumption
from parallel_hpo.errors import UsageError
from parallel_hpo.supervisor.records.ledger_reader import RunRow
from parallel_hpo.words import Outcome, RunId, Slot


def run(name: str, value: float | None = None, **parameters: Any) -> RunRow:
    outcome = Outcome.FAILED if value is None else Outcome.FINISHED
    return RunRow(RunId(name), parameters, Slot(0), None, 1, 0, outcome, "", value, 2.5, False)


def order(column: str, *runs: RunRow) -> list[str]:
    return [each.run_id for each in sorted_by(column, runs)]


def test_csv_says_what_runs_have_used_where_that_is_known() -> None:
    used = replace(run("a", 0.5), consumption=Consumption(1.5, 0.25))
    rows = list(csv.DictReader(io.StringIO(as_csv([used, run("b")]))))
    assert [(row["device_hours"], row["device_kwh"]) for row in rows] == [("1.5", "0.25"), ("", "")]
    assert "cpu_kwh" not in rows[0]
    assert order("device_kwh", run("b"), used) == ["a", "b"]


def test_csv_has_a_column_for_each_parameter_by_its_dotted_name() -> None:
    runs = [run("a", 0.5, optim={"lr": 0.1, "name": "adam"}), run("b", layers=[1, 2], early=True)]
    rows = list(csv.DictReader(io.StringIO(as_csv(runs))))
    assert rows == [
        {
            "run_id": "a",
            "outcome": "finished",
            "value": "0.5",
            "duration_s": "2.5",
            "parameters.optim.lr": "0.1",
            "parameters.optim.name": "adam",
            "parameters.layers": "",
            "parameters.early": "",
        },
        {
            "run_id": "b",
            "outcome": "failed",
            "value": "",
            "duration_s": "2.5",
            "parameters.optim.lr": "",
            "parameters.optim.name": "",
            "parameters.layers": "[1, 2]",
            "parameters.early": "true",
        },
    ]


def test_csv_of_no_runs_is_its_header() -> None:
    assert as_csv([]) == "run_id,outcome,value,duration_s\n"


def test_runs_are_sorted_by_value_and_those_without_one_come_last() -> None:
    assert order("value", run("a"), run("b", 10.0), run("c", 9.0)) == ["c", "b", "a"]


def test_runs_are_sorted_by_a_parameter_of_mixed_kinds() -> None:
    runs = [run("a", x="auto"), run("b", x=10), run("c", x=9.5), run("d"), run("e", x=float("nan"))]
    assert order("parameters.x", *runs) == ["c", "b", "a", "d", "e"]


def test_runs_that_are_alike_keep_the_order_of_their_start() -> None:
    assert order("outcome", run("b", 1.0), run("a", 2.0), run("c")) == ["c", "b", "a"]


def test_an_unknown_column_is_refused_with_those_that_there_are() -> None:
    with pytest.raises(UsageError, match=r"--sort values: .*did you mean 'value'.*parameters.lr"):
        sorted_by("values", [run("a", lr=0.1)])
