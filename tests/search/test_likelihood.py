"""The likelihood by which the Gaussian process is fitted is scikit-learn's."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import ConstantKernel, Matern, WhiteKernel

from parallel_hpo.search.gaussian import Likelihood

thetas = st.lists(st.floats(-3, 3), min_size=5, max_size=5)


@given(thetas, st.integers(0, 100))
def test_the_likelihood_and_its_slope_are_those_of_scikit_learn(theta: list[float], seed: int) -> None:
    source = np.random.default_rng(seed)
    columns, losses = source.random((15, 3)), source.normal(size=15)
    kernel = ConstantKernel(1.0) * Matern([1.0] * 3, nu=2.5) + WhiteKernel(1.0)
    process = GaussianProcessRegressor(kernel, optimizer=None).fit(columns, losses)
    value, slope = process.log_marginal_likelihood(np.array(theta), eval_gradient=True)
    ours, our_slope = Likelihood(columns, losses)(np.array(theta))
    assert ours == pytest.approx(value, rel=1e-6)
    assert our_slope == pytest.approx(slope, rel=1e-5, abs=1e-6)


def test_a_kernel_that_cannot_be_inverted_is_impossible() -> None:
    same = np.zeros((4, 1))
    assert Likelihood(same, np.arange(4.0))(np.array([40.0, 0.0, -60.0]))[0] == -math.inf
