"""Sweeps by wandb.sweep and wandb.agent, ended in every way, looked at by the API."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Any

import wandb

from tests.contract.clients.quick_agent import run_agent
from tests.contract.clients.usage.steps import Part

PROJECT = "tuning"
METRIC = {"name": "loss", "goal": "minimize"}
UNIFORM = {"x": {"min": 0.0, "max": 1.0}}
LOG_FOR_S = 20.0
part = Part()
made: dict[str, str] = {}
os.chdir(os.environ["HOME"])


def sweep(name: str) -> Any:
    api: Any = wandb.Api()
    return api.sweep(f"local/{PROJECT}/{made[name]}")


def make(name: str, config: dict[str, Any], **options: Any) -> str:
    made[name] = wandb.sweep(
        {"metric": METRIC, "method": "random", "parameters": UNIFORM} | config, project=PROJECT, **options
    )
    return made[name]


def log_x() -> None:
    with wandb.init() as run:
        run.log({"loss": run.config["x"]})


def perform(name: str, main: Callable[[], None] = log_x, count: int | None = None) -> Any:
    """Run the function agent on a sweep, and return the sweep then."""
    run_agent(made[name], main, project=PROJECT, count=count)
    return sweep(name)


def points(found: Any) -> list[Any]:
    return sorted(run.config["x"] for run in found.runs)


@part.step("wandb.sweep of a dict, method grid, and wandb.agent with a function")
def _() -> None:
    make("grid", {"name": "my sweep", "method": "grid", "parameters": {"x": {"values": [1, 2, 3]}}})
    assert points(perform("grid")) == [1, 2, 3]


@part.step("sweep.state, name, config, expected_run_count")
def _() -> None:
    found = sweep("grid")
    assert (found.state, found.name, found.expected_run_count) == ("FINISHED", "my sweep", 3)
    assert found.config["method"] == "grid"


@part.step("sweep.best_run, sweep.order")
def _() -> None:
    assert sweep("grid").best_run().config["x"] == 1
    assert sweep("grid").order == "+summary_metrics.loss"


@part.step("sweep.runs, run.sweep")
def _() -> None:
    runs = list(sweep("grid").runs)
    assert {run.state for run in runs} == {"finished"}
    assert runs[0].sweep.id == made["grid"]


@part.step("project.sweeps")
def _() -> None:
    api: Any = wandb.Api()
    assert made["grid"] in [found.id for found in api.project(PROJECT, "local").sweeps()]


@part.step("method random with run_cap")
def _() -> None:
    make("random", {"run_cap": 3})
    found = perform("random")
    assert (len(set(points(found))), found.state) == (3, "FINISHED")


@part.step("method bayes with prior_runs")
def _() -> None:
    prior = [run.id for run in sweep("random").runs]
    make("bayes", {"method": "bayes", "run_cap": 2}, prior_runs=prior)
    assert len(points(perform("bayes"))) == 2


@part.step("metric.target ends the sweep")
def _() -> None:
    make("target", {"metric": METRIC | {"target": 2.0}})
    found = perform("target", count=5)
    assert (len(points(found)), found.state) == (1, "FINISHED")


@part.step("early_terminate: Hyperband stops the worse runs, and only those")
def _() -> None:
    def log_long() -> None:
        with wandb.init() as run:
            worse = run.config["x"] > 1
            deadline = time.monotonic() + LOG_FOR_S
            for step in range(1000):
                run.log({"loss": run.config["x"]})
                if (step > 4 and not worse) or time.monotonic() > deadline:
                    return
                time.sleep(0.05)

    rule = {"type": "hyperband", "min_iter": 2, "eta": 3}
    grid = {"method": "grid", "parameters": {"x": {"values": [1, 2]}}, "early_terminate": rule}
    make("hyperband", grid)
    found = perform("hyperband", log_long)
    states = sorted((run.config["x"], run.state) for run in found.runs)
    assert states == [(1, "finished"), (2, "killed")], states


@part.step("sweep.enqueue_run", needs=lambda: hasattr(sweep("grid"), "enqueue_run"))
def _() -> None:
    make("queue", {"run_cap": 2})
    name = sweep("queue").enqueue_run({"x": 5.0})
    found = {run.id: run.config["x"] for run in perform("queue").runs}
    assert found.pop(name) == 5.0
    assert all(0 <= x <= 1 for x in found.values())
    make("ended queue", {"metric": METRIC | {"target": 2.0}})
    first, second = (sweep("ended queue").enqueue_run({"x": x}) for x in (1.0, 5.0))
    states = {run.id: run.state for run in perform("ended queue").runs}
    assert states == {first: "finished", second: "killed"}, states


@part.step("scheduler, metrics and description are kept")
def _() -> None:
    make("kept", {"description": "why", "metrics": [METRIC], "scheduler": {"engine": "wandb"}})
    config = sweep("kept").config
    assert (config["description"], config["metrics"], config["scheduler"]) == (
        "why",
        [METRIC],
        {"engine": "wandb"},
    )


@part.step("sweep.agents, agent.runs", needs=lambda: hasattr(sweep("grid"), "agents"))
def _() -> None:
    assert [len(list(agent.runs())) for agent in sweep("grid").agents()] == [3]


@part.refused("wandb.sweep of a wrong configuration", "allowed: less than max")
def _() -> None:
    make("wrong", {"parameters": {"x": {"min": 1.0, "max": 0.0}}})


part.run()
