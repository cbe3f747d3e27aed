"""W&B's own command line: a sweep from a file, its agent with a program, and the four verbs."""

from __future__ import annotations

import base64
import json
import re
import urllib.request
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.contract.serving import CLIENTS, Server

CONFIG: dict[str, Any] = {
    "method": "grid",
    "metric": {"name": "loss", "goal": "minimize"},
    "parameters": {"x": {"values": [1, 2]}, "opt": {"parameters": {"lr": {"value": 0.1}}}},
}


def make_sweep(server: Server, program: str) -> str:
    """Make a sweep of one of the programs by `wandb sweep`, and return its entity/project/sweep."""
    home = Path(server.env["HOME"])
    (home / program).write_text((CLIENTS / program).read_text())
    (home / "sweep.yaml").write_text(yaml.dump(CONFIG | {"program": program}))
    done = server.wandb("sweep", "--project", "cli", "sweep.yaml")
    found = re.search(r"with ID: (\w+)", done.stderr)
    assert found is not None, done.stderr
    return f"local/cli/{found[1]}"


@pytest.fixture
def sweep(server: Server) -> str:
    """A sweep whose program ends by itself."""
    return make_sweep(server, "train.py")


def progress_of(server: Server, sweep: str) -> dict[str, Any]:
    """How far the sweep is, as the supervisor's door tells it."""
    token = base64.b64encode(f"api:{server.said['api_key']}".encode()).decode()
    url = f"{server.said['url']}/hpo/sweeps/{sweep}"
    request = urllib.request.Request(url, headers={"Authorization": f"Basic {token}"})
    with urllib.request.urlopen(request) as response:
        progress: dict[str, Any] = json.load(response)
    return progress


def state_of(server: Server, sweep: str) -> str:
    return str(progress_of(server, sweep)["state"])


def test_the_agent_runs_the_program_for_each_point_and_leaves(server: Server, sweep: str) -> None:
    done = server.wandb("agent", sweep)
    assert done.returncode == 0
    lines = [line for line in done.stdout.splitlines() if line.startswith("arguments")]
    assert sorted(lines) == [f"arguments --opt={{'lr': 0.1}} --x={x}" for x in (1, 2)]
    assert state_of(server, sweep) == "FINISHED"
    again = server.wandb("agent", sweep)
    assert again.returncode == 1
    assert "is not running" in again.stderr


@pytest.mark.leans_on_wandb
def test_the_four_verbs_set_the_sweeps_state(server: Server, sweep: str) -> None:
    steps = [
        ("--resume", "RUNNING"),
        ("--pause", "PAUSED"),
        ("--stop", "FINISHED"),
        ("--resume", "RUNNING"),
        ("--cancel", "CANCELED"),
    ]
    for verb, state in steps:
        assert server.wandb("sweep", verb, sweep).returncode == 0
        assert state_of(server, sweep) == state


def test_a_program_whose_run_the_api_stops_is_ended_and_the_agent_goes_on(server: Server) -> None:
    sweep = make_sweep(server, "stopping.py")
    done = server.wandb("agent", sweep)
    lines = [line for line in done.stdout.splitlines() if line.startswith("returned")]
    assert (done.returncode, lines) == (0, ["returned 2"])
    runs = progress_of(server, sweep)["runs"]
    assert (runs["killed"], runs["finished"]) == (1, 1)


def test_a_program_writes_what_it_has_left_to_write_after_its_runs_end(server: Server) -> None:
    done = server.wandb("agent", make_sweep(server, "lingering.py"))
    assert sorted(line for line in done.stdout.splitlines() if line.startswith("left")) == [
        "left 1",
        "left 2",
    ]
