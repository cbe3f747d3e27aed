"""Sweeps: their fields, and the operation that creates and changes them."""

from __future__ import annotations

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
from parallel_hpo.server.services import sweeps as sweep_service
from parallel_hpo.server.services.sweeps import SweepUpsert
from parallel_hpo.server.store import runs
from parallel_hpo.server.store import sweeps as agents
from parallel_hpo.server.store import sweeps as sweeps_store
from parallel_hpo.server.store.records import Agent, Run, Sweep
from parallel_hpo.server.store.tables import may_see


def _upsert(_source: Any, info: Info, input: dict[str, Any]) -> dict[str, Any]:
    wishes = SweepUpsert(
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
    request = context(info)
    sweep = sweep_service.upsert(request.world, wishes)
    request.must_last = True
    return {"sweep": sweep, "configValidationWarnings": []}


def _enqueue(_source: Any, info: Info, input: dict[str, Any]) -> dict[str, Any]:
    request = context(info)
    name = sweep_service.enqueue(request.world, input["id"], input["config"], input.get("displayName"))
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
    return {"edges": only(agents.of_sweep(reading(info), sweep.id))}


def _agent(sweep: Sweep, info: Info, agentName: str | None = None) -> Agent | None:
    agent = None if agentName is None else agents.find_agent(reading(info), agentName)
    return agent if agent is not None and agent.sweep_id == sweep.id else None


MUTATION: Final[dict[str, Resolver]] = {"upsertSweep": _upsert, "enqueueSweepRun": _enqueue}
SWEEP: Final[dict[str, Resolver]] = {
    "name": renamed("id"),
    "createdAt": timed("created_at"),
    "updatedAt": timed("updated_at"),
    "heartbeatAt": timed("heartbeat_at"),
    "earlyStopJobRunning": constant(False),
    # wandb client: the run in which a scheduler logs what it says; without a name it ends without a word.
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
