"""One real sweep from the command line, with wandb's own client against the embedded server."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

from parallel_hpo.cli.options import PANELS
from parallel_hpo.config.section import HpoSection

Command = Callable[..., "subprocess.CompletedProcess[str]"]

TRAIN = """
import sys
import wandb

def main():
    with wandb.init() as run:
        print("arguments:", sys.argv)
        run.log({"loss": run.config["lr"]})
"""
SWEEP = """
method: grid
metric: {name: loss, goal: minimize}
parameters:
  lr: {values: [0.5, 0.25]}
"""


def test_a_sweep_file_and_a_target_give_a_summary(tmp_path: Path, command: Command) -> None:
    (tmp_path / "train.py").write_text(TRAIN)
    (tmp_path / "sweep.yaml").write_text(SWEEP)
    options = ("--workers", "1", "--backend", "local", "--directory", "sweeps", "--name", "night", "--json")
    done = command("run", "sweep.yaml", "train.py:main", *options, "--", "--epochs", "3")
    assert done.returncode == 0, done.stderr
    summary = json.loads(done.stdout)
    assert (summary["finished"], summary["lost"], summary["best"]["value"]) == (2, 0, 0.25)
    assert "train.py', '--epochs', '3']" in done.stderr
    assert f"best: run {summary['best']['run_id']}  loss=0.25  lr=0.25\n" in done.stderr
    assert json.loads((tmp_path / "sweeps" / summary["sweep_id"] / "summary.json").read_text()) == summary
    assert "night" in command("status", "--directory", "sweeps").stdout


def test_an_existing_sweep_is_not_renamed(tmp_path: Path, command: Command) -> None:
    (tmp_path / "sweep.yaml").write_text(SWEEP)
    done = command("run", "sweep.yaml", "--name", "night", "--sweep-id", "abc", "--dry-run")
    assert (done.returncode, "--name names a new sweep" in done.stderr) == (2, True)


def test_the_help_has_each_key_of_the_section_in_one_panel() -> None:
    keys = [key for panel in PANELS.values() for key in panel]
    assert sorted(keys) == sorted(HpoSection.model_fields.keys() - {"kind", "apply", "sweep_configuration"})
