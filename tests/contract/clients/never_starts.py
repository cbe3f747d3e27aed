"""A function that calls wandb.init() for the second point of its grid only."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import wandb
import yaml

from tests.contract.clients.quick_agent import run_agent

CONFIG = {"method": "grid", "metric": {"name": "loss"}, "parameters": {"x": {"values": [1, 2]}}}
calls: list[int] = []


def main() -> None:
    x = yaml.safe_load(Path(os.environ["WANDB_SWEEP_PARAM_PATH"]).read_text())["x"]["value"]
    calls.append(x)
    if x == 2:
        with wandb.init() as run:
            run.log({"loss": 1})


sweep_id = wandb.sweep(CONFIG, project="never")
run_agent(sweep_id, main, project="never", count=3)
api: Any = wandb.Api()
print(json.dumps({"calls": calls, "runs": [run.state for run in api.sweep(f"local/never/{sweep_id}").runs]}))
