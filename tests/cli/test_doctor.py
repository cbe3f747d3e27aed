"""`parallel-hpo doctor` as a user calls it."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

Command = Callable[..., "subprocess.CompletedProcess[str]"]

CONFIG = {"hpo": {"backend": "local", "directory": "sweeps", "sweep_id": "x"}}
TUNED = {"method": "random", "metric": {"name": "loss"}, "parameters": {"x": {"value": 1}}}


def test_findings_are_lines_with_advice(tmp_path: Path, command: Command) -> None:
    config = {"hpo": CONFIG["hpo"] | {"sweep_configuration": TUNED}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "train.py").write_text("def main(): pass\n")
    done = command("doctor", "config.json", "train.py:main", WANDB_AGENT_DISABLE_FLAPPING="true")
    assert done.returncode == 0, done.stdout
    assert "GOOD     target: train.py:main can be loaded, called and pickled\n" in done.stdout
    assert "GOOD     metric: whether runs log 'loss' is checked only when they run" in done.stdout
    assert "WARNING  environment: WANDB_AGENT_DISABLE_FLAPPING=true ends" in done.stdout
    assert "→ unset WANDB_AGENT_DISABLE_FLAPPING\n" in done.stdout


def test_a_bad_finding_gives_exit_code_1(tmp_path: Path, command: Command) -> None:
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    (tmp_path / "train.py").write_text("import nonsuch_module\n")
    done = command("doctor", "config.json", "train.py:main", "--json")
    assert done.returncode == 1, done.stderr
    content = json.loads(done.stdout)
    assert not content["ok"]
    (target,) = [finding for finding in content["findings"] if finding["subject"] == "target"]
    assert target["level"] == "bad"


def test_a_wrong_configuration_is_a_finding(tmp_path: Path, command: Command) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"hpo": {"wrokers": 3}}))
    done = command("doctor", "config.json")
    assert done.returncode == 1
    assert "BAD      configuration: config.json: hpo.wrokers: unknown key" in done.stdout
    assert "GOOD     wandb: version" in done.stdout


def test_only_the_machine_is_examined_without_a_configuration(command: Command) -> None:
    done = command("doctor", "--json")
    assert {"driver", "mask", "workers", "wandb", "open files"} <= {
        finding["subject"] for finding in json.loads(done.stdout)["findings"]
    }
