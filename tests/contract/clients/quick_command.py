"""W&B's command line, whose agent looks ten times as often whether its program has ended."""

from __future__ import annotations

import sys

from wandb.cli.cli import cli
from wandb.wandb_agent import Agent

if __name__ == "__main__":
    Agent.POLL_INTERVAL = 0.5  # type: ignore[assignment]
    sys.argv[0] = "wandb"
    sys.exit(cli())
