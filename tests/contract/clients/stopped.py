"""A sweep of two runs, of which the first is stopped by wandb.Api() while it is on."""

from __future__ import annotations

import json
import time
from typing import Any

import wandb

from tests.contract.clients.quick_agent import run_agent

CONFIG = {"method": "grid", "metric": {"name": "loss"}, "parameters": {"x": {"values": [1, 2]}}}
LAST_OUTPUT_S = 30.0
returned: list[int] = []


def main() -> None:
    with wandb.init() as run:
        run.log({"loss": 1})
        if run.config["x"] == 1:
            api: Any = wandb.Api()
            api.run(run.path).stop()
            deadline = time.monotonic() + LAST_OUTPUT_S
            while time.monotonic() < deadline:
                time.sleep(0.05)
        returned.append(run.config["x"])


sweep_id = wandb.sweep(CONFIG, project="stopped")
run_agent(sweep_id, main, project="stopped")
api: Any = wandb.Api()
runs = api.sweep(f"local/stopped/{sweep_id}").runs
states = sorted((run.config["x"], run.state) for run in runs)
print(json.dumps({"returned": returned, "states": states}))
