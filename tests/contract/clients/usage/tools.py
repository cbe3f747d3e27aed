"""W&B's command line: files, the login, and W&B's own check of a server."""

from __future__ import annotations

import os
from pathlib import Path

import wandb

from tests.contract.clients.usage.steps import Part, command

PROJECT = "tools"
PROGRAM = "print('a program')"
part = Part()
os.chdir(os.environ["HOME"])


@part.step("`wandb artifact put`, `ls`, `get`")
def _() -> None:
    Path("train.py").write_text(PROGRAM)
    command("artifact", "put", "train.py", "--name", f"{PROJECT}/program", "--type", "code")
    assert "program:v0" in command("artifact", "ls", PROJECT)
    command("artifact", "get", f"local/{PROJECT}/program:latest", "--root", "got")
    assert Path("got/train.py").read_text() == PROGRAM


@part.step("`wandb pull`, `wandb restore`")
def _() -> None:
    with wandb.init(project=PROJECT, id="pulled", config={"x": 1}) as run:
        run.log({"loss": 1})
    assert "wandb-summary.json" in command("pull", "--entity", "local", "--project", PROJECT, "pulled")
    assert "Restored config" in command("restore", f"local/{PROJECT}/pulled")


@part.step("`wandb login`, `wandb status`")
def _() -> None:
    assert "logged in" in command("login")
    assert "base_url" in command("status")


@part.refused("`wandb launch-agent`", "launch queues")
def _() -> None:
    command("launch-agent", "--queue", "queue", "--entity", "local")


@part.step("`wandb verify`")
def _() -> None:
    command("verify")


part.run()
