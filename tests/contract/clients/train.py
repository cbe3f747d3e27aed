"""A program for W&B's command line agent."""

from __future__ import annotations

import sys

import wandb

with wandb.init() as run:
    print("arguments", *sys.argv[1:])
    run.log({"loss": run.config["x"]})
