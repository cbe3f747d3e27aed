"""A program for W&B's command line agent: it has something to do after its run's end."""

from __future__ import annotations

import time

import wandb

LINGER_S = 2.0
"""Longer than the agent takes to ask for another run."""

with wandb.init() as run:
    run.log({"loss": run.config["x"]})
time.sleep(LINGER_S)
print("left", run.config["x"])
