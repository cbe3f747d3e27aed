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
    "program": "train.py",
    "method": "grid",
    "metric": {"name": "loss", "goal": "minimize"},
    "parameters": {"x": {"values": [1, 2]}, "opt": {"parameters": {"lr": {"value": 0.1}}}},
}


@pytest.fixture
def sweep(server: Server) -> str:
    """A sweep made by `wandb sweep`, as entity/project/sweep."""
    home = Path(server.env["HOME"])
    (home / "train.py").write_text((CLIENTS / "train.py").read_text())
    (home / "sweep.yaml").write_text(yaml.dump(CONFIG))
    done = server.wandb("sweep", "--project", "cli", "sweep.yaml")
    found = re.search(r"with ID: (\w+)", done.stderr)
    assert found is not None, done.stderr
    return f"local/cli/{found[1]}"


def state_of(server: Server, sweep: str) -> str:
    """The sweep's state as the supervisor's door tells it."""
    token = base64.b64encode(f"api:{server.said['api_key']}".encode()).decode()
    url = f"{server.said['url']}/hpo/sweeps/{sweep}"
    request = urllib.request.Request(url, headers={"Authorization": f"Basic {token}"})
    with urllib.request.urlopen(request) as response:
        return str(json.load(response)["state"])


def test_the_agent_runs_the_program_for_each_point_and_leaves(server: Server, sweep: str) -> None:
    done = server.wandb("agent", sweep)
    assert done.returncode == 0
    lines = [line for line in done.stdout.splitlines() if line.startswith("arguments")]
    assert sorted(lines) == [f"arguments --opt={{'lr': 0.1}} --x={x}" for x in (1, 2)]
    assert state_of(server, sweep) == "FINISHED"
    again = server.wandb("agent", sweep)
    assert again.returncode == 1
    assert "is not running" in again.stderr


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
