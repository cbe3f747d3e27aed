"""The grid: every point once, in W&B's order, by index and never listed."""

from __future__ import annotations

import itertools
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from parallel_hpo.config.sweep import parse_sweep_configuration
from parallel_hpo.config.sweep_types import Normal, Parameter
from parallel_hpo.server.search.space import GridEngine

choices = st.lists(st.integers(0, 9) | st.booleans() | st.text("abé", max_size=2), min_size=1, max_size=4)
grids = st.dictionaries(st.text("aBc.-", min_size=1, max_size=3), choices, min_size=1, max_size=4)


def grid(parameters: dict[str, Any]) -> GridEngine:
    configuration = {"method": "grid", "parameters": parameters}
    return GridEngine(parse_sweep_configuration(configuration, where="sweep").parameters)


def points(engine: GridEngine) -> list[dict[str, Any]]:
    found = []
    for index in range(engine.size):
        asked = engine.ask(index)
        assert asked is not None
        found.append(asked)
    return found


@given(grids)
def test_a_grid_is_the_product_of_its_distinct_values_names_sorted(choices: dict[str, list[Any]]) -> None:
    engine = grid({name: {"values": values} for name, values in choices.items()})
    once = [list({json.dumps(value): value for value in choices[name]}.values()) for name in sorted(choices)]
    expected = [
        dict(zip(sorted(choices), combination, strict=True)) for combination in itertools.product(*once)
    ]
    assert [json.dumps(found) for found in points(engine)] == [json.dumps(point) for point in expected]
    assert engine.ask(len(expected)) is None


def test_constants_and_nesting_come_along() -> None:
    engine = grid(
        {"net": {"parameters": {"depth": {"min": 2, "max": 3}, "kind": {"value": "cnn"}}}, "a": {"value": 1}}
    )
    assert points(engine) == [
        {"a": 1, "net": {"depth": 2, "kind": "cnn"}},
        {"a": 1, "net": {"depth": 3, "kind": "cnn"}},
    ]


@pytest.mark.parametrize(
    ("low", "high", "q", "expected"),
    [
        (0, 10, 3, [0, 3, 6, 9]),
        (0, 1, 0.25, [0.0, 0.25, 0.5, 0.75]),
        (1, 4, None, [1.0, 2.0, 3.0]),
        (1, 4.5, 3, [1, 4]),
    ],
)
def test_quantised_ranges_are_enumerated_as_numpys_arange(
    low: float, high: float, q: float | None, expected: list[float]
) -> None:
    spec = {"distribution": "q_uniform", "min": low, "max": high} | ({} if q is None else {"q": q})
    found = [asked["x"] for asked in points(grid({"x": spec}))]
    assert found == expected
    assert [type(value) for value in found] == [type(value) for value in expected]


def test_a_huge_grid_answers_at_its_end_as_at_its_start() -> None:
    engine = grid({name: {"min": 1, "max": 1000} for name in "abcdefgh"})
    assert engine.size == 1000**8
    assert engine.ask(engine.size - 1) == dict.fromkeys("abcdefgh", 1000)
    assert engine.ask(engine.size) is None


def test_a_parameter_that_cannot_be_enumerated_is_refused() -> None:
    with pytest.raises(ValueError, match="can't enumerate"):
        GridEngine([Parameter(("x",), Normal(0, 1))])


@given(grids)
def test_each_point_is_found_by_its_parameters(choices: dict[str, list[Any]]) -> None:
    engine = grid({name: {"values": values} for name, values in choices.items()})
    found = [engine.index(json.loads(json.dumps(parameters))) for parameters in points(engine)]
    assert found == list(range(engine.size))


@pytest.mark.parametrize("parameters", [{}, {"x": 7}, {"x": 1.5}, {"x": True}, {"x": "1"}, {"x": [1]}])
def test_parameters_beside_the_grid_are_none_of_its_points(parameters: dict[str, Any]) -> None:
    assert grid({"x": {"min": 0, "max": 3}}).index(parameters) is None


def test_a_number_written_otherwise_is_the_same_point() -> None:
    assert grid({"x": {"min": 0, "max": 3}}).index({"x": 2.0, "more": 1}) == 2
