"""An agent whose first run is preempted and leaves with an error."""

from __future__ import annotations

import json
from typing import Any

import wandb

from tests.contract.clients.quick_agent import run_agent

CONFIG = {"method": "grid", "metric": {"name": "loss"}, "parameters": {"x": {"values": [1]}}}
seen: list[tuple[str, int]] = []


def main() -> None:
    run = wandb.init()
    seen.append((run.id, run.config["x"]))
    if len(seen) == 1:
        run.mark_preempting()
        run.finish(exit_code=1)
    else:
        run.log({"loss": 1})
        run.finish()


sweep_id = wandb.sweep(CONFIG, project="preempted")
run_agent(sweep_id, main, project="preempted", count=2)
api: Any = wandb.Api()
print(
    json.dumps({"seen": seen, "runs": [run.state for run in api.sweep(f"local/preempted/{sweep_id}").runs]})
)
