"""W&B's command line: sweeps from a file, the agent, the four verbs, an update."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import wandb
import yaml

from tests.contract.clients.usage.steps import Part, api, command

PROJECT = "commands"
CONFIG = {
    "program": "train.py",
    "method": "grid",
    "metric": {"name": "loss", "goal": "minimize"},
    "parameters": {"x": {"values": [1, 2]}, "opt": {"parameters": {"lr": {"value": 0.1}}}},
}
PROGRAM = """
import sys, time, wandb
with wandb.init() as run:
    x = run.config["x"]
    print("arguments", *sys.argv[1:], file=open("arguments", "a"))
    run.log({"loss": x})
    if x == 1:
        wandb.Api().run(run.path).stop()
        for _ in range(600):
            time.sleep(0.1)  # until the agent ends it
time.sleep(2 if x == 2 else 0)  # longer than the agent needs to request another run
print(x, file=open("left", "a"))
"""
part = Part()
made: dict[str, str] = {}


def sweep(name: str) -> Any:
    return api().sweep(path(name))


def path(name: str) -> str:
    return f"local/{PROJECT}/{made[name]}"


def states(name: str) -> list[Any]:
    return sorted((run.config["x"], run.state) for run in sweep(name).runs)


@part.step("`wandb sweep` of a YAML file, and `wandb agent` with a program")
def _() -> None:
    Path("train.py").write_text(PROGRAM)
    Path("sweep.yaml").write_text(yaml.dump(CONFIG))
    said = command("sweep", "--project", PROJECT, "sweep.yaml")
    found = re.search(r"with ID: (\w+)", said)
    assert found is not None, said
    made["cli"] = found[1]
    command("agent", path("cli"))
    lines = [f"arguments --opt={{'lr': 0.1}} --x={x}" for x in (1, 2)]
    assert (Path("arguments").read_text().splitlines(), sweep("cli").state) == (lines, "FINISHED")


part.finds(
    "run.stop ends the program of a run, and the agent goes on",
    lambda: states("cli"),
    [(1, "killed"), (2, "finished")],
)
part.finds("a program goes on after its run's end", lambda: Path("left").read_text(), "2\n")
part.refuses(
    "`wandb agent` on a sweep that has ended", lambda: command("agent", path("cli")), "is not running"
)


@part.step("`wandb sweep --resume`, `--pause`, `--stop` and `--cancel`")
def _() -> None:
    made["verbs"] = wandb.sweep(CONFIG, project=PROJECT)
    for verb, state in (
        ("--resume", "RUNNING"),
        ("--pause", "PAUSED"),
        ("--stop", "FINISHED"),
        ("--resume", "RUNNING"),
        ("--cancel", "CANCELED"),
    ):
        command("sweep", verb, path("verbs"))
        assert sweep("verbs").state == state


@part.step("`wandb sweep --update` of a paused sweep: only new points are run")
def _() -> None:
    command("sweep", "--resume", path("cli"))
    command("sweep", "--pause", path("cli"))
    Path("more.yaml").write_text(yaml.dump(CONFIG | {"parameters": {"x": {"values": [1, 2, 3]}}}))
    command("sweep", "--update", path("cli"), "more.yaml")
    command("sweep", "--resume", path("cli"))
    command("agent", path("cli"))
    assert states("cli") == [(1, "killed"), (2, "finished"), (3, "finished")]
