"""The search space: values by path, levels, the grid, and the engines."""

from __future__ import annotations

import itertools
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from parallel_hpo.config.sweep import parse_sweep_configuration
from parallel_hpo.config.sweep_types import Categorical, Normal, Parameter, ParameterPath
from parallel_hpo.server.search.engine import Engine, Trial, TrialState, make_engine
from parallel_hpo.server.search.space import (
    GridEngine,
    Listed,
    Stepped,
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
