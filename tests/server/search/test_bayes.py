"""Method bayes: it learns, repeats nothing, depends on the trials alone; and suggestions of its model."""

from __future__ import annotations

import json
import math
import statistics
import sys
from collections.abc import Callable
from dataclasses import replace
from statistics import NormalDist
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from threadpoolctl import threadpool_info

from parallel_hpo.config.sweep import parse_sweep_configuration
from parallel_hpo.config.sweep_types import Uniform
from parallel_hpo.server.search import gp
from parallel_hpo.server.search.axes import IntervalAxis, LevelAxis, Observation
from parallel_hpo.server.search.bayes import BayesEngine
from parallel_hpo.server.search.gaussian import columns_of, draw_points, fit
from parallel_hpo.server.search.gp import log_expected_improvement, most_promising
from parallel_hpo.server.search.space import Listed, Stepped, Trial, TrialState

MIXED: dict[str, Any] = {
    "lr": {"distribution": "log_uniform_values", "min": 1e-6, "max": 1.0},
    "layers": {"min": 1, "max": 12},
    "net": {"parameters": {"bias": {"values": [True, False]}, "kind": {"values": ["a", "b", None, [4]]}}},
    "fixed": {"value": {"deep": [1]}},
}
EVERY: dict[str, Any] = {
    name: {"distribution": name, **({"min": 1, "max": 9} if "uniform" in name else {})}
    for name in (
        *("int_uniform", "uniform", "q_uniform", "log_uniform", "log_uniform_values", "q_log_uniform"),
        *("q_log_uniform_values", "inv_log_uniform", "inv_log_uniform_values", "normal", "q_normal"),
        *("log_normal", "q_log_normal", "beta", "q_beta"),
    )
} | {"odds": {"values": [8, 16, 32], "probabilities": [0.5, 0.0, 0.5]}, "one": {"values": ["only"]}}

FIRST, LAST = slice(None, 10), slice(-10, None)


def bayes(parameters: dict[str, Any], *, seed: int = 0) -> BayesEngine:
    configuration = {"method": "bayes", "metric": {"name": "loss"}, "parameters": parameters}
    return BayesEngine(parse_sweep_configuration(configuration, where="sweep"), seed=seed)


def finished(index: int, parameters: dict[str, Any], value: float | None) -> Trial:
    return Trial(index, parameters, TrialState.FINISHED, value)


def search(
    engine: BayesEngine, objective: Callable[[dict[str, Any]], float], *, runs: int
) -> list[dict[str, Any]]:
    """Run trials one after another, and return their parameters."""
    asked = []
    for index in range(runs):
        asked.append(engine.ask(index))
        engine.tell(finished(index, asked[-1], objective(asked[-1])))
    return asked


def mixed_loss(parameters: dict[str, Any]) -> float:
    loss = (math.log10(parameters["lr"]) + 3) ** 2 + abs(parameters["layers"] - 7) / 4
    loss += 0 if parameters["net"]["bias"] else 3
    return float(loss + (0 if parameters["net"]["kind"] is None else 2))


@pytest.fixture(scope="module")
def long_searches() -> list[list[dict[str, Any]]]:
    """The suggestions of three searches with fifty runs each."""
    return [search(bayes(MIXED, seed=seed), mixed_loss, runs=50) for seed in range(3)]


def test_late_suggestions_are_better_than_early_ones(long_searches: list[list[dict[str, Any]]]) -> None:
    early, late = (
        [mixed_loss(asked) for run in long_searches for asked in run[part]] for part in (FIRST, LAST)
    )
    assert statistics.median(late) < statistics.median(early) / 2


def test_the_minimum_of_branin_is_found_in_60_runs() -> None:
    def branin(asked: dict[str, Any]) -> float:
        x, y = asked["x"], asked["y"]
        valley = y - 5.1 / (4 * math.pi**2) * x**2 + 5 / math.pi * x - 6
        return float(valley**2 + 10 * (1 - 1 / (8 * math.pi)) * math.cos(x) + 10)

    space = {"x": {"min": -5.0, "max": 10.0}, "y": {"min": 0.0, "max": 15.0}}
    bests = [min(map(branin, search(bayes(space, seed=seed), branin, runs=60))) for seed in range(3)]
    assert statistics.median(bests) < 0.402  # the minimum is 0.398; Optuna reaches 0.5


def test_the_search_learns_from_booleans_and_categories(long_searches: list[list[dict[str, Any]]]) -> None:
    late = [asked["net"] for run in long_searches for asked in run[LAST]]
    assert sum(net["bias"] for net in late) > 0.7 * len(late)  # by chance 0.5
    assert sum(net["kind"] is None for net in late) > 0.4 * len(late)  # by chance 0.25


def test_suggestions_of_every_distribution_are_plain_values_within_bounds() -> None:
    for asked in search(bayes(EVERY), lambda asked: float(asked["normal"] ** 2 + asked["beta"]), runs=30):
        assert json.loads(json.dumps(asked)) == asked
        assert 1 <= asked["int_uniform"] <= 9
        assert 1 <= asked["log_uniform_values"] <= 9
        assert math.exp(-9) * 0.999 <= asked["inv_log_uniform"] <= math.exp(-1) * 1.001
        assert 0 <= asked["beta"] <= 1
        assert asked["odds"] in (8, 32)
        assert asked["one"] == "only"
        assert isinstance(asked["int_uniform"], int)
        assert isinstance(asked["q_log_uniform"], float)


def test_eight_pending_suggestions_are_distinct() -> None:
    engine = bayes(MIXED)
    search(engine, mixed_loss, runs=20)
    at_once = []
    for index in range(20, 28):
        at_once.append(engine.ask(index))
        engine.tell(Trial(index, at_once[-1], TrialState.PENDING))
    assert len({json.dumps(asked) for asked in at_once}) == 8


def test_suggestions_avoid_the_point_of_a_pending_run() -> None:
    def distance_of_next(*, pending: bool) -> float:
        distances = []
        for seed in range(8):
            engine = bayes({"x": {"min": 0.0, "max": 1.0}}, seed=seed)
            search(engine, lambda asked: float(abs(asked["x"] - 0.3)), runs=12)
            first = engine.ask(12)["x"]
            if pending:
                engine.tell(Trial(12, {"x": first}, TrialState.PENDING))
            distances.append(float(abs(engine.ask(13)["x"] - first)))
        return statistics.median(distances)

    assert distance_of_next(pending=True) > 3 * distance_of_next(pending=False)


@pytest.mark.parametrize("value", [None, math.nan, math.inf, -math.inf])
def test_a_finished_run_without_a_finite_value_counts_as_failed(value: float | None) -> None:
    def told(how: Callable[[int, dict[str, Any]], Trial]) -> dict[str, Any]:
        engine = bayes(MIXED)
        for index, asked in enumerate(search(engine, mixed_loss, runs=12)[:5]):
            engine.tell(how(index + 12, asked))
        return engine.ask(17)

    failed = told(lambda index, asked: Trial(index, asked, TrialState.FAILED, 0.0))
    assert told(lambda index, asked: finished(index, asked, value)) == failed


def test_the_search_continues_if_all_runs_fail() -> None:
    engine = bayes(MIXED)
    for index in range(30):
        engine.tell(Trial(index, engine.ask(index), TrialState.FAILED))
    assert engine.ask(30).keys() == MIXED.keys()


def test_a_finite_space_repeats_no_point_until_it_is_exhausted() -> None:
    engine = bayes({"a": {"values": [1, 2, 3]}, "b": {"values": [True, False]}, "c": {"min": 1, "max": 3}})
    asked = search(engine, lambda asked: float(asked["a"] + asked["c"]), runs=24)
    assert len({json.dumps(point) for point in asked[:18]}) == 18
    assert all(point in asked[:18] for point in asked[18:])


def test_points_that_differ_by_a_rounding_error_count_as_one() -> None:
    engine = bayes({"x": {"distribution": "q_uniform", "min": 0, "max": 1, "q": 0.1}})
    for index in range(11):
        engine.tell(finished(index, {"x": index / 10}, 1.0))
        engine.tell(finished(index + 11, {"x": index * 0.1}, 1.0))
    engine.tell(Trial(3, {}, TrialState.FAILED))
    engine.tell(Trial(14, {}, TrialState.FAILED))
    assert engine.ask(22) == {"x": 3 * 0.1}


def test_the_widest_integer_range_is_searched_within_its_bounds() -> None:
    engine = bayes({"x": {"min": -(2**53), "max": 2**53}})
    asked = search(engine, lambda asked: float(-asked["x"]), runs=40)
    assert all(isinstance(point["x"], int) and abs(point["x"]) <= 2**53 for point in asked)


@pytest.mark.parametrize(
    "spec",
    [
        {"distribution": "q_uniform", "min": 0, "max": 1, "q": 0.1},
        {"distribution": "q_log_uniform_values", "min": 1, "max": 11, "q": 1},
        {"distribution": "q_beta", "a": 2, "b": 2, "q": 0.1},
    ],
)
def test_a_quantized_range_is_a_finite_space(spec: dict[str, Any]) -> None:
    asked = search(bayes({"x": spec}), lambda asked: float(asked["x"]), runs=11)
    assert len({point["x"] for point in asked}) == 11


def test_a_space_of_constants_always_returns_the_same_point() -> None:
    asked = search(bayes({"x": {"value": 1}, "y": {"values": ["only"]}}), lambda asked: 1.0, runs=15)
    assert asked == [{"x": 1, "y": "only"}] * 15


@settings(max_examples=15, deadline=None)
@given(st.permutations(range(20)), st.integers(0, 100))
def test_suggestions_do_not_depend_on_the_order_of_results(order: list[int], seed: int) -> None:
    first, second, chance = (bayes(MIXED, seed=seed) for _ in range(3))
    asked = [chance.ask(index) for index in range(20)]  # told nothing, it only draws
    for index in range(20):
        first.tell(finished(index, asked[index], mixed_loss(asked[index])))
    for index in order:
        second.tell(Trial(index, asked[index], TrialState.PENDING))
        second.tell(finished(index, asked[index], mixed_loss(asked[index])))
    assert second.ask(20) == first.ask(20)


@pytest.mark.parametrize(
    "parameters",
    [
        {},
        *(
            {"lr": lr, "layers": 2, "net": {"bias": True, "kind": "a"}}
            for lr in ("x", True, math.nan, 10**400)
        ),
        *({"lr": 0.1, "layers": some, "net": {"bias": True, "kind": "a"}} for some in (99, math.inf, None)),
        {"lr": 0.1, "layers": 2, "net": 3},
        {"lr": 0.1, "layers": 2, "net": {"bias": 1, "kind": "a"}},
    ],
)
def test_results_with_parameters_outside_the_space_are_ignored(parameters: dict[str, Any]) -> None:
    engine, untouched = bayes(MIXED), bayes(MIXED)
    for each in (engine, untouched):
        search(each, mixed_loss, runs=12)
    engine.tell(finished(12, parameters, 0.0))
    assert engine.ask(13) == untouched.ask(13)


def test_the_cost_of_a_suggestion_does_not_grow_with_thousands_of_results() -> None:
    chance = bayes(MIXED)

    def calls_of_an_ask(results: int) -> int:
        engine = bayes(MIXED)
        for index in range(results):
            asked = chance.ask(index)  # told nothing, it only draws
            engine.tell(finished(index, asked, mixed_loss(asked)))
        return calls_of(lambda: engine.ask(results))

    calls_of_an_ask(250)  # the first call imports modules
    assert calls_of_an_ask(2500) < 2 * calls_of_an_ask(250)


def calls_of(act: Callable[[], object]) -> int:
    """Count function calls: they measure the work, independent of other load on the machine."""
    calls = 0

    def count(_frame: object, event: str, _argument: object) -> None:
        nonlocal calls
        calls += event in ("call", "c_call")

    sys.setprofile(count)
    try:
        act()
    finally:
        sys.setprofile(None)
    return calls


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
