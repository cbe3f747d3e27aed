"""The search space: values by path, levels, the grid, the engines, and random values beside SciPy's."""

from __future__ import annotations

import itertools
import json
import math
import statistics
from collections import Counter
from random import Random
from typing import Any

import pytest
import scipy
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
    ParameterPath,
    SweepConfiguration,
    Uniform,
)
from parallel_hpo.server.search.axes import IntervalAxis, axes_of
from parallel_hpo.server.search.bayes import BayesEngine
from parallel_hpo.server.search.engine import Engine, make_engine
from parallel_hpo.server.search.sampling import RandomEngine, draw, quantile_of, stream, value_at
from parallel_hpo.server.search.space import (
    GridEngine,
    Listed,
    Stepped,
    Trial,
    TrialState,
    distinct,
    identity,
    look_up,
    multiples,
    nest,
    possible,
    rounded,
)

texts = st.text("ab0. é€", max_size=4)
numbers = st.integers() | st.floats(allow_nan=False, allow_infinity=False)
json_values = st.recursive(
    st.none() | st.booleans() | numbers | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=5,
)
names = st.sampled_from(["a", "b", "a.b", "SplitEvent-1D", "parameters"])
levels = st.one_of(
    st.lists(st.integers(), min_size=1, max_size=5, unique=True).map(Listed),
    st.builds(Stepped, st.integers(1, 50), st.integers(1, 3), st.integers(-5, 5), st.integers(-5, 5)),
)
choices = st.lists(st.integers(0, 9) | st.booleans() | st.text("abé", max_size=2), min_size=1, max_size=4)
grids = st.dictionaries(st.text("aBc.-", min_size=1, max_size=3), choices, min_size=1, max_size=4)


@given(st.dictionaries(st.lists(names, min_size=2, max_size=2).map(tuple), json_values, max_size=6))
def test_nested_values_are_found_by_their_path(values: dict[ParameterPath, Any]) -> None:
    nested = nest(values)
    assert {path: look_up(nested, path) for path in values} == values


def test_nested_values_are_copies() -> None:
    listed: list[int] = [1]
    nest({("x",): listed})["x"].append(2)
    assert listed == [1]


@given(json_values, json_values)
def test_identity_distinguishes_json_values(one: Any, other: Any) -> None:
    if json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True):
        assert identity(one) == identity(other)
    elif one != other:
        assert identity(one) != identity(other)


def test_identity_compares_numbers_by_value_and_zero_probabilities_are_dropped() -> None:
    assert identity(3) == identity(3.0)
    assert identity(1) != identity(True)
    assert distinct([3, 1, 3.0, True, 1]) == (3, 1, True)
    assert possible(Categorical(("a", "b", "a"), (0.5, 0.0, 0.5))) == ("a",)


@pytest.mark.parametrize(
    ("value", "q", "expected"),
    [
        (2.4, 1, 2),
        (2.5, 1, 2),
        (3.5, 1, 4),
        (2.4, 1.0, 2.0),
        (7.0, 5, 5),
        (0.26, 0.5, 0.5),
        (2.4, None, 2.4),
        pytest.param(1e300, 1e-300, 1e300, id="a q finer than floats leaves the value alone"),
    ],
)
def test_values_are_rounded_to_multiples_of_q(value: float, q: float | None, expected: float) -> None:
    result = rounded(value, q)
    assert (result, type(result)) == (expected, type(expected))


@given(st.floats(-100, 100), st.floats(0, 100), st.sampled_from([1, 3, 0.1, 0.25, 7.5]))
def test_multiples_contain_every_rounded_value_of_the_range(low: float, width: float, q: float) -> None:
    steps = multiples(low, low + width, q)
    for value in (low, low + width / 3, low + width):
        assert steps[steps.index(rounded(value, q))] == rounded(value, q)


@given(levels)
def test_each_level_has_a_distinct_index(level: Listed | Stepped) -> None:
    assert [level.index(level[index]) for index in range(level.size)] == list(range(level.size))


def grid(parameters: dict[str, Any]) -> GridEngine:
    configuration = {"method": "grid", "parameters": parameters}
    return GridEngine(parse_sweep_configuration(configuration, where="sweep").parameters)


def points(engine: GridEngine) -> list[Any]:
    return [engine.ask(index) for index in range(engine.size)]


@given(grids)
def test_a_grid_is_the_product_of_its_values_and_indexes_each_point(choices: dict[str, list[Any]]) -> None:
    engine = grid({name: {"values": values} for name, values in choices.items()})
    once = [list({json.dumps(value): value for value in choices[name]}.values()) for name in sorted(choices)]
    expected = [
        dict(zip(sorted(choices), combination, strict=True)) for combination in itertools.product(*once)
    ]
    assert [json.dumps(found) for found in points(engine)] == [json.dumps(point) for point in expected]
    assert engine.ask(len(expected)) is None
    assert [engine.index(json.loads(json.dumps(found))) for found in points(engine)] == [*range(engine.size)]


def test_a_grid_supports_constants_and_nested_parameters() -> None:
    net = {"depth": {"min": 2, "max": 3}, "kind": {"value": "cnn"}}
    found = points(grid({"net": {"parameters": net}, "a": {"value": 1}}))
    assert found == [{"a": 1, "net": {"depth": depth, "kind": "cnn"}} for depth in (2, 3)]


@pytest.mark.parametrize(
    ("low", "high", "q", "expected"),
    [
        (0, 10, 3, [0, 3, 6, 9]),
        (0, 1, 0.25, [0.0, 0.25, 0.5, 0.75]),
        (1, 4, None, [1.0, 2.0, 3.0]),
        (1, 4.5, 3, [1, 4]),
    ],
)
def test_ranges_are_enumerated_like_numpys_arange(
    low: float, high: float, q: float | None, expected: list[float]
) -> None:
    spec = {"distribution": "q_uniform", "min": low, "max": high} | ({} if q is None else {"q": q})
    found = [asked["x"] for asked in points(grid({"x": spec}))]
    assert found == expected
    assert [type(value) for value in found] == [type(value) for value in expected]


def test_a_huge_grid_returns_its_last_point() -> None:
    engine = grid({name: {"min": 1, "max": 1000} for name in "abcdefgh"})
    assert engine.size == 1000**8
    assert engine.ask(engine.size - 1) == dict.fromkeys("abcdefgh", 1000)
    assert engine.ask(engine.size) is None


def test_a_parameter_that_cannot_be_enumerated_is_refused() -> None:
    with pytest.raises(ValueError, match="can't enumerate"):
        GridEngine([Parameter(("x",), Normal(0, 1))])


@pytest.mark.parametrize(
    ("parameters", "index"),
    [
        *(({"x": value}, None) for value in (7, 1.5, True, "1", [1])),
        ({}, None),
        ({"y": 1}, None),
        pytest.param({"x": 2.0, "more": 1}, 2, id="an equal number of another type is the same point"),
    ],
)
def test_parameters_outside_the_grid_have_no_index(parameters: dict[str, Any], index: int | None) -> None:
    assert grid({"x": {"min": 0, "max": 3}}).index(parameters) == index


def engine(method: str, parameters: dict[str, Any]) -> Engine:
    configuration = {"method": method, "metric": {"name": "loss"}, "parameters": parameters}
    return make_engine(parse_sweep_configuration(configuration, where="sweep"), seed=1)


METHODS = pytest.mark.parametrize("method", ["grid", "random", "bayes"])


@METHODS
def test_each_method_suggests_points_and_accepts_results(method: str) -> None:
    nested = {"models": {"parameters": {"X": {"parameters": {"epochs": {"values": [3]}}}}}}
    made = engine(method, nested)
    asked = made.ask(0)
    assert asked == {"models": {"X": {"epochs": 3}}}
    made.tell(Trial(0, asked, TrialState.FINISHED, 1.0))
    assert made.ask(1) == (None if method == "grid" else asked)


@METHODS
def test_only_the_grid_has_a_size_and_an_index_for_each_point(method: str) -> None:
    made = engine(method, {"x": {"values": [3, 4]}, "y": {"values": [5, 6, 7]}})
    ends = method == "grid"
    assert made.size == (6 if ends else None)
    assert made.index({"x": 4, "y": 6}) == (4 if ends else None)
    assert made.index({"x": 4, "y": 8}) is None


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


def random_engine(seed: int, parameters: dict[str, Any] = SPACE) -> RandomEngine:
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
    asked = random_engine(seed).ask(index)
    assert random_engine(seed).ask(index) == asked
    assert json.loads(json.dumps(asked)) == asked


def test_another_process_draws_the_same_values() -> None:
    assert stream(7, 3).random() == 0.6916173947856483


def test_draws_vary_with_index_and_seed_but_not_with_parameter_order() -> None:
    draws = [random_engine(seed).ask(index)["lr"] for seed in range(10) for index in range(50)]
    assert len(set(draws)) == 500
    backwards = dict(reversed(SPACE.items()))
    assert random_engine(1, backwards).ask(5) == random_engine(1).ask(5)


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
