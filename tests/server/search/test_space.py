"""Values by path, equal values, rounding, and levels that are counted and not listed."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from parallel_hpo.config.sweep_types import Categorical, ParameterPath
from parallel_hpo.server.search.space import (
    Listed,
    Stepped,
    distinct,
    identity,
    look_up,
    multiples,
    nest,
    point,
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


@given(st.dictionaries(st.lists(names, min_size=2, max_size=2).map(tuple), json_values, max_size=6))
def test_values_are_found_again_where_they_were_nested(values: dict[ParameterPath, Any]) -> None:
    nested = nest(values)
    assert {path: look_up(nested, path) for path in values} == values


def test_nested_values_are_copies() -> None:
    listed: list[int] = [1]
    nest({("x",): listed})["x"].append(2)
    assert listed == [1]


@pytest.mark.parametrize("path", [("b",), ("a", "b"), ("a", "b", "c")])
def test_a_path_that_leads_nowhere_is_a_key_error(path: ParameterPath) -> None:
    with pytest.raises(KeyError):
        look_up({"a": 1}, path)


@given(json_values, json_values)
def test_identity_tells_json_values_apart(one: Any, other: Any) -> None:
    if json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True):
        assert identity(one) == identity(other)
    elif one != other:
        assert identity(one) != identity(other)


def test_numbers_are_equal_by_value_and_true_is_no_number() -> None:
    assert identity(3) == identity(3.0)
    assert identity(1) != identity(True)
    assert distinct([3, 1, 3.0, True, 1]) == (3, 1, True)


def test_a_choice_without_a_chance_is_no_choice() -> None:
    assert possible(Categorical(("a", "b", "a"), (0.5, 0.0, 0.5))) == ("a",)


@pytest.mark.parametrize(
    ("value", "q", "expected"),
    [(2.4, 1, 2), (2.5, 1, 2), (3.5, 1, 4), (2.4, 1.0, 2.0), (7.0, 5, 5), (0.26, 0.5, 0.5), (2.4, None, 2.4)],
)
def test_values_are_rounded_to_multiples_of_q(value: float, q: float | None, expected: float) -> None:
    result = rounded(value, q)
    assert (result, type(result)) == (expected, type(expected))


def test_a_q_finer_than_floats_leaves_the_value_alone() -> None:
    assert rounded(1e300, 1e-300) == 1e300


@given(st.floats(-100, 100), st.floats(0, 100), st.sampled_from([1, 3, 0.1, 0.25, 7.5]))
def test_multiples_are_what_numbers_of_the_range_are_rounded_to(low: float, width: float, q: float) -> None:
    steps = multiples(low, low + width, q)
    for value in (low, low + width / 3, low + width):
        assert steps[steps.index(rounded(value, q))] == rounded(value, q)


@given(levels)
def test_every_level_has_its_own_index(level: Listed | Stepped) -> None:
    assert [level.index(level[index]) for index in range(level.size)] == list(range(level.size))


@pytest.mark.parametrize("value", ["2", True, None, 0, 9, [1]])
def test_what_is_no_level_is_a_key_error(value: Any) -> None:
    for level in (Listed((1, 2, 3)), Stepped(3, offset=1)):
        with pytest.raises(KeyError):
            level.index(value)


def test_the_last_levels_change_fastest() -> None:
    levels = (Listed("ab"), Stepped(3))
    assert [point(levels, index) for index in range(4)] == [["a", 0], ["a", 1], ["a", 2], ["b", 0]]
