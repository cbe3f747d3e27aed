"""Random parameters are within bounds, of the right type, repeatable, and distributed as SciPy's."""

from __future__ import annotations

import json
import math
import statistics
from collections import Counter
from random import Random
from typing import Any

import pytest
import scipy  # its submodules are imported lazily
from hypothesis import given
from hypothesis import strategies as st

from parallel_hpo.config.sweep import parse_sweep_configuration
from parallel_hpo.config.sweep_types import (
    Beta,
    Categorical,
    Continuous,
    Distribution,
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
from parallel_hpo.server.search.sampling import RandomEngine, draw, quantile_of, stream, value_at
from parallel_hpo.server.search.space import Trial, TrialState


def continuous(steps: st.SearchStrategy[float | None], *, likely: bool) -> st.SearchStrategy[Continuous]:
    """Return distributions with these steps; SciPy is exact enough only with likely parameters."""
    widths = st.floats(0.1, 1e3) if likely else st.floats(1e-3, 1e6)
    shapes = st.floats(0.1, 1e4) if likely else st.floats(0.01, 50)
    exponents = st.floats(-5, 5) if likely else st.floats(-700, 700)
    spreads = st.floats(0.1, 5) if likely else st.floats(1e-3, 1e3)
    return st.one_of(
        st.builds(lambda low, width, q: Uniform(low, low + width, q), st.floats(-1e3, 1e3), widths, steps),
        st.builds(lambda low, ratio, q: LogUniform(low, low * ratio, q), widths, st.floats(1.1, 1e6), steps),
        st.builds(Normal, st.floats(-1e3, 1e3), widths, steps),
        st.builds(LogNormal, exponents, spreads, steps),
        st.builds(Beta, shapes, shapes, steps),
    )


any_kind = continuous(st.none() | st.integers(1, 5) | st.floats(0.01, 5), likely=False)
likely = continuous(st.none(), likely=True)
seeds = st.integers(0, 2**32)
quantiles = st.floats(0.001, 0.999)

SPACE = {
    "lr": {"distribution": "log_uniform_values", "min": 1e-6, "max": 1.0},
    "net": {"parameters": {"depth": {"min": 1, "max": 8}, "bias": {"values": [True, False]}}},
    "dropout": {"distribution": "q_uniform", "min": 0, "max": 1, "q": 0.1},
}


def engine(seed: int, parameters: dict[str, Any] = SPACE) -> RandomEngine:
    configuration = {"method": "random", "parameters": parameters}
    return RandomEngine(parse_sweep_configuration(configuration, where="sweep").parameters, seed=seed)


def one(distribution: Distribution, source: Random) -> Any:
    return draw([Parameter(("x",), distribution)], source)[("x",)]


def many(distribution: Distribution) -> list[float]:
    source = Random(0)
    return [one(distribution, source) for _ in range(4000)]


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


@given(any_kind, seeds)
def test_a_value_is_finite_json_serializable_and_at_most_half_a_step_out_of_range(
    distribution: Continuous, seed: int
) -> None:
    value = one(distribution, Random(seed))
    assert math.isfinite(value)
    assert json.loads(json.dumps(value)) == value
    if isinstance(distribution, Uniform | LogUniform):
        slack = (distribution.q or 0) / 2 * (1 + 1e-9)
        assert distribution.min - slack <= value <= distribution.max + slack
    if abs(value) < 2**53 and distribution.q is not None:
        assert isinstance(value, type(distribution.q))
        assert math.isclose(value / distribution.q, round(value / distribution.q), abs_tol=1e-6)


@given(st.integers(-(2**53), 2**53), st.integers(1, 2**53), seeds)
def test_integers_stay_within_their_bounds(low: int, width: int, seed: int) -> None:
    value = one(IntUniform(low, low + width), Random(seed))
    assert isinstance(value, int)
    assert low <= value <= low + width


@given(any_kind, st.floats(allow_nan=False))
def test_every_number_has_a_quantile_from_0_to_1(distribution: Continuous, value: float) -> None:
    assert 0 <= quantile_of(distribution, value) <= 1


@pytest.mark.parametrize(
    "distribution", [Normal(0, 1), LogNormal(0, 1), Uniform(0, 1), LogUniform(1, 2), Beta(1, 1)]
)
def test_quantiles_0_and_1_have_finite_values(distribution: Continuous) -> None:
    assert all(math.isfinite(value_at(distribution, end)) for end in (0, 1))


@given(likely, quantiles)
def test_quantiles_and_values_match_scipys(distribution: Continuous, quantile: float) -> None:
    scipys = law(distribution)
    value = scipys.ppf(quantile)
    assert value_at(distribution, quantile) == pytest.approx(value, rel=1e-6, abs=1e-9)
    assert quantile_of(distribution, value) == pytest.approx(scipys.cdf(value), abs=1e-6)
    (axis,) = axes_of([Parameter(("x",), distribution)])
    assert isinstance(axis, IntervalAxis)
    there = axis.value(quantile)
    assert there == pytest.approx(value, rel=1e-6, abs=1e-9)
    # Near 1, floats are further apart than the quantiles of a beta distribution.
    assert axis.coordinate(there) == pytest.approx(float(scipys.cdf(there)), abs=1e-4)


@given(st.floats(1e-3, 1e6), st.floats(1e-3, 1e6), st.floats(0, 1))
def test_every_beta_quantile_has_a_value_between_0_and_1(a: float, b: float, quantile: float) -> None:
    assert 0 <= value_at(Beta(a, b), quantile) <= 1


def test_samples_match_the_median_and_the_given_probabilities() -> None:
    assert statistics.median(many(Uniform(2, 4))) == pytest.approx(3, abs=0.05)
    counts = Counter(many(Categorical((1, 2, 3), (0.7, 0.3, 0.0))))
    assert counts[1] / 4000 == pytest.approx(0.7, abs=0.03)
    assert counts[3] == 0


@given(seeds, st.integers(0, 10**9))
def test_parameters_are_determined_by_seed_and_index(seed: int, index: int) -> None:
    asked = engine(seed).ask(index)
    assert engine(seed).ask(index) == asked
    assert json.loads(json.dumps(asked)) == asked


def test_another_process_draws_the_same_values() -> None:
    assert stream(7, 3).random() == 0.6916173947856483


def test_draws_vary_with_index_and_seed_but_not_with_parameter_order() -> None:
    draws = [engine(seed).ask(index)["lr"] for seed in range(10) for index in range(50)]
    assert len(set(draws)) == 500
    backwards = dict(reversed(SPACE.items()))
    assert engine(1, backwards).ask(5) == engine(1).ask(5)


def search(distribution: Continuous | IntUniform, *, runs: int) -> list[float]:
    """Return the successive suggestions of bayes for a loss equal to the value."""
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
def test_bayes_suggests_lower_values_but_none_with_negligible_probability(distribution: Continuous) -> None:
    ranks = law(distribution).cdf(search(distribution, runs=25))
    assert min(ranks) > 1e-9
    assert max(ranks) < 1 - 1e-9
    assert sum(ranks[15:]) / 10 < sum(ranks[:10]) / 10


def test_a_quantized_beta_is_exhausted_without_its_zero_probability_values() -> None:
    asked = search(Beta(50, 50, q=0.05), runs=11)
    assert sorted(asked) == pytest.approx([0.05 * step for step in range(5, 16)])
