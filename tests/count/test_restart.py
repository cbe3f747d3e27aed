"""What follows a death: another attempt of the run, a restart of its worker, or the end of the sweep."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from parallel_hpo.count.policy import DelayedRestart, RestartLimits, is_hopeless, may_run_again, next_restart

NO_JITTER = 0.0
PATIENT = RestartLimits(max_restarts=200, window_s=1e9)
JITTERS = st.floats(0.0, 1.0, exclude_max=True)


def restarts(number: int, limits: RestartLimits, jitter: float = NO_JITTER) -> list[DelayedRestart | None]:
    """Return the restarts of a slot whose worker dies `number` times, a second apart."""
    told: list[DelayedRestart | None] = []
    history: tuple[float, ...] = ()
    for now in range(number):
        restart = next_restart(history, limits, now=float(now), jitter=jitter)
        told.append(restart)
        history = restart.history if restart is not None else history
    return told


def delays(number: int, limits: RestartLimits, jitter: float = NO_JITTER) -> list[float | None]:
    return [None if told is None else told.delay_s for told in restarts(number, limits, jitter)]


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
