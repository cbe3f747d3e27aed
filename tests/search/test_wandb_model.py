"""W&B's own engine behind the interface of all engines; each of its known faults has its test."""

from __future__ import annotations

import json
import logging
import os
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from parallel_hpo.config.sweep import parse_sweep_configuration
from parallel_hpo.search.engine import Engine, Trial, TrialState, make_engine
from parallel_hpo.search.wandb_process import EngineFailedError, WandbProcess
from tests.search.engines import needs_wandb_engine, wandb_process

X = {"x": {"min": 0.0, "max": 1.0}}
RECORDS = """
for line in sys.stdin:
    with open(FILE, "a") as asked:
        asked.write(line)
    print('{"point": [0.5]}', flush=True)
"""
"""With FILE as the name of the file that takes down what is asked."""
HANGS = "time.sleep(60)"
HANGS_AT_START = "import time\ntime.sleep(60)"
RAISES = """
for line in sys.stdin:
    print('{"error": "ValueError: no"}', flush=True)
"""
DIES = "sys.stdin.readline()\nos._exit(7)"
RAMBLES = """
for line in sys.stdin:
    print('{"point": [7.5]}', flush=True)
"""


def engine(parameters: dict[str, Any], process: WandbProcess, *, method: str = "bayes") -> Engine:
    configuration = {"method": method, "metric": {"name": "loss"}, "parameters": parameters}
    return make_engine(parse_sweep_configuration(configuration, where="sweep"), seed=1, wandb=process)


def tell(search: Engine, index: int, parameters: dict[str, Any], loss: float) -> None:
    search.tell(Trial(index, parameters, TrialState.FINISHED, loss))


def with_results(parameters: dict[str, Any], process: WandbProcess, results: int = 3) -> Engine:
    """An engine that was told of so many random runs."""
    search, chance = engine(parameters, process), engine(parameters, process, method="random")
    for index in range(results):
        tell(search, index, chance.ask(index) or {}, float(index))
    return search


def play(search: Engine, loss: Any, runs: int) -> list[dict[str, Any]]:
    points = []
    for index in range(runs):
        point = search.ask(index)
        assert point is not None
        tell(search, index, point, loss(point))
        points.append(point)
    return points


@needs_wandb_engine
def test_it_finds_a_minimum_better_than_chance_does() -> None:
    with wandb_process() as process:
        points = play(engine(X, process), lambda point: (point["x"] - 0.3) ** 2, 15)
    assert min(abs(point["x"] - 0.3) for point in points) < 0.01


@needs_wandb_engine
def test_it_says_the_same_for_the_same_seed_in_another_process() -> None:
    said = []
    for _ in range(2):
        with wandb_process() as process:
            said.append(with_results(X, process).ask(3))
    assert said[0] == said[1]


@needs_wandb_engine
def test_those_who_ask_at_once_get_different_points() -> None:
    with wandb_process() as process:
        search = with_results(X, process)
        points = []
        for index in range(3, 7):
            points.append(search.ask(index) or {})
            search.tell(Trial(index, points[-1], TrialState.PENDING))
    assert len({point["x"] for point in points}) == 4


@needs_wandb_engine
def test_nested_parameters_and_constants_are_kept() -> None:
    nested = {"net": {"parameters": {"lr": {"min": 0.1, "max": 0.2}, "deep": {"value": None}}}}
    with wandb_process() as process:
        point = with_results(nested, process).ask(3)
    assert point is not None
    assert 0.1 <= point["net"]["lr"] <= 0.2
    assert point["net"]["deep"] is None


@needs_wandb_engine
def test_its_numbers_are_those_of_json() -> None:
    space = {
        "q": {"distribution": "q_uniform", "min": 0, "max": 100, "q": 1},
        "log": {"distribution": "q_log_uniform_values", "min": 1, "max": 1000, "q": 1},
        "n": {"min": 1, "max": 50},
    }
    with wandb_process() as process:
        point = with_results(space, process).ask(3)
    assert json.loads(json.dumps(point)) == point
    assert {type(value) for value in (point or {}).values()} == {int}


@needs_wandb_engine
def test_categories_with_probabilities_need_not_be_numbers() -> None:
    odds = {"optimizer": {"values": ["sgd", "adam"], "probabilities": [0.3, 0.7]}} | X
    with wandb_process() as process:
        points = play(engine(odds, process), lambda point: point["x"], 5)
    assert {point["optimizer"] for point in points} <= {"sgd", "adam"}


def test_false_and_0_and_null_are_points_of_their_own(tmp_path: Path) -> None:
    asked = tmp_path / "asked"
    with wandb_process(RECORDS.replace("FILE", repr(str(asked)))) as process:
        search = engine({"v": {"values": [True, False, None, "", 0]}}, process)
        for index, value in enumerate([True, False, None, ""]):
            tell(search, index, {"v": value}, 1.0)
        search.ask(4)
    shown = json.loads(asked.read_text().splitlines()[0])["finished"]
    assert [point for point, _ in shown] == [[0.1], [0.3], [0.5], [0.7]]


@needs_wandb_engine
def test_values_that_are_none_of_the_space_are_left_out() -> None:
    with wandb_process() as process:
        search = with_results({"c": {"values": ["a", "b", "c", "d"]}} | X, process)
        tell(search, 3, {"c": "other", "x": 0.5}, 0.0)
        assert search.ask(4) is not None


@needs_wandb_engine
def test_a_finite_space_is_not_repeated_until_it_is_used_up() -> None:
    space = {"a": {"values": [1, 2, 3]}, "b": {"values": [True, False]}}
    with wandb_process() as process:
        points = play(engine(space, process), lambda point: point["a"] + point["b"], 6)
    assert len({json.dumps(point, sort_keys=True) for point in points}) == 6


def test_of_many_results_it_is_shown_the_best_and_the_latest(tmp_path: Path) -> None:
    asked = tmp_path / "asked"
    with wandb_process(RECORDS.replace("FILE", repr(str(asked)))) as process:
        with_results(X, process, results=300).ask(300)
    losses = [loss for _, loss in json.loads(asked.read_text())["finished"]]
    assert sorted(losses) == [float(number) for number in (*range(50), *range(250, 300))]


@needs_wandb_engine
def test_failed_and_infinite_results_are_no_trouble() -> None:
    with wandb_process() as process:
        search = with_results(X, process)
        search.tell(Trial(3, {"x": 0.9}, TrialState.FAILED))
        tell(search, 4, {"x": 0.8}, float("nan"))
        tell(search, 5, {"x": 0.7}, float("inf"))
        tell(search, 6, {"x": 0.6}, 1e308)
        point = search.ask(7)
    assert point is not None
    assert 0 <= point["x"] <= 1


@pytest.mark.parametrize(
    ("script", "why"),
    [
        (HANGS, "it didn't answer in time"),
        (RAISES, "ValueError: no"),
        (DIES, "its process ended with exit code 7"),
        (RAMBLES, "it suggested 7.5"),
    ],
)
def test_where_it_fails_chance_steps_in_and_the_log_says_so(
    script: str, why: str, caplog: pytest.LogCaptureFixture
) -> None:
    with wandb_process(script, limit_s=0.5) as process:
        point = with_results(X, process).ask(3)
    assert point is not None
    assert 0 <= point["x"] <= 1
    assert why in caplog.text


def test_an_engine_that_is_still_starting_is_not_waited_for(caplog: pytest.LogCaptureFixture) -> None:
    process = WandbProcess((sys.executable, "-c", HANGS_AT_START), ask_limit_s=0.1)
    search = with_results(X, process)
    points = [search.ask(index) for index in range(3, 8)]
    process.close()
    assert None not in points
    assert "goes on at random" not in caplog.text


def test_after_three_failures_in_a_row_it_is_not_asked_again(caplog: pytest.LogCaptureFixture) -> None:
    with wandb_process(RAISES) as process:
        search = with_results(X, process)
        points = [search.ask(index) for index in range(3, 9)]
    assert None not in points
    records = [record.levelno for record in caplog.records]
    assert records == [logging.WARNING] * 3 + [logging.ERROR]


def test_once_it_is_closed_an_ask_under_way_ends_and_none_begins(tmp_path: Path) -> None:
    os.mkfifo(heard := tmp_path / "heard")
    script = f"sys.stdin.readline()\nopen({str(heard)!r}, 'w').close()\n{HANGS}"
    with wandb_process(script, limit_s=60) as process, ThreadPoolExecutor(1) as threads:
        asking = threads.submit(process.ask, {"seed": 1})
        heard.read_text()  # returns once the child has read the question
        process.close()
        with pytest.raises(EngineFailedError):
            asking.result(timeout=30)
        with pytest.raises(EngineFailedError, match="it was closed"):
            process.ask({"seed": 1})


def test_it_is_started_again_after_its_death() -> None:
    once = """
line = sys.stdin.readline()
if '"seed": 1' in line:
    os._exit(1)
print('{"point": [0.25]}', flush=True)
"""
    with wandb_process(once) as process:
        with pytest.raises(EngineFailedError, match="exit code 1"):
            process.ask({"seed": 1})
        assert process.ask({"seed": 2}) == [0.25]
