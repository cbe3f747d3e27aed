"""Which runs fit into what is left of the time, by those so far."""

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
        pytest.param((), [1000.0, 0.1, 0.0, -5.0], [1, 1, 0, 0], id="the first alone, in any time"),
        pytest.param((10.0,), [9.9, 10.0, 29.0, 30.0], [0, 1, 2, 3], id="as many as would end in time"),
    ],
)
def test_so_many_runs_follow_each_other(
    took: tuple[float, ...], left_s: list[float], runs: list[int]
) -> None:
    assert [runs_within(took, left) for left in left_s] == runs


def test_of_a_few_runs_the_longest_counts_and_of_many_one_that_nine_of_ten_do_not_pass() -> None:
    assert expected_s((1.0, 5.0, 2.0)) == 5.0
    assert expected_s((*[1.0] * 95, *[100.0] * 5)) == 1.0
    assert expected_s((*[1.0] * 85, *[100.0] * 15)) == 100.0


@given(durations, st.floats(0, 1e7))
def test_nine_of_ten_runs_like_those_so_far_would_end_in_time(took: tuple[float, ...], left_s: float) -> None:
    if runs_within(took, left_s):
        assert sum(each <= left_s for each in took) >= 0.9 * len(took)


@pytest.mark.parametrize("outcome", [Outcome.FAILED, Outcome.CRASHED])
def test_what_failed_or_crashed_says_nothing_of_how_long_a_run_takes(outcome: Outcome) -> None:
    assert note_duration((3.0,), 0.1, outcome) == (3.0,)


def test_only_the_latest_durations_are_kept_in_a_long_sweep() -> None:
    took: tuple[float, ...] = ()
    for number in range(3 * RECENT):
        took = note_duration(took, float(number), Outcome.FINISHED)
    assert took == tuple(float(number) for number in range(2 * RECENT, 3 * RECENT))


def test_it_is_said_what_is_left_and_what_a_run_takes() -> None:
    words = too_late_reason((12.0,), 5.4, "3h30m")
    assert words.startswith("deadline 3h30m: ")
    assert "5 s are left" in words
    assert "takes 12 s" in words
