"""A sweep whose runs never log its metric says so after the first of them, and of no other."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import pytest

from tests.processes.conftest import RANDOM, RealSweep, outcomes

MAINS: Final = """
import wandb

def misnamed():
    wandb.init().log({"val_loss": 0.5, "acc": 0.9})

def diverging():
    wandb.init().log({"loss": float("nan")})
"""


@pytest.mark.parametrize(
    ("main", "method", "words"),
    [
        ("misnamed", "bayes", "got nothing; it logged acc, val_loss; the nearest name is 'val_loss"),
        ("diverging", "random", "got NaN; it logged loss"),
    ],
)
def test_the_first_run_without_the_metric_is_warned_of_once(
    sweep: RealSweep, tmp_path: Path, main: str, method: str, words: str
) -> None:
    mains = tmp_path / "train.py"
    mains.write_text(MAINS)
    space: dict[str, Any] = RANDOM | {"method": method, "metric": {"name": "loss", "goal": "minimize"}}
    ended = sweep.start(main, mains=mains, sweep=space, count=2, workers=1, arguments=("-q",)).finish()
    assert outcomes(ended.summary) == ["finished"] * 2, ended.stderr
    assert ended.code == ended.summary["exit_code"] == 5
    # Beside it a sweep may say that it has killed what another had left.
    (line,) = [line for line in ended.stderr.splitlines() if line.startswith("warning: a run ")]
    assert line.startswith(f"warning: a run finished without a number for the sweep's metric 'loss': {words}")
    assert line.endswith("; bayes can't learn without the metric's values") == (method == "bayes")
