from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from parallel_hpo.count.policy import may_run_again


def test_without_retries_the_first_death_is_the_last() -> None:
    assert not may_run_again(deaths=1, retries=0)


def test_with_one_retry_a_run_survives_one_death_and_no_second() -> None:
    assert may_run_again(deaths=1, retries=1)
    assert not may_run_again(deaths=2, retries=1)


@given(st.integers(0, 1000))
def test_a_run_that_always_dies_has_one_attempt_more_than_retries(retries: int) -> None:
    deaths = 1
    while may_run_again(deaths, retries):
        deaths += 1
    assert deaths == retries + 1
