from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from parallel_hpo.count.policy import next_lease, split_count

COUNTS = st.integers(0, 10_000)
WORKERS = st.integers(1, 500)


def test_ten_runs_for_three_workers_are_four_three_and_three() -> None:
    assert split_count(10, 3) == [4, 3, 3]


@given(COUNTS, WORKERS)
def test_the_shares_of_a_count_add_up_to_it_and_differ_by_at_most_one(count: int, shares: int) -> None:
    split = split_count(count, shares)
    assert (len(split), sum(split)) == (shares, count)
    assert max(split) - min(split) <= 1
    assert split == sorted(split, reverse=True)


@pytest.mark.parametrize(
    ("count", "shares", "why"),
    [
        (-1, 2, "count is -1: it can't be negative"),
        (4, 0, "shares is 0: at least 1 is needed"),
        (4, -3, "shares is -3: at least 1 is needed"),
    ],
)
def test_a_negative_count_or_too_few_shares_raise(count: int, shares: int, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        split_count(count, shares)


@given(st.integers(1, 10_000), WORKERS)
def test_a_lease_is_at_least_one_run_and_at_most_a_fair_share_of_what_is_left(
    left: int, workers: int
) -> None:
    assert 1 <= next_lease(left, workers) <= max(split_count(left, workers)[0], 1)


@given(st.integers(-5, 0), WORKERS)
def test_there_is_no_lease_once_no_runs_are_left(left: int, workers: int) -> None:
    assert next_lease(left, workers) == 0


@given(st.integers(0, 2_000), WORKERS)
def test_leases_shrink_until_exactly_all_runs_are_leased(count: int, workers: int) -> None:
    leases: list[int] = []
    while lease := next_lease(count - sum(leases), workers):
        leases.append(lease)
    assert sum(leases) == count
    assert leases == sorted(leases, reverse=True)
    assert leases[-workers:] == [1] * min(workers, len(leases)) or count == 0
