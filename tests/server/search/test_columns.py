"""Tables of points: drawn and moved coordinates lie on their axes, and columns range from 0 to 1."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from parallel_hpo.config.sweep import parse_sweep_configuration
from parallel_hpo.server.search.axes import Axis, axes_of
from parallel_hpo.server.search.gaussian import (
    Choice,
    choices_of,
    columns_of,
    draw_points,
    move_points,
    narrow_axes,
)

SPACE: dict[str, Any] = {
    "bias": {"values": [True, False]},
    "kind": {"values": ["a", "b", None]},
    "layers": {"min": 3, "max": 9},
    "lr": {"distribution": "log_uniform_values", "min": 1e-5, "max": 1.0},
    "width": {"distribution": "q_log_uniform_values", "min": 1, "max": 100, "q": 10},
    "batch": {"min": 1, "max": 10_000},
    "decay": {"min": 1e-6, "max": 1.0},
    "steps": {"distribution": "q_uniform", "min": 0, "max": 5000, "q": 5},
}
seeds = st.integers(0, 2**32 - 1)


def axes(parameters: Mapping[str, Any] = SPACE) -> tuple[Axis, ...]:
    configuration = {"method": "random", "parameters": dict(parameters)}
    return axes_of(parse_sweep_configuration(configuration, where="sweep").parameters)


def settled(coordinates: tuple[float, ...]) -> tuple[float, ...]:
    return tuple(
        axis.coordinate(axis.value(coordinate)) for axis, coordinate in zip(axes(), coordinates, strict=True)
    )


@given(seeds, st.sampled_from([0.01, 0.1, 3.0]))
def test_drawn_and_moved_points_are_points_of_the_space(seed: int, reach: float) -> None:
    source = np.random.default_rng(seed)
    drawn = draw_points(axes(), 20, source)
    for table in (drawn, move_points(axes(), drawn, reach, source)):
        for coordinates in table.tolist():
            assert settled(coordinates) == pytest.approx(coordinates)


@given(seeds)
def test_a_narrowed_space_surrounds_its_best_point_and_keeps_all_categories(seed: int) -> None:
    source = np.random.default_rng(seed)
    best = draw_points(axes(), 1, source)
    near = move_points(axes(), np.repeat(best, 50, axis=0), 0.01, source)
    drawn = draw_points(narrow_axes(axes(), best[0], near), 100, source)
    assert all(settled(coordinates) == pytest.approx(coordinates) for coordinates in drawn.tolist())
    lr, kind = axis_numbers("lr", "kind")
    assert 0 < np.ptp(drawn[:, lr]) < 0.5
    assert abs(drawn[:, lr] - best[0, lr]).max() < 0.5
    assert set(drawn[:, kind]) == {0, 1, 2}


def test_every_value_can_be_drawn_and_reached_by_a_move() -> None:
    source = np.random.default_rng(0)
    points = draw_points(axes(), 500, source)
    for table in (points, move_points(axes(), points, 0.1, source)):
        counted = table[:, axis_numbers("bias", "kind", "layers", "width")].T
        assert [len(set(column)) for column in counted] == [2, 3, 7, 11]


def test_a_short_move_on_an_ordered_axis_changes_exactly_one_level() -> None:
    only = {"layers": {"min": 0, "max": 1000}}
    start = np.full((200, 1), 500.0)
    steps = np.abs(move_points(axes(only), start, 0.0001, np.random.default_rng(0)) - start)
    assert set(steps.ravel()) == {1.0}


def test_columns_range_from_0_to_1_and_categories_have_distance_1() -> None:
    table = columns_of(axes(), draw_points(axes(), 500, np.random.default_rng(0)))
    assert table.shape == (500, sum(axis.columns for axis in axes()))
    assert table.min() == 0
    assert 0.99 < table.max() <= 1
    kinds = columns_of(axes({"kind": SPACE["kind"]}), np.array([[0.0], [1.0], [2.0]]))
    for one, other in itertools.combinations(kinds, 2):
        assert np.linalg.norm(one - other) == pytest.approx(1)


def test_numbers_over_orders_of_magnitude_get_a_logarithmic_column_too() -> None:
    wide = axes({"batch": SPACE["batch"], "decay": SPACE["decay"], "steps": SPACE["steps"]})
    coordinates = np.array([[0.0, 0.0, 0.0], [99.0, 0.001, 99.0], [9999.0, 1.0, 1000.0]])
    _, batch, _, decay, _, steps = columns_of(wide, coordinates).T
    assert batch == pytest.approx([0, 0.5, 1])
    assert decay == pytest.approx([0, 0.5, 1], abs=0.001)
    assert steps == pytest.approx([0, 2 / 3, 1], abs=0.001)


@pytest.mark.parametrize(
    "narrow",
    [{"min": 10, "max": 900}, {"min": 0.0, "max": 1e6}, {"min": -5, "max": 5000}, {"values": [1, 8, 900]}],
)
def test_other_numeric_parameters_have_one_column(narrow: dict[str, Any]) -> None:
    (axis,) = axes({"x": narrow})
    assert axis.columns == 1


def test_small_numbers_are_sampled_over_orders_of_magnitude() -> None:
    wide, source = axes({"batch": SPACE["batch"]}), np.random.default_rng(0)
    points = draw_points(wide, 400, source)
    for table in (points, move_points(wide, points, 0.02, source)):
        assert 50 < np.count_nonzero(table < 100) < 150  # a uniform draw would give 4
        assert np.count_nonzero(table > 5000) > 80


def test_choices_are_found_in_the_columns() -> None:
    assert set(choices_of(axes())) == {Choice(first=2, size=2), Choice(first=5, size=3)}
    table = draw_points(axes(), 50, np.random.default_rng(0))
    for choice, number in zip(choices_of(axes()), axis_numbers("bias", "kind"), strict=True):
        assert choice.levels_in(columns_of(axes(), table)).tolist() == table[:, number].tolist()


def axis_numbers(*names: str) -> list[int]:
    return [[axis.path for axis in axes()].index((name,)) for name in names]
