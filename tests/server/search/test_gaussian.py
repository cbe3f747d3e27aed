"""The Gaussian process: its columns, its predictions beside scikit-learn's, and its choice of shape."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
import scipy
from hypothesis import given, settings
from hypothesis import strategies as st

from parallel_hpo.config.sweep import parse_sweep_configuration
from parallel_hpo.server.search.axes import Axis, axes_of
from parallel_hpo.server.search.gaussian import (
    Choice,
    Column,
    Likelihood,
    Surface,
    Table,
    choices_of,
    columns_of,
    draw_points,
    fit,
    move_points,
    narrow_axes,
)
from parallel_hpo.server.search.gp import PartedSurface, bell_shaped, cut_off, likeliest

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


thetas = st.lists(st.floats(-3, 3), min_size=5, max_size=5)
finite = st.floats(allow_nan=False, allow_infinity=False)


def fitted(columns: Table, losses: Column) -> Surface:
    return fit(columns, losses)[0]


def grid(count: int) -> Table:
    return np.linspace(0, 1, count)[:, np.newaxis]


def wave(columns: Table) -> Column:
    heights: Column = np.sin(6 * columns[:, 0])
    return heights


def test_uncertainty_is_lower_near_results_and_drops_with_a_new_result() -> None:
    surface = fitted(grid(12) / 2, wave(grid(12) / 2))
    _, (near, far) = surface.mean_and_deviation(np.array([[0.25], [0.9]]))
    assert near < 0.02 < far
    there = np.array([[0.9]])
    later = surface.with_points(there, np.array([2.0]))
    assert later.mean(there)[0] == pytest.approx(2.0, abs=0.05)
    assert later.mean_and_deviation(there)[1][0] < far


def test_noise_is_included_in_the_deviation_and_not_fitted_as_shape() -> None:
    source = np.random.default_rng(0)
    columns = source.random((60, 1))
    surface = fitted(columns, wave(columns) + source.normal(0, 0.4, 60))
    assert surface.mean(grid(50)) == pytest.approx(wave(grid(50)), abs=0.4)
    assert surface.mean_and_deviation(columns)[1] == pytest.approx(0.4, abs=0.15)


def test_a_column_without_effect_is_ignored() -> None:
    columns = np.random.default_rng(0).random((40, 2))
    ends = fitted(columns, wave(columns)).mean(np.array([[0.3, 0.0], [0.3, 1.0]]))
    assert ends[0] == pytest.approx(ends[1], abs=0.05)


@pytest.mark.parametrize(("mattering", "error"), [(20, 0.4), (2, 0.1)])
def test_few_results_in_20_columns_predict_low_losses(mattering: int, error: float) -> None:
    """Many length scales overfit if all columns matter, a single one underfits if few do."""
    source = np.random.default_rng(0)
    columns, there = source.random((60, 20)), source.random((200, 20))

    def bowl(columns: Table) -> Column:
        heights: Column = np.square(columns[:, :mattering] - 0.2).sum(axis=1)
        return (heights - mattering * 0.173) / math.sqrt(mattering * 0.046)

    misses = fitted(columns, bowl(columns)).mean(there) - bowl(there)
    assert math.sqrt(np.square(misses).mean()) < error


@settings(max_examples=50)
@given(thetas, st.integers(0, 100))
def test_likelihood_gradient_and_prediction_match_scikit_learn(theta: list[float], seed: int) -> None:
    from sklearn.gaussian_process import GaussianProcessRegressor  # the import takes longer than these tests
    from sklearn.gaussian_process.kernels import ConstantKernel, Matern, WhiteKernel

    source = np.random.default_rng(seed)
    columns, losses, there = source.random((15, 3)), source.normal(size=15), source.random((20, 3))
    kernel = ConstantKernel(1.0) * Matern([1.0] * 3, nu=2.5) + WhiteKernel(1.0)
    process: Any = GaussianProcessRegressor(kernel.clone_with_theta(np.array(theta)), optimizer=None)
    process.fit(columns, losses)
    value, slope = process.log_marginal_likelihood(np.array(theta), eval_gradient=True)
    ours, our_slope = Likelihood(columns, losses)(np.array(theta))
    assert ours == pytest.approx(value, rel=1e-6)
    assert our_slope == pytest.approx(slope, rel=1e-5, abs=1e-6)
    means, deviations = process.predict(there, return_std=True)
    surface = Surface(np.array(theta), columns, losses)
    our_means, our_deviations = surface.mean_and_deviation(there)
    assert our_means == pytest.approx(means, rel=1e-6, abs=1e-6)
    assert our_deviations == pytest.approx(deviations, rel=1e-6, abs=1e-6)
    assert surface.mean(there) == pytest.approx(means, rel=1e-6, abs=1e-6)


def test_a_singular_kernel_has_likelihood_minus_infinity() -> None:
    same = np.zeros((4, 1))
    assert Likelihood(same, np.arange(4.0))(np.array([40.0, 0.0, -60.0]))[0] == -math.inf


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
def test_the_bell_shape_matches_scipys_yeo_johnson_transform(stretch: Callable[[Column], Column]) -> None:
    standard = cut_off(stretch(np.random.default_rng(0).normal(size=50)))
    bent, _ = scipy.stats.yeojohnson(standard)
    assert bell_shaped(standard).losses == pytest.approx((bent - bent.mean()) / bent.std(), abs=1e-5)


def test_an_extreme_loss_does_not_hide_the_others() -> None:
    for shape in shapes([*map(float, range(20)), 1e300]):
        assert np.diff(np.sort(shape))[:-1].min() > 0.03


def test_equal_losses_are_flattened_to_zero() -> None:
    assert not any(shape.any() for shape in shapes([3.0] * 10))
    surface = likeliest(grid(10), np.full(10, 3.0))
    assert surface.mean(grid(4)) == pytest.approx(np.zeros(4), abs=1e-6)


def test_the_density_of_a_bell_is_the_log_derivative_of_its_transform() -> None:
    standard = np.sort(cut_off(np.random.default_rng(0).gamma(4.0, size=500)))
    bell = bell_shaped(standard)
    slopes = np.diff(bell.losses) / np.diff(standard)
    assert bell.density == pytest.approx(float(np.log(slopes).sum()), abs=10)


def test_losses_without_noise_are_transformed_to_a_bell_shape() -> None:
    losses = np.exp(2 * wave(grid(20)))
    shaped = likeliest(grid(20), losses).losses
    assert shaped == pytest.approx(bell_shaped(cut_off(losses)).losses)
    assert shaped != pytest.approx(cut_off(losses), abs=0.05)


def test_noise_among_low_losses_is_not_amplified() -> None:
    columns = np.random.default_rng(0).random((60, 1))
    losses = 60 * (columns[:, 0] - 0.5) ** 2 + np.random.default_rng(1).normal(0, 2, 60)
    surface = likeliest(columns, losses)
    assert surface.losses == pytest.approx(cut_off(losses))
    assert grid(101)[surface.mean(grid(101)).argmin(), 0] == pytest.approx(0.5, abs=0.05)


MODEL = Choice(first=0, size=2)


def models(count: int = 40) -> Table:
    """Return a table of a model's kind, a parameter of the one kind, and a parameter of the other."""
    source = np.random.default_rng(0)
    return np.column_stack([np.arange(count) % 2, source.random((count, 2))])


def of_its_own(columns: Table) -> Column:
    losses: Column = np.where(columns[:, 0] > 0, np.sin(6 * columns[:, 1]), np.cos(9 * columns[:, 2]))
    return losses


def test_each_level_has_its_own_surface_if_its_choice_decides_which_parameters_matter() -> None:
    belief = likeliest(models(), of_its_own(models()), (MODEL,))
    assert isinstance(belief, PartedSurface)
    one, other = belief.mean(np.array([[1.0, 0.3, 0.1], [1.0, 0.3, 0.9]]))
    assert one == pytest.approx(other, abs=0.05)  # the other kind's parameter has no effect
    there, elsewhere = np.array([[1.0, 0.5, 0.5]]), np.array([[0.0, 0.5, 0.5]])
    later = belief.with_points(there, belief.mean(there) + 1)
    assert later.mean(there)[0] > belief.mean(there)[0] + 0.5
    assert later.mean(elsewhere) == pytest.approx(belief.mean(elsewhere))
    assert len(later.losses) == 41


def test_levels_share_one_surface_if_their_choice_only_shifts_the_loss() -> None:
    losses = np.sin(6 * models()[:, 1]) + 0.5 * models()[:, 0]
    assert isinstance(likeliest(models(), losses, (MODEL,)), Surface)


def test_until_many_results_say_otherwise_each_level_has_a_part_that_learns_alone() -> None:
    losses = np.sin(6 * models(10)[:, 1]) + 0.5 * models(10)[:, 0]
    assert isinstance(likeliest(models(10), losses, (MODEL,)), PartedSurface)


def test_three_bad_results_of_a_level_leave_it_open_whether_it_has_low_losses() -> None:
    columns, there = np.split(np.random.default_rng(0).random((203, 9)), [3])
    part = fit(columns, np.array([0.9, 1.0, 1.1]), of_part=True)[0]
    assert part.mean_and_deviation(there)[1].mean() > 0.35  # in losses of variance 1


def test_a_level_without_results_gets_no_surface_of_its_own() -> None:
    columns = models()
    columns[1:, 0] = 0
    assert isinstance(likeliest(columns, of_its_own(columns), (MODEL,)), Surface)
