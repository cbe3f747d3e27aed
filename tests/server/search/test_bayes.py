"""Method bayes learns, avoids repetitions, and depends only on the trials."""

from __future__ import annotations

import json
import math
import statistics
import sys
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from parallel_hpo.config.sweep import parse_sweep_configuration
from parallel_hpo.server.search.bayes import BayesEngine
from parallel_hpo.server.search.space import Trial, TrialState

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


def bayes(parameters: dict[str, Any], *, seed: int = 0, goal: str = "minimize") -> BayesEngine:
    configuration = {"method": "bayes", "metric": {"name": "loss", "goal": goal}, "parameters": parameters}
    return BayesEngine(parse_sweep_configuration(configuration, where="sweep"), seed=seed)


def finished(index: int, parameters: dict[str, Any], value: float | None) -> Trial:
    return Trial(index, parameters, TrialState.FINISHED, value)


def search(
    engine: BayesEngine, objective: Callable[[dict[str, Any]], float], *, runs: int, first: int = 0
) -> list[dict[str, Any]]:
    """Run trials one after another, and return their parameters."""
    asked = []
    for index in range(first, first + runs):
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


def test_a_metric_can_be_maximized() -> None:
    down = search(bayes(MIXED, seed=3), mixed_loss, runs=15)
    up = search(bayes(MIXED, seed=3, goal="maximize"), lambda asked: -mixed_loss(asked), runs=15)
    assert up == down


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
