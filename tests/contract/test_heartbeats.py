"""Load on W&B's server: the heartbeats of a whole sweep are counted by a proxy."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Final

from tests.commands import call_command
from tests.contract.proxy import Harm, Message, proxying
from tests.contract.serving import Server

RUNS: Final = 6
WORKERS: Final = 2
STOCK_BEAT_S: Final = 5.0
MAIN: Final = """
import wandb

def main():
    wandb.init().log({"loss": 1.0})
"""


class Counter:
    """Counts heartbeats and lets every message pass."""

    def __init__(self) -> None:
        self.heartbeats = 0

    def __call__(self, message: Message) -> Harm:
        self.heartbeats += b"agentHeartbeat" in message.body
        return Harm.NONE


def test_our_agents_send_no_more_heartbeats_than_stock_agents(server: Server, tmp_path: Path) -> None:
    """A stock agent sends a heartbeat for each run, and one every 5 s."""
    (tmp_path / "train.py").write_text(MAIN)
    section = {
        "backend": "wandb",
        "workers": WORKERS,
        "count": RUNS,
        "directory": str(tmp_path / "sweeps"),
        "sweep_configuration": {"method": "random", "parameters": {"x": {"value": 1}}},
    }
    (tmp_path / "config.json").write_text(json.dumps({"hpo": section}))
    with proxying(server.said["url"]) as proxy:
        proxy.choose = counter = Counter()
        began = time.monotonic()
        done = call_command(
            *("run", "config.json", "train.py:main"),
            folder=tmp_path,
            environment=server.client_env | {"WANDB_BASE_URL": proxy.url},
        )
        took_s = time.monotonic() - began
    assert done.returncode == 0, done.stderr
    assert RUNS <= counter.heartbeats <= RUNS + WORKERS * (took_s // STOCK_BEAT_S)
