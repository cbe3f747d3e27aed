"""The examples of `scripts/batch` can be read, and name commands and options that there are."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Final

import pytest
import typer
import yaml

from parallel_hpo.cli.app import app

BATCH: Final = Path(__file__).parents[2] / "scripts/batch"
_CALL: Final = re.compile(r"parallel[-_]hpo (run|join)\b([^\n)&;]*)")
_OPTION: Final = re.compile(r"(?<=[\s\"])--[a-z-]+")


def options_of_calls(text: str) -> list[tuple[str, set[str]]]:
    """Return which command each call names, and with which options."""
    calls = _CALL.findall(text.replace("\\\n", " ").replace('"${hpo[@]}"', "parallel-hpo run"))
    return [(command, set(_OPTION.findall(rest))) for command, rest in calls]


@pytest.mark.parametrize("example", sorted(BATCH.iterdir()), ids=lambda path: path.name)
def test_an_example_calls_commands_with_options_that_there_are(example: Path) -> None:
    commands: dict[str, Any] = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    calls = options_of_calls(example.read_text())
    assert calls
    for command, options in calls:
        known = commands[command].get_params(typer.Context(commands[command]))
        assert options <= {name for each in known for name in each.opts}


def test_a_pod_joins_with_what_its_secret_has() -> None:
    job = yaml.safe_load((BATCH / "kubernetes-join.yaml").read_text())
    assert (job["kind"], job["spec"]["completionMode"]) == ("Job", "Indexed")
    (container,) = job["spec"]["template"]["spec"]["containers"]
    assert {each["name"] for each in container["env"]} == {"SWEEP", "WANDB_BASE_URL", "WANDB_API_KEY"}
    assert container["command"][-1].startswith('exec parallel-hpo join "$SWEEP" ')


def test_a_machine_of_skypilot_joins_with_what_it_is_given() -> None:
    task = yaml.safe_load((BATCH / "skypilot-join.yaml").read_text())
    assert {*task["envs"], *task["secrets"]} == {"SWEEP", "WANDB_BASE_URL", "WANDB_API_KEY"}
    assert task["run"].startswith('parallel-hpo join "$SWEEP" ')
