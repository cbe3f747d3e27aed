"""W&B's command line: its own scheduler, files, the login, and W&B's own check of a server."""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import wandb

from tests.contract.clients.usage.steps import Part, api, command

PROJECT = "tools"
SWEEP = {"program": "train.py", "metric": {"name": "loss", "goal": "minimize"}, "run_cap": 3}
PROGRAM = "import wandb\nwith wandb.init() as run: run.log({'loss': run.config['x']})\n"
SPACE = "def space(trial):\n    return {'x': trial.suggest_int('x', 5, 9)}\n"
part = Part()


def schedule(config: dict[str, Any]) -> tuple[str, Any]:
    """Run a new sweep with a scheduler and an agent; return the output and the sweep."""
    Path("train.py").write_text(PROGRAM)
    path = f"local/{PROJECT}/{wandb.sweep(SWEEP | config, project=PROJECT)}"
    with ThreadPoolExecutor(1) as threads:
        agent = threads.submit(command, "agent", path)
        try:
            said = command("sweep-scheduler", "--batch-size", "2", "--poll-interval", "0.5", path)
        finally:
            if api().sweep(path).state != "FINISHED":  # or the agent would wait for a scheduler that failed
                command("sweep", "--stop", path)
            agent.result()
    return said, api().sweep(path)


@part.step(
    "`wandb sweep-scheduler` with Optuna: its points are run, and it ends with the sweep",
    needs="wandb.sdk.sweeps",
)
def _() -> None:
    space = {"x": {"min": 0.0, "max": 1.0}}
    said, sweep = schedule({"method": "bayes", "parameters": space, "scheduler": {"engine": "optuna"}})
    enqueued = dict(re.findall(r'Enqueued run (\w+) with config {"x": ([^}]+)}', said))
    finished = {run.id: run.config["x"] for run in sweep.runs if run.state == "finished"}
    assert (len(finished), sweep.state) == (3, "FINISHED")
    assert finished == {name: float(enqueued[name]) for name in finished}


@part.step(
    "`wandb sweep-scheduler` with method custom and a search space of its own", needs="wandb.sdk.sweeps"
)
def _() -> None:
    Path("space.py").write_text(SPACE)
    scheduler = {"engine": "optuna", "source": "space.py", "search_space": "space"}
    _, sweep = schedule({"method": "custom", "scheduler": scheduler})
    assert all(5 <= run.config["x"] <= 9 for run in sweep.runs)
    assert sweep.state == "FINISHED"


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


part.finds("`wandb login`", lambda: "logged in" in command("login"), True)
part.finds("`wandb status`", lambda: "base_url" in command("status"), True)
part.refuses(
    "`wandb launch-agent`",
    lambda: command("launch-agent", "--queue", "queue", "--entity", "local"),
    "launch queues",
)
part.finds("`wandb verify`", lambda: command("verify") != "", True)
