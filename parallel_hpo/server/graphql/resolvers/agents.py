"""Agents: their fields, their registration, and their heartbeat."""

from __future__ import annotations

import json
from typing import Any, Final

from parallel_hpo.server.graphql.resolvers.context import (
    Info,
    Page,
    Resolver,
    Span,
    context,
    reading,
    renamed,
    timed,
)
from parallel_hpo.server.services import agents as agent_service
from parallel_hpo.server.store import runs, sweeps
from parallel_hpo.server.store.records import Agent, Run
from parallel_hpo.server.values import RefusedError

_MOST_LISTED: Final = 1000


def _create(_source: Any, info: Info, input: dict[str, Any]) -> dict[str, Any]:
    request = context(info)
    agent = agent_service.register(request.world, input["sweep"], input["host"], request.caller.label)
    return {"agent": agent}


def _heartbeat(_source: Any, info: Info, input: dict[str, Any]) -> dict[str, Any]:
    request, listed = context(info), _listed(input.get("runState"))
    commands = agent_service.beat(request.world, input["id"], listed)
    request.must_last = bool(commands)  # a supervisor writes down which run it was given, and relies on it
    return {"agent": {"id": input["id"]}, "commands": json.dumps(commands)}


def _listed(run_state: str | None) -> frozenset[str]:
    """Return the names of the runs that an agent has, queued or running."""
    try:
        states = json.loads(run_state or "{}") or {}
    except (ValueError, RecursionError):
        raise RefusedError("runState: not valid JSON") from None
    if not isinstance(states, dict):
        raise RefusedError("runState: must be a JSON object of run names")
    if len(states) > _MOST_LISTED:
        raise RefusedError(f"runState: more than {_MOST_LISTED} runs")
    return frozenset(name for name, active in states.items() if active)


def _runs(
    agent: Agent,
    info: Info,
    after: str | None = None,
    before: str | None = None,
    first: int | None = None,
    last: int | None = None,
    order: str | None = None,
) -> Page[Run]:
    span = Span.of(after, first)
    return span.page(runs.part_of_agent(reading(info), agent.id, span.begin, span.number + 1))


MUTATION: Final[dict[str, Resolver]] = {"createAgent": _create, "agentHeartbeat": _heartbeat}
AGENT: Final[dict[str, Resolver]] = {
    "name": renamed("id"),
    "state": lambda agent, _info: "EXITED" if agent.gone else "RUNNING",
    "totalRuns": lambda agent, info: sweeps.run_count(reading(info), agent.id),
    "createdAt": timed("created_at"),
    "heartbeatAt": timed("heartbeat_at"),
    "runs": _runs,
}
