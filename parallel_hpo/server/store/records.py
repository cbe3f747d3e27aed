"""The rows of the database as frozen records; field names are those of the columns."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, TypeVar

from sqlalchemy import Row

from parallel_hpo.server.rules.run_states import RunState
from parallel_hpo.server.rules.sweep_states import SweepState


@dataclass(frozen=True, slots=True)
class Project:
    """An entity's project; any entity name is a namespace here."""

    id: int
    entity: str
    name: str
    created_at: float


@dataclass(frozen=True, slots=True)
class Sweep:
    """A sweep, with its project's names."""

    id: str
    project_id: int
    entity: str
    project: str
    state: SweepState
    config: str
    method: str
    metric_name: str | None
    run_cap: int | None
    seed: int
    display_name: str | None
    description: str | None
    controller: str | None
    scheduler: str | None
    prior_runs_filters: str | None
    issued: int
    revision: int
    created_at: float
    updated_at: float
    heartbeat_at: float
    next_index: int | None
    engine: str | None


@dataclass(frozen=True, slots=True)
class Agent:
    """An agent of a sweep; `label` is empty for one that came with the master key."""

    id: str
    sweep_id: str
    label: str
    host: str
    gone: bool
    created_at: float
    heartbeat_at: float


@dataclass(frozen=True, slots=True)
class Run:
    """A run, with its project's names; JSON columns hold the client's own text."""

    id: int
    project_id: int
    entity: str
    project: str
    name: str
    state: RunState
    sweep_id: str | None
    sweep_index: int | None
    assigned: str | None
    agent_id: str | None
    waiting: bool
    deliveries: int
    sweep_revision: int
    value: float | None
    stop_requested: bool
    exitcode: int | None
    display_name: str | None
    description: str | None
    notes: str | None
    group_name: str | None
    job_type: str | None
    commit_hash: str | None
    host: str | None
    program: str | None
    repo: str | None
    tags: str
    config: str
    summary: str
    system_metrics: str
    history_keys: str
    history_lines: int
    event_lines: int
    log_lines: int
    created_at: float
    started_at: float | None
    heard_at: float
    metric_rows: int | None
    best_loss: float | None
    opened_by: str | None
    metric_value: float | None
    inherited: str | None
    again: bool | None


R = TypeVar("R", Project, Sweep, Agent, Run)


def record(kind: type[R], row: Row[Any]) -> R:
    """Make a record of a row that has a column for each of its fields."""
    values = {field.name: row._mapping[field.name] for field in fields(kind)}
    if kind is Run:
        values["state"] = RunState(values["state"])
    elif kind is Sweep:
        values["state"] = SweepState(values["state"])
    return kind(**values)
