"""How many runs fit into the time left, estimated from those so far."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from parallel_hpo.core.types import Outcome
from parallel_hpo.count.policy import RECENT, expected_s, note_duration, runs_within, too_late_reason

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
