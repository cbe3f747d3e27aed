"""Runs that produce all data that a server stores, and end in every way, as their `kind` says."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path
from typing import Any, Final

import wandb

KINDS: Final = ("resumed", "rich", "failing", "dying_once", "dying", "interrupted", "using", "silent")
SWEEP: Final[dict[str, Any]] = {
    "name": "all kinds",
    "method": "grid",
    "metric": {"name": "loss", "goal": "minimize"},
    "parameters": {"kind": {"values": list(KINDS)}, "nested": {"parameters": {"lr": {"value": 0.1}}}},
}
LONG: Final = 60_000
"""Characters that no block of the client's file holds."""


def main() -> None:
    """Perform a run of the configured kind."""
    with wandb.init(tags=["a", "b"], notes="a note", group="g", job_type="train") as run:
        print("begun as", run.config["kind"])
        print("to stderr", file=sys.stderr)
        for step in range(3):
            run.log(
                {"loss": 1.0 / (step + 1), "a.b": step, "nested": {"deep": step}, "nothing": float("nan")}
            )
        globals()[run.config["kind"]](run)


def rich(run: Any) -> None:
    """Log values that are no numbers, files and artifacts, with gaps between steps."""
    run.define_metric("epoch")
    run.define_metric("val/*", step_metric="epoch", summary="min")
    run.log({"epoch": 1, "val/loss": 2.0, "long": "x" * LONG, "infinite": float("inf")}, step=10)
    run.log({"html": wandb.Html("<b>hi</b>"), "table": wandb.Table(columns=["a"], data=[[1], [2]])}, step=20)
    run.summary["own"] = {"deep": 1}
    file = Path(run.dir, "deep", "own.txt")
    file.parent.mkdir()
    file.write_text("own")
    run.save(str(file), base_path=run.dir)
    for content in ("first", "second"):
        artifact = wandb.Artifact("model", type="model", description=content, metadata={"content": content})
        with artifact.new_file("dir/model.txt") as model:
            model.write(content)
        run.log_artifact(artifact, aliases=["newest", content]).wait()


def resumed(run: Any) -> None:
    """Wait in the first attempt until the sweep is stopped."""
    if os.environ["PARALLEL_HPO_ATTEMPT"] == "1":
        Path(os.environ["JOURNAL"]).touch()
        time.sleep(600)
    run.log({"loss": 0.1})


def failing(_run: Any) -> None:
    """Fail with a traceback."""
    raise ValueError("no good")


def dying_once(run: Any) -> None:
    """Die in the first attempt."""
    if os.environ["PARALLEL_HPO_ATTEMPT"] == "1":
        dying(run)


def dying(_run: Any) -> None:
    """Die."""
    os.kill(os.getpid(), signal.SIGKILL)


def interrupted(run: Any) -> None:
    """End as by Ctrl-C."""
    run.finish(exit_code=255)


def using(run: Any) -> None:
    """Use another run's artifact, and log a new version."""
    found = run.use_artifact("model:first")
    artifact = wandb.Artifact("model", type="model")
    with artifact.new_file("model.txt") as model:
        model.write(f"after {found.version}")
    run.log_artifact(artifact).wait()


def silent(_run: Any) -> None:
    """Log nothing more."""
