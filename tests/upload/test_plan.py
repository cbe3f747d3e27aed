from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from parallel_hpo.client.uploading import RemoteRun
from parallel_hpo.core.types import SweepId, SweepPath
from parallel_hpo.server.rules.runs import RunState
from parallel_hpo.server.rules.sweeps import SweepState
from parallel_hpo.upload.plan import (
    LocalArtifact,
    LocalRun,
    LocalSweep,
    RunUpload,
    UploadAction,
    action_for,
    configuration_of,
    exit_code_of,
    mark_of,
    sends,
)
from parallel_hpo.upload.sending import beginning_in

PATH = SweepPath("local", "p", SweepId("s"))
RUN = LocalRun(1, "r1", RunState.FINISHED, 10, 0, "train.py", 1000.0)
WHOLE = RemoteRun("finished", 10, "there", (), is_closed=True, logged_at=1000.0)
MODEL = LocalArtifact(1, "r1", "model", "digest")


def run(number: int) -> LocalRun:
    return replace(RUN, row=number, run_id=f"r{number}")


@pytest.mark.parametrize(
    ("there", "due"),
    [
        (None, UploadAction.SEND),
        (WHOLE, UploadAction.THERE),
        (replace(WHOLE, lines=4), UploadAction.GO_ON),
        (replace(WHOLE, state="running", is_closed=False), UploadAction.GO_ON),
        (replace(WHOLE, state="crashed", is_closed=False), UploadAction.GO_ON),
        (replace(WHOLE, state="crashed"), UploadAction.GO_ON),
        (replace(WHOLE, lines=11), UploadAction.CHANGED),
        (replace(WHOLE, logged_at=1001.0), UploadAction.CHANGED),
        (replace(WHOLE, logged_at=1000.0001), UploadAction.THERE),
        (replace(WHOLE, logged_at=None), UploadAction.THERE),
        (replace(WHOLE, lines=4, logged_at=999.0), UploadAction.GO_ON),
        (replace(WHOLE, sweep_id="another"), UploadAction.ELSEWHERE),
        (replace(WHOLE, sweep_id=None), UploadAction.ELSEWHERE),
    ],
)
def test_the_action_follows_from_the_state_at_the_destination(
    there: RemoteRun | None, due: UploadAction
) -> None:
    assert action_for(RUN, [], there, "there") is due


def test_an_active_run_waits_for_another_upload() -> None:
    for state in (RunState.PENDING, RunState.RUNNING, RunState.PREEMPTING, RunState.PREEMPTED):
        assert action_for(replace(RUN, state=state), [], None, None) is UploadAction.OPEN


def test_a_run_is_incomplete_without_its_artifacts() -> None:
    one = replace(WHOLE, artifacts=(("model", "digest"),))
    assert action_for(RUN, [MODEL], WHOLE, "there") is UploadAction.GO_ON
    assert action_for(RUN, [MODEL], one, "there") is UploadAction.THERE
    assert action_for(RUN, [MODEL, replace(MODEL, row=3)], one, "there") is UploadAction.GO_ON


def test_an_uploaded_crashed_run_counts_as_complete() -> None:
    crashed = replace(RUN, state=RunState.CRASHED, exit_code=None)
    assert action_for(crashed, [], replace(WHOLE, state="failed"), "there") is UploadAction.THERE
    assert action_for(crashed, [], replace(WHOLE, state="crashed"), "there") is UploadAction.THERE
    assert (
        action_for(crashed, [], replace(WHOLE, state="crashed", is_closed=False), "there")
        is UploadAction.GO_ON
    )


@pytest.mark.parametrize(
    ("state", "here", "there"),
    [
        (RunState.FINISHED, 0, 0),
        (RunState.FAILED, 3, 3),
        (RunState.FAILED, None, 1),
        (RunState.KILLED, 1, 255),
        (RunState.KILLED, None, 255),
        (RunState.CRASHED, None, None),
        (RunState.CRASHED, 1, None),
    ],
)
def test_an_exit_code_says_how_a_run_ended(state: RunState, here: int | None, there: int | None) -> None:
    assert exit_code_of(replace(RUN, state=state, exit_code=here)) == there


def test_the_mark_is_a_line_of_the_description() -> None:
    sweep = LocalSweep(PATH, SweepState.FINISHED, None, {"method": "grid"}, (), (), ())
    assert configuration_of(sweep) == {"method": "grid", "description": mark_of(PATH)}
    own = replace(sweep, display_name="shown", configuration={"name": "told", "description": "mine"})
    assert configuration_of(own) == {"name": "shown", "description": f"mine\n{mark_of(PATH)}"}


def test_runs_are_sent_in_order_and_interrupted_ones_continue() -> None:
    found = {"r2": replace(WHOLE, lines=4, is_closed=False)}
    assert list(sends([run(1), run(2)], [], found)) == [
        RunUpload(run(1), (), 0, whole=True),
        RunUpload(run(2), (), 4, whole=True),
    ]


def test_a_run_is_sent_twice_only_for_interleaved_versions() -> None:
    between = [replace(MODEL, row=row, run_id=run_id) for row, run_id in ((1, "r1"), (2, "r2"), (3, "r1"))]
    assert list(sends([run(1), run(2)], between, {})) == [
        RunUpload(run(1), (1,), 0, whole=False),
        RunUpload(run(2), (2,), 0, whole=True),
        RunUpload(run(1), (3,), 0, whole=True),
    ]
    tables = [replace(each, name=each.run_id) for each in between]
    assert [send.whole for send in sends([run(1), run(2)], tables, {})] == [True, True]


def test_complete_runs_are_not_sent_again() -> None:
    logged = [replace(MODEL, row=row, digest=str(row)) for row in (1, 2)]
    found = {"r1": replace(WHOLE, is_closed=False, artifacts=(("model", "1"),))}
    assert [send.artifacts for send in sends([run(1)], logged, found)] == [(2,)]


@st.composite
def logs(draw: st.DrawFn) -> list[LocalArtifact]:
    names = draw(st.lists(st.tuples(st.integers(1, 4), st.sampled_from("abc")), max_size=12))
    return [LocalArtifact(row, f"r{number}", name, str(row)) for row, (number, name) in enumerate(names, 1)]


@given(logs())
def test_each_version_is_sent_once_and_in_order(logged: list[LocalArtifact]) -> None:
    runs = [run(number) for number in range(1, 5)]
    planned = list(sends(runs, logged, {}))
    sent = [row for send in planned for row in send.artifacts]
    assert sorted(sent) == [each.row for each in logged]
    for name in "abc":
        of_it = [each.row for each in logged if each.name == name]
        assert [row for row in sent if row in of_it] == of_it
    whole = Counter(send.run.run_id for send in planned if send.whole)
    assert whole == Counter(each.run_id for each in runs)
    last = {send.run.run_id: send for send in planned}
    assert all(send.whole for send in last.values())


@pytest.mark.parametrize(
    ("row", "began"),
    [
        ({"_timestamp": 10, "_runtime": 2.5}, 7.5),
        ({"_timestamp": 10}, None),
        ({"_timestamp": 10, "_runtime": "two"}, None),
        ({"_timestamp": [1], "_runtime": 2}, None),
        ({"_timestamp": float("nan"), "_runtime": 2}, None),
    ],
)
def test_invalid_logged_times_are_ignored(row: dict[str, Any], began: float | None) -> None:
    assert beginning_in(row) == began
