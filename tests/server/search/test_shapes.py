"""The shapes of losses for a Gaussian process: order, symmetry, and density."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import scipy  # its parts are imported where they are used
from hypothesis import given
from hypothesis import strategies as st

from parallel_hpo.server.search.gaussian import Column
from parallel_hpo.server.search.gp import bell_shaped, cut_off

finite = st.floats(allow_nan=False, allow_infinity=False)


def shapes(losses: list[float]) -> tuple[Column, Column]:
    standard = cut_off(np.array(losses))
    return standard, bell_shaped(standard).losses


@given(st.lists(finite, min_size=2, max_size=30))
def test_shaped_losses_keep_their_order(values: list[float]) -> None:
    for shape in shapes(values):
        shaped = shape[np.argsort(np.array(values), kind="stable")]
        assert np.isfinite(shaped).all()
        assert (np.diff(shaped) >= -1e-9).all()


@given(st.lists(st.integers(-1000, 1000), min_size=5, max_size=30, unique=True))
def test_shaped_losses_have_mean_0_and_variance_1(values: list[int]) -> None:
    for shape in shapes([float(value) for value in values]):
        assert shape.mean() == pytest.approx(0, abs=1e-6)
        assert shape.std() == pytest.approx(1)


@pytest.mark.parametrize("stretch", [np.exp, np.square, np.cbrt, lambda drawn: -np.exp(drawn), np.round])
def test_a_bell_is_what_scipy_finds_likeliest(stretch: Callable[[Column], Column]) -> None:
    standard = cut_off(stretch(np.random.default_rng(0).normal(size=50)))
    bent, _ = scipy.stats.yeojohnson(standard)
    assert bell_shaped(standard).losses == pytest.approx((bent - bent.mean()) / bent.std(), abs=1e-5)


def test_one_loss_out_of_all_bounds_does_not_hide_the_others() -> None:
    for shape in shapes([*map(float, range(20)), 1e300]):
        assert np.diff(np.sort(shape))[:-1].min() > 0.03


def test_losses_that_are_all_equal_have_no_shape() -> None:
    assert not any(shape.any() for shape in shapes([3.0] * 10))


def test_the_density_of_a_bell_is_by_how_much_it_brings_losses_together() -> None:
    standard = np.sort(cut_off(np.random.default_rng(0).gamma(4.0, size=500)))
    bell = bell_shaped(standard)
    slopes = np.diff(bell.losses) / np.diff(standard)
    assert bell.density == pytest.approx(float(np.log(slopes).sum()), abs=10)
