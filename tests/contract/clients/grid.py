"""A sweep by the function agent over a grid of 3, then all that wandb.Api() says of it."""

from __future__ import annotations

import json
from typing import Any

import wandb

from tests.contract.clients.quick_agent import run_agent

CONFIG = {
    "method": "grid",
    "metric": {"name": "val.loss", "goal": "minimize"},
    "parameters": {"x": {"values": [3, 1, 2]}, "opt": {"parameters": {"lr": {"value": 0.1}}}},
}
seen: list[dict[str, Any]] = []


def main() -> None:
    with wandb.init() as run:
        seen.append({"x": run.config["x"], "lr": run.config["opt"]["lr"]})
        for step in range(3):
            run.log({"val": {"loss": run.config["x"] + step}, "bad": float("nan")})


login = wandb.login(verify=True)
sweep_id = wandb.sweep(CONFIG, project="grid")
run_agent(sweep_id, main, project="grid")
api: Any = wandb.Api()
sweep = api.sweep(f"local/grid/{sweep_id}")
best = sweep.best_run()
answers = {
    "login": login,
    "seen": seen,
    "state": sweep.state,
    "expected": sweep.expected_run_count,
    "runs": [{"state": run.state, "x": run.config["x"]} for run in sweep.runs],
    "best": best.config["x"],
    "summary": best.summary["val"]["loss"],
    "history": [row["val"]["loss"] for row in best.history(pandas=False)],
    "keyed": [row["val.loss"] for row in best.history(keys=["val.loss"], pandas=False)],
    "scanned": [row["_step"] for row in best.scan_history()],
    "scanned_keys": [row["val.loss"] for row in best.scan_history(keys=["val.loss"])],
    "nan": [str(row["bad"]) for row in best.scan_history()],
    "last_step": best.lastHistoryStep,
    "agents": [len(list(agent.runs())) for agent in sweep.agents()],
}
print(json.dumps(answers))
