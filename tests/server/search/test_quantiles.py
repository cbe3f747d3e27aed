"""Quantiles equal those of SciPy's distributions, and a search among them stays within likely values."""

from __future__ import annotations

import math
from typing import Any

import pytest
import scipy  # its parts are imported where they are used
from hypothesis import given
from hypothesis import strategies as st

from parallel_hpo.config.sweep_types import (
    Beta,
    Continuous,
    IntUniform,
    LogNormal,
    LogUniform,
    Method,
    Metric,
    Normal,
    Parameter,
    SweepConfiguration,
    Uniform,
)
from parallel_hpo.server.search.axes import IntervalAxis, axes_of
from parallel_hpo.server.search.bayes import BayesEngine
from parallel_hpo.server.search.sampling import quantile_of, value_at
from parallel_hpo.server.search.space import Trial, TrialState

widths = st.floats(0.1, 1e3)
uniforms = st.builds(lambda low, width: Uniform(low, low + width), st.floats(-1e3, 1e3), widths)
log_uniforms = st.builds(lambda low, ratio: LogUniform(low, low * ratio), widths, st.floats(1.1, 1e6))
normals = st.builds(Normal, st.floats(-1e3, 1e3), widths)
log_normals = st.builds(LogNormal, st.floats(-5, 5), st.floats(0.1, 5))
betas = st.builds(Beta, st.floats(0.1, 1e4), st.floats(0.1, 1e4))
continuous = uniforms | log_uniforms | normals | log_normals | betas
quantiles = st.floats(0.001, 0.999)


def law(distribution: Continuous) -> Any:
    """Return SciPy's equal distribution."""
    match distribution:
        case Uniform(low, high):
            return scipy.stats.uniform(low, high - low)
        case LogUniform(low, high):
            return scipy.stats.loguniform(low, high)
        case Normal(mu, sigma):
            return scipy.stats.norm(mu, sigma)
        case LogNormal(mu, sigma):
            return scipy.stats.lognorm(sigma, scale=math.exp(mu))
        case Beta(a, b):
            return scipy.stats.beta(a, b)


@given(continuous, quantiles)
def test_a_place_has_the_value_of_scipys_quantile(distribution: Continuous, quantile: float) -> None:
    expected = law(distribution).ppf(quantile)
    assert value_at(distribution, quantile) == pytest.approx(expected, rel=1e-6, abs=1e-9)


@given(continuous, quantiles)
def test_a_value_has_the_place_that_scipy_gives_it(distribution: Continuous, quantile: float) -> None:
    value = law(distribution).ppf(quantile)
    assert quantile_of(distribution, value) == pytest.approx(law(distribution).cdf(value), abs=1e-6)


@given(continuous, quantiles)
def test_an_axis_is_its_distribution_by_quantiles(distribution: Continuous, quantile: float) -> None:
    (axis,) = axes_of([Parameter(("x",), distribution)])
    assert isinstance(axis, IntervalAxis)
    assert axis.value(quantile) == pytest.approx(law(distribution).ppf(quantile), rel=1e-6, abs=1e-9)
    value = axis.value(quantile)  # near 1 the floats are further apart than a beta's quantiles
    assert axis.coordinate(value) == pytest.approx(float(law(distribution).cdf(value)), abs=1e-4)


@given(st.floats(1e-3, 1e6), st.floats(1e-3, 1e6), st.floats(0, 1))
def test_every_beta_has_a_value_between_0_and_1_at_every_place(a: float, b: float, quantile: float) -> None:
    assert 0 <= value_at(Beta(a, b), quantile) <= 1


def search(distribution: Continuous | IntUniform, *, runs: int) -> list[float]:
    """Return the values that bayes asks for one after another where a lower value is better."""
    configuration = SweepConfiguration(Method.BAYES, Metric("loss"), (Parameter(("x",), distribution),))
    engine = BayesEngine(configuration, seed=0)
    asked: list[float] = []
    for index in range(runs):
        asked.append(engine.ask(index)["x"])
        engine.tell(Trial(index, {"x": asked[-1]}, TrialState.FINISHED, float(asked[-1])))
    return asked


@pytest.mark.parametrize(
    "distribution",
    [Uniform(2, 3), LogUniform(1e-3, 1e3), Normal(5, 2), LogNormal(0, 1), Beta(50, 50), Beta(2, 5)],
)
def test_bayes_asks_for_lower_values_but_none_that_chance_would_never_draw(distribution: Continuous) -> None:
    ranks = law(distribution).cdf(search(distribution, runs=25))
    assert min(ranks) > 1e-9
    assert max(ranks) < 1 - 1e-9
    assert sum(ranks[15:]) / 10 < sum(ranks[:10]) / 10


def test_a_finite_beta_is_used_up_without_the_values_that_have_no_chance() -> None:
    asked = search(Beta(50, 50, q=0.05), runs=11)
    assert sorted(asked) == pytest.approx([0.05 * step for step in range(5, 16)])
