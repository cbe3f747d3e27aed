"""W&B's command line: sweeps from a file, its agent, the four verbs, an update."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import wandb
import yaml

from tests.contract.clients.usage.steps import Part

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


def command(*words: str) -> str:
    """Run W&B's command line and return what it printed."""
    wandb_command = str(Path(sys.executable).with_name("wandb"))
    done = subprocess.run([wandb_command, *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


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


@part.refused(
    "`wandb sweep-scheduler`",
    "does not support the local sweep scheduler",
    needs=lambda: find_spec("wandb.sdk.sweeps") is not None,
)
def _() -> None:
    command("sweep-scheduler", path("cli"))


part.run()
