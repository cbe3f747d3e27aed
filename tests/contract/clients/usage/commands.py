"""W&B's command line: sweeps from a file, its agent, the four verbs, an update."""

from __future__ import annotations

import os
import re
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import wandb
import yaml

from tests.contract.clients.usage.steps import Part, command

PROJECT = "commands"
METRIC = {"name": "loss", "goal": "minimize"}
CONFIG = {"program": "train.py", "method": "grid", "metric": METRIC, "parameters": {"x": {"values": [1, 2]}}}
PROGRAM = "import wandb\nwith wandb.init() as run: run.log({'loss': run.config['x']})\n"
part = Part()
made: dict[str, str] = {}
os.chdir(os.environ["HOME"])


def sweep(name: str) -> Any:
    api: Any = wandb.Api()
    return api.sweep(path(name))


def path(name: str) -> str:
    return f"local/{PROJECT}/{made[name]}"


def points(name: str) -> list[Any]:
    return sorted(run.config["x"] for run in sweep(name).runs)


@part.step("`wandb sweep` of a YAML file, and `wandb agent` with a program")
def _() -> None:
    Path("train.py").write_text(PROGRAM)
    Path("sweep.yaml").write_text(yaml.dump(CONFIG))
    said = command("sweep", "--project", PROJECT, "sweep.yaml")
    found = re.search(r"with ID: (\w+)", said)
    assert found is not None, said
    made["cli"] = found[1]
    command("agent", path("cli"))
    assert (points("cli"), sweep("cli").state) == ([1, 2], "FINISHED")


@part.refused("`wandb agent` on a sweep that has ended", "is not running")
def _() -> None:
    command("agent", path("cli"))


@part.step("`wandb sweep --resume` and `--pause`")
def _() -> None:
    for verb, state in (("--resume", "RUNNING"), ("--pause", "PAUSED")):
        command("sweep", verb, path("cli"))
        assert sweep("cli").state == state


@part.step("`wandb sweep --update` of a paused sweep: only new points are run")
def _() -> None:
    Path("more.yaml").write_text(yaml.dump(CONFIG | {"parameters": {"x": {"values": [1, 2, 3, 4]}}}))
    command("sweep", "--update", path("cli"), "more.yaml")
    command("sweep", "--resume", path("cli"))
    command("agent", path("cli"))
    assert points("cli") == [1, 2, 3, 4]


@part.step("`wandb sweep --stop` and `--cancel`")
def _() -> None:
    for name, verb, state in (("stopped", "--stop", "FINISHED"), ("canceled", "--cancel", "CANCELED")):
        made[name] = wandb.sweep(CONFIG, project=PROJECT)
        command("sweep", verb, path(name))
        assert sweep(name).state == state


def has_scheduler() -> bool:
    return find_spec("wandb.sdk.sweeps") is not None


def schedule(name: str, config: dict[str, Any]) -> str:
    """Run a scheduler and an agent on a new sweep until both have left; return what the scheduler printed."""
    made[name] = wandb.sweep(
        {"program": "train.py", "metric": METRIC, "run_cap": 3} | config, project=PROJECT
    )
    with ThreadPoolExecutor(1) as threads:
        agent = threads.submit(command, "agent", path(name))
        try:
            return command("sweep-scheduler", "--batch-size", "2", "--poll-interval", "0.5", path(name))
        finally:
            if sweep(name).state != "FINISHED":  # or the agent would wait for a scheduler that failed
                command("sweep", "--stop", path(name))
            agent.result()


@part.step(
    "`wandb sweep-scheduler` with Optuna: its points are run, and it ends with the sweep", needs=has_scheduler
)
def _() -> None:
    space = {"x": {"min": 0.0, "max": 1.0}}
    said = schedule("led", {"method": "bayes", "parameters": space, "scheduler": {"engine": "optuna"}})
    enqueued = dict(re.findall(r'Enqueued run (\w+) with config {"x": ([^}]+)}', said))
    finished = {run.id: run.config["x"] for run in sweep("led").runs if run.state == "finished"}
    assert len(finished) == 3
    assert finished == {name: float(enqueued[name]) for name in finished}
    assert sweep("led").state == "FINISHED"


@part.step("`wandb sweep-scheduler` with method custom and a search space of its own", needs=has_scheduler)
def _() -> None:
    Path("space.py").write_text("def space(trial):\n    return {'x': trial.suggest_int('x', 5, 9)}\n")
    scheduler = {"engine": "optuna", "source": "space.py", "search_space": "space"}
    schedule("custom", {"method": "custom", "scheduler": scheduler})
    assert all(5 <= run.config["x"] <= 9 for run in sweep("custom").runs)
    assert sweep("custom").state == "FINISHED"


part.run()
