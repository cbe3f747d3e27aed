"""The Gaussian process: its posterior between and beyond the points; its likelihood equals scikit-learn's."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from parallel_hpo.server.search.gaussian import Column, Likelihood, Surface, Table, fit

thetas = st.lists(st.floats(-3, 3), min_size=5, max_size=5)


def fitted(columns: Table, losses: Column) -> Surface:
    return fit(columns, losses)[0]


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
    later = surface.with_points(there, np.array([2.0]))
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


@pytest.mark.parametrize(("mattering", "error"), [(20, 0.4), (2, 0.1)])
def test_few_results_in_twenty_columns_tell_where_losses_are_low(mattering: int, error: float) -> None:
    """Many length scales would fit chance where all columns matter, a single one where few do."""
    source = np.random.default_rng(0)
    columns, there = source.random((60, 20)), source.random((200, 20))

    def bowl(columns: Table) -> Column:
        heights: Column = np.square(columns[:, :mattering] - 0.2).sum(axis=1)
        return (heights - mattering * 0.173) / math.sqrt(mattering * 0.046)

    misses = fitted(columns, bowl(columns)).mean(there) - bowl(there)
    assert math.sqrt(np.square(misses).mean()) < error


def test_noise_is_part_of_what_will_be_seen() -> None:
    source = np.random.default_rng(0)
    columns = source.random((60, 1))
    surface = fitted(columns, wave(columns) + source.normal(0, 0.4, 60))
    assert surface.mean_and_deviation(columns)[1] == pytest.approx(0.4, abs=0.15)


def test_little_noise_does_not_make_a_known_point_uncertain_and_much_does() -> None:
    def deviation_at_known_points(noise: float) -> float:
        theta = np.log([1.0, 0.3, noise])
        return float(Surface(theta, grid(12), wave(grid(12))).mean_and_deviation(grid(12))[1].min())

    assert deviation_at_known_points(0.005) < 0.07 < 0.1 < deviation_at_known_points(0.02)


def by_scikit_learn(theta: list[float], columns: Table, losses: Column) -> Any:
    """Return its process with this kernel, after these losses."""
    from sklearn.gaussian_process import GaussianProcessRegressor  # takes longer than the tests here
    from sklearn.gaussian_process.kernels import ConstantKernel, Matern, WhiteKernel

    kernel = ConstantKernel(1.0) * Matern([1.0] * 3, nu=2.5) + WhiteKernel(1.0)
    process = GaussianProcessRegressor(kernel.clone_with_theta(np.array(theta)), optimizer=None)
    return process.fit(columns, losses)


@given(thetas, st.integers(0, 100))
def test_the_likelihood_and_its_slope_are_those_of_scikit_learn(theta: list[float], seed: int) -> None:
    source = np.random.default_rng(seed)
    columns, losses = source.random((15, 3)), source.normal(size=15)
    value, slope = by_scikit_learn(theta, columns, losses).log_marginal_likelihood(
        np.array(theta), eval_gradient=True
    )
    ours, our_slope = Likelihood(columns, losses)(np.array(theta))
    assert ours == pytest.approx(value, rel=1e-6)
    assert our_slope == pytest.approx(slope, rel=1e-5, abs=1e-6)


@settings(max_examples=25)
@given(thetas, st.integers(0, 100))
def test_what_is_believed_is_what_scikit_learn_believes(theta: list[float], seed: int) -> None:
    source = np.random.default_rng(seed)
    columns, losses, there = source.random((15, 3)), source.normal(size=15), source.random((20, 3))
    means, deviations = by_scikit_learn(theta, columns, losses).predict(there, return_std=True)
    ours, our_deviations = (surface := Surface(np.array(theta), columns, losses)).mean_and_deviation(there)
    assert ours == pytest.approx(means, rel=1e-6, abs=1e-6)
    assert our_deviations == pytest.approx(deviations, rel=1e-6, abs=1e-6)
    assert surface.mean(there) == pytest.approx(means, rel=1e-6, abs=1e-6)


def test_a_kernel_that_cannot_be_inverted_is_impossible() -> None:
    same = np.zeros((4, 1))
    assert Likelihood(same, np.arange(4.0))(np.array([40.0, 0.0, -60.0]))[0] == -math.inf
