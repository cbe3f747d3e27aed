from __future__ import annotations

from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from parallel_hpo.core.types import Outcome
from parallel_hpo.count.policy import FailureCount, FailureLimits, count_outcome, reached_limit

OFF = FailureLimits(max_initial=None)
F, OK, STOPPED, CRASHED = Outcome.FAILED, Outcome.FINISHED, Outcome.STOPPED, Outcome.CRASHED
outcomes = st.lists(st.sampled_from(Outcome), max_size=30)


def count(history: Iterable[Outcome]) -> FailureCount:
    counted = FailureCount()
    for outcome in history:
        counted = count_outcome(counted, outcome)
    return counted


@given(outcomes)
def test_with_all_limits_off_nothing_trips(history: list[Outcome]) -> None:
    assert reached_limit(count(history), OFF) is None


@given(outcomes, st.integers(1, 10))
def test_the_total_trips_at_exactly_its_limit(history: list[Outcome], limit: int) -> None:
    tripped = reached_limit(count(history), FailureLimits(max_initial=None, max_total=limit))
    assert bool(tripped) == (history.count(F) >= limit)


@given(outcomes)
def test_stopped_and_crashed_runs_count_as_neither_failed_nor_finished(history: list[Outcome]) -> None:
    judged = [outcome for outcome in history if outcome in (F, OK)]
    assert count(history) == count(judged)


@given(outcomes, st.integers(1, 10))
def test_only_a_finished_run_resets_the_consecutive_failures(history: list[Outcome], limit: int) -> None:
    since = [outcome for outcome in history if outcome in (F, OK)]
    while OK in since:
        since = since[since.index(OK) + 1 :]
    tripped = reached_limit(count(history), FailureLimits(max_initial=None, max_consecutive=limit))
    assert bool(tripped) == (len(since) >= limit)


@pytest.mark.parametrize(
    ("history", "trips"),
    [
        ([F] * 4, False),
        ([F] * 5, True),
        ([F, F, OK, *[F] * 9], False),
        ([F, STOPPED, F, CRASHED, F, F, F], True),
    ],
)
def test_the_initial_limit_trips_only_while_no_run_has_finished(history: list[Outcome], trips: bool) -> None:
    assert bool(reached_limit(count(history), FailureLimits())) == trips


@pytest.mark.parametrize(
    ("limits", "key"),
    [
        (FailureLimits(max_initial=2), "failures.max_initial is 2"),
        (FailureLimits(max_initial=None, max_consecutive=2), "failures.max_consecutive is 2"),
        (FailureLimits(max_initial=None, max_total=2), "failures.max_total is 2"),
    ],
)
def test_the_reason_names_the_key_and_its_value(limits: FailureLimits, key: str) -> None:
    assert key in str(reached_limit(count([F, F]), limits))
