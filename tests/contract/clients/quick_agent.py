"""wandb's function agent with its own switch for tests: it beats five times a second."""

from __future__ import annotations

from collections.abc import Callable

import wandb
from wandb.agents.pyagent import Agent


def run_agent(sweep: str, main: Callable[[], None], *, project: str, count: int | None = None) -> None:
    """Run the agent to its end."""
    Agent.HEARTBEAT_SLEEP_SECONDS = 0.2  # type: ignore[assignment]  # the client's own tests set it so
    wandb.agent(sweep, main, project=project, count=count)
