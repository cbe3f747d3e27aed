"""Suggestions of the Gaussian process, with running, failed and stopped points.

Expected improvement matches its definition, and the search finds its maximum.
"""

from __future__ import annotations

import math
from dataclasses import replace
from statistics import NormalDist

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from threadpoolctl import threadpool_info

from parallel_hpo.config.sweep_types import Uniform
from parallel_hpo.server.search import gp
from parallel_hpo.server.search.axes import IntervalAxis, LevelAxis, Observation
from parallel_hpo.server.search.gaussian import columns_of, draw_points, fit
from parallel_hpo.server.search.gp import log_expected_improvement, most_promising
from parallel_hpo.server.search.space import Listed, Stepped

AXES = tuple(IntervalAxis((name,), Uniform(0.0, 1.0, None), None) for name in "xy")
BEST = (0.7, 0.4)


def distance(coordinates: tuple[float, ...]) -> float:
    return float(np.hypot(coordinates[0] - BEST[0], coordinates[1] - BEST[1]))


def results(count: int) -> list[Observation]:
    points = np.random.default_rng(0).random((count, 2)).tolist()
    return [
        Observation(index, tuple(point), distance(tuple(point)) ** 2) for index, point in enumerate(points)
    ]


def first(known: list[Observation], others: list[Observation], *, seed: int = 1) -> tuple[float, ...]:
    return next(gp.suggestions(AXES, known, others, seed=seed))


def test_the_best_of_many_local_minima_is_found_with_hundreds_of_results() -> None:
    def hollows(x: float, y: float) -> float:
        return distance((x, y)) ** 2 + 0.05 * (
            2 - math.cos(60 * (x - BEST[0])) - math.cos(60 * (y - BEST[1]))
        )

    points = map(tuple, np.random.default_rng(1).random((300, 2)).tolist())
    known = [Observation(index, point, hollows(*point)) for index, point in enumerate(points)]
    for index in range(300, 325):
        point = first(known, [], seed=index)
        known.append(Observation(index, point, hollows(*point)))
    assert min(one.loss for one in known if one.loss is not None) < 1e-3


def test_a_running_point_is_not_suggested_again() -> None:
    known = results(10)
    alone = first(known, [])
    beside = first(known, [Observation(10, alone, None)])
    assert np.linalg.norm(np.subtract(alone, beside)) > 0.01


def test_suggestions_avoid_failed_regions_but_distant_failures_do_not_matter() -> None:
    around = [(x, y) for x in (-1, 0, 1) for y in (-1, 0, 1)]
    failed = [
        Observation(100 + index, (BEST[0] + 0.04 * x, BEST[1] + 0.04 * y), np.inf)
        for index, (x, y) in enumerate(around)
    ]
    assert distance(first(results(20), failed)) > 0.05
    assert distance(first(results(25), [Observation(100, (0.05, 0.95), np.inf)])) < 0.05


def test_suggestions_are_in_bounds_and_leave_the_blas_threads_unchanged() -> None:
    before = threadpool_info()
    named = list(gp.suggestions(AXES, results(15), [], seed=0))
    assert threadpool_info() == before
    assert len(named) == 200
    assert all(0 <= coordinate <= 1 for coordinates in named for coordinate in coordinates)


@pytest.mark.parametrize("others", [[], [Observation(99, (0.5, 0.5), None)]])
def test_a_suggestion_does_not_depend_on_earlier_ones(others: list[Observation]) -> None:
    before = first(results(15), others, seed=3)
    first(results(25), [], seed=4)
    assert first(results(15), others, seed=3) == before


def test_the_loss_of_a_stopped_run_does_not_count_as_its_final_loss() -> None:
    """Runs near the optimum are stopped early, with a higher loss than they would have reached."""
    ended = [result for result in results(40) if distance(result.coordinates) > 0.25]
    stopped = [
        Observation(100 + index, coordinate.coordinates, (coordinate.loss or 0.0) + 0.5, at)
        for index, (coordinate, at) in enumerate(zip(results(40), (2, 4, 8, 16) * 10, strict=True))
    ]
    taken_for_ended = [replace(one, stopped_at=None) for one in stopped]
    assert distance(first([*ended, *stopped], [])) < 0.1
    assert distance(first([*ended, *taken_for_ended], [])) > 0.15
    alone = [replace(result, stopped_at=3) for result in results(25)]
    assert distance(first(alone, [Observation(99, (0.1, 0.1), None)])) < 0.1


def test_the_minimum_is_found_with_few_results_if_a_choice_decides_which_parameters_matter() -> None:
    kind = LevelAxis(("kind",), Listed(("net", "trees")), ordered=False)
    points = [(*point.coordinates, float(point.index % 2)) for point in results(16)]
    losses = [float(np.cos(9 * y) if trees else 1.2 * np.sin(6 * x)) for x, y, trees in points]
    known = [Observation(index, *told) for index, told in enumerate(zip(points, losses, strict=True))]
    x, _, trees = next(gp.suggestions((*AXES, kind), known, [], seed=1))
    assert (x, trees) == pytest.approx((0.785, 0), abs=0.05)  # one surface for both kinds would give 0.95


def log_improvement(mean: float, deviation: float, lowest: float) -> float:
    return float(log_expected_improvement(np.array([mean]), np.array([deviation]), lowest)[0])


@given(st.floats(-3, 3), st.floats(0.1, 3), st.floats(-3, 3))
def test_expected_improvement_matches_its_definition(mean: float, deviation: float, lowest: float) -> None:
    belief = NormalDist(mean, deviation)
    losses = [belief.inv_cdf((part + 0.5) / 4000) for part in range(4000)]
    expected = sum(max(lowest - loss, 0.0) for loss in losses) / 4000
    assert math.exp(log_improvement(mean, deviation, lowest)) == pytest.approx(expected, rel=0.02, abs=2e-3)


@given(st.floats(0, 1e5), st.floats(1e-3, 1e3))
def test_log_improvement_still_ranks_hopeless_points(mean: float, further: float) -> None:
    near, far = log_improvement(mean, 1.0, 0.0), log_improvement(mean + further, 1.0, 0.0)
    assert math.isfinite(far)
    assert far <= near
    assert far < near or mean > 9000


def test_the_search_maximizes_expected_improvement_on_axes_of_all_kinds() -> None:
    axes = (
        IntervalAxis(("lr",), Uniform(0.0, 1.0, None), None),
        LevelAxis(("layers",), Stepped(50), ordered=True),
        LevelAxis(("kind",), Listed("abcd"), ordered=False),
    )
    source = np.random.default_rng(0)
    known = draw_points(axes, 60, source)
    lr, layers, kind = known.T
    losses = (lr - 0.3) ** 2 * 4 + ((layers - 35) / 50) ** 2 * 4 + np.where(kind == 2, 0.0, 1.0)
    best = most_promising(axes, fit(columns_of(axes, known), losses)[0], known, source)[0]
    assert best == pytest.approx([0.3, 35, 2], abs=6)
    assert best[0] == pytest.approx(0.3, abs=0.1)
    assert best[2] == 2
