"""Sweeps and their agents: their fields, changes of a sweep, an agent's registration and heartbeat."""

from __future__ import annotations

import json
from typing import Any, Final

from parallel_hpo.server import engines
from parallel_hpo.server.engines import prior_runs
from parallel_hpo.server.graphql.resolvers.context import (
    Info,
    Page,
    Resolver,
    Span,
    constant,
    context,
    only,
    page,
    reading,
    renamed,
    timed,
)
from parallel_hpo.server.graphql.resolvers.projects import project_of
from parallel_hpo.server.services import agents as agent_service
from parallel_hpo.server.services import sweeps as sweep_service
from parallel_hpo.server.services.sweeps import SweepUpsert
from parallel_hpo.server.store import runs
from parallel_hpo.server.store import sweeps as sweeps_store
from parallel_hpo.server.store.records import Agent, Run, Sweep
from parallel_hpo.server.store.tables import may_see
from parallel_hpo.server.values import RefusedError

_MAX_LISTED: Final = 1000


def _upsert(_source: Any, info: Info, input: dict[str, Any]) -> dict[str, Any]:
    request = SweepUpsert(
        id=input.get("id"),
        entity=input.get("entityName"),
        project=input.get("projectName"),
        config=input.get("config"),
        state=input.get("state"),
        display_name=input.get("displayName"),
        description=input.get("description"),
        controller=input.get("controller"),
        scheduler=input.get("scheduler"),
        prior_runs_filters=input.get("priorRunsFilters"),
    )
    context(info).must_last = True
    sweep = sweep_service.upsert(context(info).app, request)
    return {"sweep": sweep, "configValidationWarnings": []}


def _enqueue(_source: Any, info: Info, input: dict[str, Any]) -> dict[str, Any]:
    request = context(info)
    name = sweep_service.enqueue(request.app, input["id"], input["config"], input.get("displayName"))
    request.must_last = True
    return {"id": name, "runQueueItemId": None}


def _best_loss(sweep: Sweep, info: Info) -> float | None:
    metric = engines.parse(sweep.config).metric
    maximize = metric is not None and metric.goal == "maximize"
    return sweeps_store.best_value(reading(info), sweep.id, maximize=maximize)


def _runs(sweep: Sweep, info: Info, first: int | None = None, after: str | None = None) -> Page[Run]:
    span = Span.of(after, first)
    return span.page(runs.part_of_sweep(reading(info), sweep.id, span.begin, span.number + 1))


def _prior_runs(sweep: Sweep, info: Info, first: int | None = None, after: str | None = None) -> Page[Run]:
    transaction = reading(info)
    found = [run for run in prior_runs(transaction, sweep) if may_see(transaction, run.sweep_id)]
    return page(found, after, first)


def _agents(sweep: Sweep, info: Info) -> dict[str, Any]:
    return {"edges": only(sweeps_store.agents_of_sweep(reading(info), sweep.id))}


def _agent(sweep: Sweep, info: Info, agentName: str | None = None) -> Agent | None:
    agent = None if agentName is None else sweeps_store.find_agent(reading(info), agentName)
    return agent if agent is not None and agent.sweep_id == sweep.id else None


def _create_agent(_source: Any, info: Info, input: dict[str, Any]) -> dict[str, Any]:
    request = context(info)
    agent = agent_service.register(request.app, input["sweep"], input["host"], request.caller.label)
    return {"agent": agent}


def _heartbeat(_source: Any, info: Info, input: dict[str, Any]) -> dict[str, Any]:
    request, listed = context(info), _listed(input.get("runState"))
    commands = agent_service.answer_heartbeat(request.app, input["id"], listed)
    request.must_last = bool(commands)  # a supervisor records the run that it was given
    return {"agent": {"id": input["id"]}, "commands": json.dumps(commands)}


def _listed(run_state: str | None) -> frozenset[str]:
    """Return the names of the runs that an agent lists as queued or running."""
    try:
        states = json.loads(run_state or "{}") or {}
    except (ValueError, RecursionError):
        raise RefusedError("runState: not valid JSON") from None
    if not isinstance(states, dict):
        raise RefusedError("runState: must be a JSON object of run names")
    if len(states) > _MAX_LISTED:
        raise RefusedError(f"runState: more than {_MAX_LISTED} runs")
    return frozenset(name for name, active in states.items() if active)


def _runs_of_agent(
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


MUTATION: Final[dict[str, Resolver]] = {
    "upsertSweep": _upsert,
    "enqueueSweepRun": _enqueue,
    "createAgent": _create_agent,
    "agentHeartbeat": _heartbeat,
}
AGENT: Final[dict[str, Resolver]] = {
    "name": renamed("id"),
    "state": lambda agent, _info: "EXITED" if agent.gone else "RUNNING",
    "totalRuns": lambda agent, info: sweeps_store.count_agent_runs(reading(info), agent.id),
    "createdAt": timed("created_at"),
    "heartbeatAt": timed("heartbeat_at"),
    "runs": _runs_of_agent,
}
SWEEP: Final[dict[str, Resolver]] = {
    "name": renamed("id"),
    "createdAt": timed("created_at"),
    "updatedAt": timed("updated_at"),
    "heartbeatAt": timed("heartbeat_at"),
    "earlyStopJobRunning": constant(False),
    # wandb client: the run to which a scheduler logs; without a name it exits silently.
    "controllerRunName": lambda sweep, _info: f"{sweep.id}-scheduler",
    "bestLoss": _best_loss,
    "runCount": lambda sweep, info: sum(sweeps_store.counts(reading(info), sweep.id).values()),
    "runCountExpected": lambda sweep, _info: engines.expected_runs(sweep.config),
    "runs": _runs,
    "priorRuns": _prior_runs,
    "agents": _agents,
    "agent": _agent,
    "project": project_of,
}
