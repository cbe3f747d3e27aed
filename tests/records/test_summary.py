from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from parallel_hpo.analysis.result import SweepResult, summarise, write_summary
from parallel_hpo.core.types import Outcome, Slot
from parallel_hpo.records.reader import RunRow, WorkerSummary
from tests.analysis import sweeps
from tests.results import CLOSING


def row(number: int, outcome: Outcome | None, value: float | None = None, attempts: int = 1) -> RunRow:
    return sweeps.row(number, {"n": number}, value, outcome, attempts=attempts)


ROWS = st.lists(
    st.builds(
        row,
        st.integers(0, 9),
        st.none() | st.sampled_from(Outcome),
        st.none() | st.floats(allow_nan=False, allow_infinity=False),
        st.integers(1, 4),
    )
)


def result_of(
    runs: Sequence[RunRow] = (), workers: Sequence[WorkerSummary] = (), **closing: Any
) -> SweepResult:
    return summarise(runs, workers, replace(CLOSING, **closing))


@given(ROWS)
def test_outcomes_add_up_to_the_attempted_runs_and_retries_to_their_further_attempts(
    rows: list[RunRow],
) -> None:
    result = result_of(rows)
    parts = (result.finished, result.failed, result.crashed, result.stopped, result.lost)
    assert sum(parts) == result.attempted == len(rows)
    assert result.retried == sum(row.attempts for row in rows) - len(rows)
    lost = sum(row.outcome is None for row in rows)
    assert result.lost == [run.outcome for run in result.runs].count("lost") == lost
    json.loads(result.to_json(), parse_constant=pytest.fail)


@given(ROWS)
def test_the_best_is_no_worse_than_any_finished_run(rows: list[RunRow]) -> None:
    finished = [row.value for row in rows if row.outcome is Outcome.FINISHED and row.value is not None]
    for goal, best_of in (("minimize", min), ("maximize", max)):
        best = result_of(rows, goal=goal).best
        assert (best and best.value) == (best_of(finished) if finished else None)


def test_the_json_has_every_field_of_the_result() -> None:
    rows = [row(1, Outcome.FINISHED, 0.5), row(2, Outcome.FAILED)]
    document = json.loads(result_of(rows, [WorkerSummary(Slot(0), None, 1, 0)]).to_json())
    assert document["best"] == {"run_id": "run1", "value": 0.5, "parameters": {"n": 1}}
    assert document["workers"] == [{"slot": 0, "device": None, "runs": 1, "restarts": 0, "machine": None}]
    assert [run["outcome"] for run in document["runs"]] == ["finished", "failed"]
    assert [run["value"] for run in document["runs"]] == [0.5, None]
    assert [run["started_at"] for run in document["runs"]] == [row.started_at for row in rows]
    assert (document["sweep_id"], document["count"], document["exit_code"]) == ("s1", None, 0)


def test_nan_and_infinite_parameters_are_text_in_the_json() -> None:
    odd = replace(row(0, Outcome.FINISHED, 1.0), parameters={"a": [float("nan")], "b": {"c": float("-inf")}})
    (run,) = json.loads(result_of([odd]).to_json(), parse_constant=pytest.fail)["runs"]
    assert run["parameters"] == {"a": ["NaN"], "b": {"c": "-Infinity"}}


def test_a_summary_is_written_as_json_and_survives_a_failed_write_of_the_next(tmp_path: Path) -> None:
    path, result = tmp_path / "summary.json", result_of([row(1, Outcome.FINISHED, 0.5)])
    write_summary(result, path)
    old = path.read_text()
    assert old == result.to_json() + "\n"
    assert [path.name for path in tmp_path.iterdir()] == ["summary.json"]
    (tmp_path / "summary.json.new").mkdir()
    with pytest.raises(OSError, match=r"summary\.json\.new"):
        write_summary(result_of(), path)
    assert path.read_text() == old
