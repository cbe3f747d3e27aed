"""Sweeps by wandb.sweep and wandb.agent, ended in every way, and read by the API."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import wandb
import yaml
from wandb.agents.pyagent import Agent

from tests.contract.clients.usage.steps import LAST_OUTPUT_S, Part, api

PROJECT = "tuning"
METRIC = {"name": "loss", "goal": "minimize"}
UNIFORM = {"x": {"min": 0.0, "max": 1.0}}
GRID: dict[str, Any] = {"method": "grid", "parameters": {"x": {"values": [1, 2]}}}
LOGGED = {1: (5.0, 1.0, 4.0), 2: (3.0, 2.0, 3.5)}
"""Logged values by the run's x: which run is better depends on the summary."""
LOGGED_NAMES = ("plain", "low", "high", "both", "middle")
SUMMARIES = {"low": "min", "high": "max", "both": "min,max", "middle": "mean", "val.loss": "min"}
BEST = {
    "+summary_metrics.plain": 2,
    "-summary_metrics.plain": 1,
    "+summary_metrics.low": 1,
    "-summary_metrics.low": 2,
    "-summary_metrics.high": 1,
    "+summary_metrics.both": 1,
    "-summary_metrics.both": 1,
    "+summary_metrics.middle": 2,
    "+summary_metrics.val.loss": 1,
}
"""The x of the best run by the order of `best_run`: + to minimize, - to maximize."""
part = Part()
made: dict[str, str] = {}


def sweep(name: str) -> Any:
    return api().sweep(f"local/{PROJECT}/{made[name]}")


def make(name: str, config: dict[str, Any], **options: Any) -> str:
    made[name] = wandb.sweep(
        {"metric": METRIC, "method": "random", "parameters": UNIFORM} | config, project=PROJECT, **options
    )
    return made[name]


def log_x() -> None:
    with wandb.init() as run:
        run.log({"loss": run.config["x"]})


def perform(name: str, main: Callable[[], None] = log_x, count: int | None = None) -> Any:
    """Run the function agent on a sweep, and return the sweep."""
    wandb.agent(made[name], main, project=PROJECT, count=count)
    return sweep(name)


def points(found: Any) -> list[Any]:
    return sorted(run.config["x"] for run in found.runs)


def states(found: Any) -> list[Any]:
    return sorted((run.config["x"], run.state) for run in found.runs)


def let_agents_beat_quickly() -> None:
    """Use the client's own switch for tests: agents beat five times a second.

    They leave when they are told to, where stock they see that only after up to 10 s without a job.
    """
    inside: Any = Agent
    inside.HEARTBEAT_SLEEP_SECONDS = 0.2
    leave = inside._exit

    def leave_and_be_seen(agent: Any) -> None:
        leave(agent)
        agent._queue.put(None)  # it checks its exit flag before its queue

    inside._exit = leave_and_be_seen


let_agents_beat_quickly()


@part.step("wandb.sweep of a dict, method grid, nested parameters, and wandb.agent with a function")
def _() -> None:
    nested = {"x": {"values": [3, 1, 2]}, "opt": {"parameters": {"lr": {"value": 0.1}}}}
    make("grid", {"name": "my sweep", "method": "grid", "parameters": nested})
    found = perform("grid")
    assert states(found) == [(x, "finished") for x in (1, 2, 3)]
    assert {run.config["opt"]["lr"] for run in found.runs} == {0.1}


part.finds(
    "sweep.state, name, expected_run_count, order",
    lambda: [getattr(sweep("grid"), name) for name in ("state", "name", "expected_run_count", "order")],
    ["FINISHED", "my sweep", 3, "+summary_metrics.loss"],
)
part.finds("sweep.config", lambda: sweep("grid").config["method"], "grid")
part.finds("sweep.best_run", lambda: sweep("grid").best_run().config["x"], 1)
part.finds(
    "sweep.runs, run.sweep", lambda: {run.sweep.id for run in sweep("grid").runs} == {made["grid"]}, True
)


@part.step("sweep.best_run by what define_metric(summary=…) makes of the metric")
def _() -> None:
    def log_summarised() -> None:
        with wandb.init() as run:
            for name, summary in SUMMARIES.items():
                run.define_metric(name, summary=summary)
            for value in LOGGED[run.config["x"]]:
                run.log(dict.fromkeys(LOGGED_NAMES, value) | {"val": {"loss": value}})

    make("summarised", {**GRID, "metric": {"name": "both", "goal": "maximize"}})
    found = perform("summarised", log_summarised)
    assert (found.best_run().config["x"], found._attrs["bestLoss"]) == (1, 5.0)
    best = {order: found.best_run(order).config["x"] for order in BEST}
    assert best == BEST, best


@part.step("project.sweeps")
def _() -> None:
    assert made["grid"] in [found.id for found in api().project(PROJECT, "local").sweeps()]


@part.step("method random with run_cap")
def _() -> None:
    make("random", {"run_cap": 2})
    found = perform("random")
    assert (len(set(points(found))), found.state) == (2, "FINISHED")


@part.step("method bayes with prior_runs")
def _() -> None:
    prior = [run.id for run in sweep("random").runs]
    make("bayes", {"method": "bayes", "run_cap": 2}, prior_runs=prior)
    assert len(points(perform("bayes"))) == 2


@part.step("a run of a sweep that begins as a fork, and that is rewound")
def _() -> None:
    with wandb.init(project=PROJECT, id="trunk") as run:
        for loss in (9, 8, 7):
            run.log({"loss": loss})

    def go_on() -> None:
        with wandb.init(fork_from="trunk?_step=1") as run:
            run.log({"loss": run.config["x"]})

    make("forks", GRID)
    found = {run.config["x"]: run for run in perform("forks", go_on).runs}
    assert [row["loss"] for row in found[2].scan_history()] == [9, 8, 2]
    # wandb client: older versions leave the agent's last run in the environment.
    os.environ.pop("WANDB_RUN_ID", None)
    with wandb.init(project=PROJECT, resume_from=f"{found[2].id}?_step=1") as run:
        assert run.sweep_id == made["forks"]
        run.log({"loss": 0.5})
    assert sweep("forks").best_run().id == found[2].id


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
            deadline = time.monotonic() + LAST_OUTPUT_S
            for step in range(1000):
                run.log({"loss": run.config["x"]})
                if (step > 4 and not worse) or time.monotonic() > deadline:
                    return
                time.sleep(0.05)

    make("hyperband", {**GRID, "early_terminate": {"type": "hyperband", "min_iter": 2, "eta": 3}})
    found = states(perform("hyperband", log_long))
    assert found == [(1, "finished"), (2, "killed")], found


@part.step("run.stop of a sweep's run: it is killed, and the agent goes on")
def _() -> None:
    returned: list[int] = []

    def stop_the_first() -> None:
        with wandb.init() as run:
            run.log({"loss": 1})
            if run.config["x"] == 1:
                api().run(run.path).stop()
                deadline = time.monotonic() + LAST_OUTPUT_S
                while time.monotonic() < deadline:
                    time.sleep(0.05)
            returned.append(run.config["x"])

    make("stopped", GRID)
    assert states(perform("stopped", stop_the_first)) == [(1, "killed"), (2, "finished")]
    assert returned == [2]


@part.step("run.mark_preempting in a sweep: the run is resumed under the same id")
def _() -> None:
    seen: list[str] = []

    def be_preempted_once() -> None:
        run = wandb.init()
        seen.append(run.id)
        if len(seen) == 1:
            run.mark_preempting()
        run.log({"loss": 1})
        run.finish(exit_code=2 - len(seen))

    make("preempted", {"method": "grid", "parameters": {"x": {"values": [1]}}})
    assert states(perform("preempted", be_preempted_once, count=2)) == [(1, "finished")]
    assert seen[1:] == seen[:1]


@part.step("a function that never calls wandb.init is called twice, and the sweep goes on")
def _() -> None:
    calls: list[int] = []

    def start_only_the_second() -> None:
        x = yaml.safe_load(Path(os.environ["WANDB_SWEEP_PARAM_PATH"]).read_text())["x"]["value"]
        calls.append(x)
        if x == 2:
            log_x()

    make("never", GRID)
    found = perform("never", start_only_the_second, count=3)
    assert (calls, sorted(run.state for run in found.runs)) == ([1, 1, 2], ["failed", "finished"])


@part.step("sweep.enqueue_run")
def _() -> None:
    make("queue", {"run_cap": 2})
    name = sweep("queue").enqueue_run({"x": 5.0})
    found = {run.id: run.config["x"] for run in perform("queue").runs}
    assert found.pop(name) == 5.0
    assert all(0 <= x <= 1 for x in found.values())
    make("ended queue", {"metric": METRIC | {"target": 2.0}})
    for x in (1.0, 5.0):
        sweep("ended queue").enqueue_run({"x": x})
    assert states(perform("ended queue")) == [(1.0, "finished"), (5.0, "killed")]


@part.step("scheduler, metrics and description are kept")
def _() -> None:
    kept = {"description": "why", "metrics": [METRIC], "scheduler": {"engine": "wandb"}}
    make("kept", kept)
    assert kept.items() <= sweep("kept").config.items()


part.finds(
    "sweep.agents, agent.runs", lambda: [len(list(each.runs())) for each in sweep("grid").agents()], [3]
)
part.refuses(
    "wandb.sweep of a wrong configuration",
    lambda: make("wrong", {"parameters": {"x": {"min": 1.0, "max": 0.0}}}),
    "allowed: less than max",
)
part.refuses(
    "wandb.sweep of a search without a metric",
    lambda: wandb.sweep({"method": "bayes", "parameters": UNIFORM}),
    "metric",
)
part.refuses(
    "Api.sweep of one that isn't there",
    lambda: api().sweep("local/p/nobody"),
    "Could not find sweep",
)
part.refuses(
    "wandb.agent on a sweep that isn't there",
    lambda: wandb.agent("local/p/nobody", log_x, count=1),
    "sweep nobody doesn't exist",
)
