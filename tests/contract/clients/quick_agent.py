"""wandb's function agent with its own switch for tests: it beats five times a second.

It leaves when it is told to, where stock it sees that only after up to 10 s without a job.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import wandb
from wandb.agents.pyagent import Agent


def run_agent(sweep: str, main: Callable[[], None], *, project: str, count: int | None = None) -> None:
    """Run the agent to its end."""
    inside: Any = Agent
    inside.HEARTBEAT_SLEEP_SECONDS = 0.2  # the client's own tests set it so
    leave = inside._exit

    def leave_and_be_seen(agent: Any) -> None:
        leave(agent)
        agent._queue.put(None)  # it looks whether it is to leave before it looks what has come

    inside._exit = leave_and_be_seen
    wandb.agent(sweep, main, project=project, count=count)
