from __future__ import annotations

from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from parallel_hpo.core.notices import Message, Notice, RunBegan, RunOver, SweepOpened, WorkerNamed
from parallel_hpo.core.types import Outcome, RunId, Slot, SweepId, SweepPath
from parallel_hpo.display.text import RunCounts, Verbosity, advance, describe, prefix, time_left_s


def opened(count: int | None = 4, goal: str = "minimize") -> SweepOpened:
    path = SweepPath("local", "digits", SweepId("s1"))
    return SweepOpened(path, "http://x", "local", count, 2, (2, 2), "/logs", "loss", goal)


def over(
    outcome: Outcome = Outcome.FINISHED, value: float | None = None, *, slot: int = 0, again: bool = False
) -> RunOver:
    return RunOver(Slot(slot), RunId("r"), 1, outcome, "", value, 1.0, again=again)


def counts_of(notices: Iterable[Notice]) -> RunCounts:
    counts = RunCounts()
    for notice in notices:
        counts = advance(counts, notice, 0.0)
    return counts


def test_a_run_counts_as_running_until_its_end() -> None:
    began = RunBegan(Slot(1), RunId("r"), 1)
    assert counts_of([opened(), began]).running == {Slot(1): RunId("r")}
    assert counts_of([opened(), began, over(slot=1)]).running == {}


def test_a_retried_attempt_is_not_counted() -> None:
    counts = counts_of([opened(), over(Outcome.CRASHED, again=True)])
    assert counts.over == 0


@given(st.lists(st.builds(over, st.sampled_from(Outcome), again=st.booleans())))
def test_each_ended_run_is_counted_once(notices: list[RunOver]) -> None:
    assert counts_of(notices).over == sum(not notice.again for notice in notices)


@pytest.mark.parametrize(("goal", "best"), [("minimize", 1.0), ("maximize", 3.0)])
def test_the_best_value_follows_the_goal(goal: str, best: float) -> None:
    values = (2.0, None, 1.0, 3.0, float("nan"), float("inf"), float("-inf"))
    assert counts_of([opened(goal=goal), *(over(value=value) for value in values)]).best == best


def test_a_failed_run_is_never_the_best() -> None:
    assert counts_of([opened(), over(Outcome.FAILED, 0.1)]).best is None


def test_the_remaining_time_follows_from_the_speed_so_far() -> None:
    counts = advance(RunCounts(), opened(count=4), 10.0)
    assert time_left_s(counts, 20.0) is None
    counts = advance(counts, over(), 20.0)
    assert time_left_s(counts, 20.0) == pytest.approx(30.0)


def test_there_is_no_remaining_time_without_a_count() -> None:
    assert time_left_s(counts_of([opened(count=None), over()]), 1.0) is None


def test_other_notices_change_nothing() -> None:
    assert advance(RunCounts(), Message("hello"), 1.0) == RunCounts()


def test_workers_are_shown_by_their_names() -> None:
    counts = advance(RunCounts(), WorkerNamed(Slot(1), "gpu2/w0"), 0.0)
    assert [counts.name_of(Slot(slot)) for slot in (0, 1)] == ["w0", "gpu2/w0"]
    began = describe(RunBegan(Slot(1), RunId("r1"), 1), counts, None, Verbosity.NORMAL)
    assert began is not None
    assert began.plain.startswith("gpu2/w0 run r1 started")
    assert prefix(Slot(1), counts) == "[gpu2/w0] "
