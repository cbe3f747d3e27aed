"""The Gaussian process: what it believes between and beyond the points that it was told."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from parallel_hpo.search.columns import Column, Table
from parallel_hpo.search.gaussian import bell_shaped, fitted

finite = st.floats(allow_nan=False, allow_infinity=False)


def grid(count: int) -> Table:
    return np.linspace(0, 1, count)[:, np.newaxis]


def wave(columns: Table) -> Column:
    heights: Column = np.sin(6 * columns[:, 0])
    return heights


def test_what_lies_between_smooth_results_is_foretold() -> None:
    surface = fitted(grid(12), wave(grid(12)))
    assert surface.mean(grid(50)) == pytest.approx(wave(grid(50)), abs=0.02)


def test_near_results_it_is_surer_than_far_from_them() -> None:
    surface = fitted(grid(12) / 2, wave(grid(12) / 2))
    _, (near, far) = surface.mean_and_deviation(np.array([[0.25], [0.9]]))
    assert near < 0.02 < far


def test_a_result_told_later_counts() -> None:
    surface = fitted(grid(5) / 2, wave(grid(5) / 2))
    there = np.array([[1.0]])
    later = surface.told(there, np.array([2.0]))
    assert later.mean(there)[0] == pytest.approx(2.0, abs=0.05)
    assert later.mean_and_deviation(there)[1][0] < surface.mean_and_deviation(there)[1][0]


def test_noise_is_not_taken_for_shape() -> None:
    source = np.random.default_rng(0)
    columns = source.random((60, 1))
    losses = wave(columns) + source.normal(0, 0.4, 60)
    assert fitted(columns, losses).mean(grid(50)) == pytest.approx(wave(grid(50)), abs=0.4)


def test_a_column_without_effect_is_not_looked_at() -> None:
    columns = np.random.default_rng(0).random((40, 2))
    surface = fitted(columns, wave(columns))
    ends = surface.mean(np.array([[0.3, 0.0], [0.3, 1.0]]))
    assert ends[0] == pytest.approx(ends[1], abs=0.05)


@given(st.lists(finite, min_size=2, max_size=30))
def test_shaped_losses_keep_their_order(values: list[float]) -> None:
    losses = np.array(values)
    shaped = bell_shaped(losses)[np.argsort(losses, kind="stable")]
    assert np.isfinite(shaped).all()
    assert (np.diff(shaped) >= -1e-9).all()


@given(st.lists(st.integers(-1000, 1000), min_size=5, max_size=30, unique=True))
def test_shaped_losses_have_mean_0_and_variance_1(values: list[int]) -> None:
    shaped = bell_shaped(np.array(values, float))
    assert shaped.mean() == pytest.approx(0, abs=1e-6)
    assert shaped.std() == pytest.approx(1)


def test_one_loss_out_of_all_bounds_does_not_hide_the_others() -> None:
    shaped = np.sort(bell_shaped(np.array([*range(20), 1e300], float)))
    assert np.diff(shaped)[:-1].min() > 0.03


def test_losses_that_are_all_equal_have_no_shape() -> None:
    assert not bell_shaped(np.full(10, 3.0)).any()
    surface = fitted(grid(10), bell_shaped(np.full(10, 3.0)))
    assert surface.mean(grid(4)) == pytest.approx(np.zeros(4), abs=1e-6)
