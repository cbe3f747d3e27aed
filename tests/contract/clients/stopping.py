"""A program for W&B's command line agent whose run with x = 1 is stopped by wandb.Api() while it is on."""

from __future__ import annotations

import time
from typing import Any

import wandb

LAST_OUTPUT_S = 60.0

with wandb.init() as run:
    run.log({"loss": 1})
    if run.config["x"] == 1:
        api: Any = wandb.Api()
        api.run(run.path).stop()
        deadline = time.monotonic() + LAST_OUTPUT_S
        while time.monotonic() < deadline:
            time.sleep(0.05)
    print("returned", run.config["x"])
