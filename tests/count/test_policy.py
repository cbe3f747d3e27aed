"""The rules of a count, without time of their own: shares, leases, failures, restarts and durations."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from parallel_hpo.core.types import Outcome
from parallel_hpo.count.policy import (
    RECENT,
    DelayedRestart,
    FailureCount,
    FailureLimits,
    RestartLimits,
    count_outcome,
    expected_s,
    is_hopeless,
    may_run_again,
    next_lease,
    next_restart,
    note_duration,
    reached_limit,
    runs_within,
    split_count,
    too_late_reason,
)

WORKERS = st.integers(1, 500)


@given(st.integers(0, 10_000), WORKERS)
def test_the_shares_of_a_count_add_up_to_it_and_differ_by_at_most_one(count: int, shares: int) -> None:
    split = split_count(count, shares)
    assert (len(split), sum(split)) == (shares, count)
    assert max(split) - min(split) <= 1
    assert split == sorted(split, reverse=True)


@pytest.mark.parametrize(
    ("count", "shares", "why"),
    [(-1, 2, "count is -1: it can't be negative"), (4, 0, "shares is 0: at least 1 is needed")],
)
def test_a_negative_count_or_too_few_shares_raise(count: int, shares: int, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        split_count(count, shares)


@given(st.integers(-5, 10_000), WORKERS)
def test_a_lease_is_at_least_one_run_and_at_most_a_fair_share_of_what_is_left(
    left: int, workers: int
) -> None:
    lease = next_lease(left, workers)
    assert lease == 0 if left <= 0 else 1 <= lease <= max(split_count(left, workers)[0], 1)


@given(st.integers(0, 2_000), WORKERS)
def test_leases_shrink_until_exactly_all_runs_are_leased(count: int, workers: int) -> None:
    leases: list[int] = []
    while lease := next_lease(count - sum(leases), workers):
        leases.append(lease)
    assert sum(leases) == count
    assert leases == sorted(leases, reverse=True)
    assert leases[-workers:] == [1] * min(workers, len(leases)) or count == 0


F, OK, STOPPED, CRASHED = Outcome.FAILED, Outcome.FINISHED, Outcome.STOPPED, Outcome.CRASHED
outcomes = st.lists(st.sampled_from(Outcome), max_size=30)


def count(history: Iterable[Outcome]) -> FailureCount:
    counted = FailureCount()
    for outcome in history:
        counted = count_outcome(counted, outcome)
    return counted


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


NO_JITTER = 0.0
PATIENT = RestartLimits(max_restarts=200, window_s=1e9)
JITTERS = st.floats(0.0, 1.0, exclude_max=True)


def delays(deaths: int, limits: RestartLimits, jitter: float = NO_JITTER) -> list[float | None]:
    """Return how long each restart of a slot waits whose worker dies `deaths` times, a second apart."""
    told: list[float | None] = []
    history: tuple[float, ...] = ()
    for now in range(deaths):
        restart = next_restart(history, limits, now=float(now), jitter=jitter)
        told.append(None if restart is None else restart.delay_s)
        history = restart.history if restart else history
    return told


@given(JITTERS)
def test_the_first_restart_comes_at_once(jitter: float) -> None:
    assert next_restart((), RestartLimits(), now=7.0, jitter=jitter) == DelayedRestart(0.0, (7.0,))


def test_the_wait_doubles_from_the_second_restart_up_to_the_maximum() -> None:
    limits = RestartLimits(max_restarts=9, backoff_s=0.5, backoff_max_s=3.0)
    assert delays(6, limits) == [0.0, 0.5, 1.0, 2.0, 3.0, 3.0]


def test_the_doubling_never_overflows() -> None:
    history = tuple(float(at) for at in range(5_000))
    limits = RestartLimits(max_restarts=10_000, window_s=1e9)
    restart = next_restart(history, limits, now=5_000.0, jitter=NO_JITTER)
    assert restart is not None
    assert restart.delay_s == limits.backoff_max_s


@given(st.integers(2, 80), JITTERS)
def test_jitter_shortens_a_wait_by_less_than_half(deaths: int, jitter: float) -> None:
    full, jittered = delays(deaths, PATIENT)[-1], delays(deaths, PATIENT, jitter)[-1]
    assert full is not None
    assert jittered is not None
    assert full / 2 <= jittered <= full


def test_restarts_before_the_window_are_forgotten() -> None:
    limits = RestartLimits(max_restarts=2, window_s=10.0)
    assert next_restart((0.0, 5.0), limits, now=9.9, jitter=NO_JITTER) is None
    assert next_restart((0.0, 5.0), limits, now=10.0, jitter=NO_JITTER) == DelayedRestart(1.0, (5.0, 10.0))
    assert next_restart((0.0, 5.0), limits, now=20.0, jitter=NO_JITTER) == DelayedRestart(0.0, (20.0,))


@given(st.lists(st.floats(0.0, 1e4), max_size=30).map(sorted), st.integers(0, 10), st.floats(1.0, 1e4))
def test_no_window_ever_holds_more_restarts_than_allowed(
    deaths: list[float], max_restarts: int, window_s: float
) -> None:
    limits = RestartLimits(max_restarts=max_restarts, window_s=window_s)
    history: tuple[float, ...] = ()
    granted: list[float] = []
    for now in deaths:
        restart = next_restart(history, limits, now=now, jitter=NO_JITTER)
        if restart is not None:
            history = restart.history
            granted.append(now)
    for at in granted:
        assert sum(1 for other in granted if 0 <= at - other < window_s) <= max_restarts


@given(st.integers(0, 1000))
def test_a_run_that_always_dies_has_one_attempt_more_than_retries(retries: int) -> None:
    deaths = 1
    while may_run_again(deaths, retries):
        deaths += 1
    assert deaths == retries + 1


@pytest.mark.parametrize(
    ("causes", "hopeless"),
    [
        ((), False),
        (("SIGKILL",), False),
        (("SIGKILL", "exit 3"), False),
        (("exit 3", "exit 3"), True),
        (("exit 3", "SIGKILL", "exit 3"), True),
        (("exit 3", "exit 3", "SIGKILL"), False),
    ],
)
def test_starting_is_hopeless_if_the_last_death_repeats_an_earlier_cause(
    causes: tuple[str, ...], hopeless: bool
) -> None:
    assert is_hopeless(causes) is hopeless


durations = st.lists(st.floats(0.01, 1e6), min_size=1, max_size=RECENT).map(tuple)


@pytest.mark.parametrize(
    ("took", "left_s", "runs"),
    [
        pytest.param((), [1000.0, 0.1, 0.0, -5.0], [1, 1, 0, 0], id="one while no duration is known"),
        pytest.param((10.0,), [9.9, 10.0, 29.0, 30.0], [0, 1, 2, 3], id="as many as would end in time"),
    ],
)
def test_the_number_of_runs_that_fit_into_the_time_left(
    took: tuple[float, ...], left_s: list[float], runs: list[int]
) -> None:
    assert [runs_within(took, left) for left in left_s] == runs


def test_the_expected_duration_is_the_longest_of_few_runs_or_the_90th_percentile_of_many() -> None:
    assert expected_s((1.0, 5.0, 2.0)) == 5.0
    assert expected_s((*[1.0] * 95, *[100.0] * 5)) == 1.0
    assert expected_s((*[1.0] * 85, *[100.0] * 15)) == 100.0


@given(durations, st.floats(0, 1e7))
def test_nine_of_ten_runs_like_those_so_far_would_end_in_time(took: tuple[float, ...], left_s: float) -> None:
    if runs_within(took, left_s):
        assert sum(each <= left_s for each in took) >= 0.9 * len(took)


@pytest.mark.parametrize("outcome", [Outcome.FAILED, Outcome.CRASHED])
def test_durations_of_failed_and_crashed_runs_are_ignored(outcome: Outcome) -> None:
    assert note_duration((3.0,), 0.1, outcome) == (3.0,)


def test_only_the_latest_durations_are_kept_in_a_long_sweep() -> None:
    took: tuple[float, ...] = ()
    for number in range(3 * RECENT):
        took = note_duration(took, float(number), Outcome.FINISHED)
    assert took == tuple(float(number) for number in range(2 * RECENT, 3 * RECENT))


def test_the_deadline_message_contains_the_time_left_and_the_duration_of_a_run() -> None:
    words = too_late_reason((12.0,), 5.4, "3h30m")
    assert words.startswith("deadline 3h30m: ")
    assert "5 s are left" in words
    assert "takes 12 s" in words
