"""Frozen records of the database's rows; the tables' columns are made of their fields.

Times are seconds since the epoch. JSON is stored as the client's text, since its bare NaN and Infinity are
invalid JSON to a database.

A field's type gives the column's type, `| None` that it may be null, `Annotated` SQL's details. A field's
default is the column's default.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import MISSING, Field, dataclass, fields
from types import NoneType
from typing import Annotated, Any, Final, get_args, get_type_hints

from sqlalchemy import BigInteger, Boolean, Column, Float, ForeignKey, Integer, String, Text
from sqlalchemy.types import TypeEngine

from parallel_hpo.server.rules.runs import RunState
from parallel_hpo.server.rules.sweeps import SweepState

JOINED: Final = "joined"
"""Marks a record's field from another table."""

_TYPES: Final[Mapping[type, Callable[[], TypeEngine[Any]]]] = {
    bool: Boolean,
    int: Integer,
    float: lambda: Float(53),
    str: Text,
}

OfItsProject = Annotated[str, JOINED]


@dataclass(frozen=True, slots=True)
class Project:
    """An entity's project; any entity name is a namespace here."""

    id: int
    entity: Annotated[str, String(255)]
    name: Annotated[str, String(255)]
    created_at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Sweep:
    """A sweep, with its project's names."""

    id: Annotated[str, String(64)]
    project_id: Annotated[int, ForeignKey("projects.id")]
    entity: OfItsProject
    project: OfItsProject
    state: Annotated[SweepState, String(16)]
    config: str
    method: Annotated[str, String(64)]
    metric_name: str | None
    run_cap: int | None
    seed: Annotated[int, BigInteger]
    display_name: str | None
    description: str | None
    controller: str | None
    scheduler: str | None
    prior_runs_filters: str | None
    issued: int = 0
    """The number of issued runs, and the next run's index in the search space."""
    revision: int = 0
    """Counts changes for the engine; a run has the revision of its last change."""
    created_at: float
    updated_at: float
    heartbeat_at: float
    next_index: int | None
    """The next index in the search space if it differs from `issued`, as after a change of the space."""
    engine: Annotated[str | None, String(16)]
    """The search engine that an earlier release set ("auto", "wandb"); None: ours."""


@dataclass(frozen=True, slots=True)
class Agent:
    """An agent of a sweep."""

    id: Annotated[str, String(32)]
    sweep_id: Annotated[str, ForeignKey("sweeps.id")]
    label: Annotated[str, String(64)]
    """The label of its worker's key; empty for an agent with the master key."""
    host: str
    gone: bool
    created_at: float
    heartbeat_at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFields:
    """A run's fields that are stored as the client sends them."""

    display_name: str | None = None
    description: str | None = None
    notes: str | None = None
    group_name: str | None = None
    job_type: str | None = None
    commit_hash: str | None = None
    host: str | None = None
    program: str | None = None
    repo: str | None = None


CLIENT_FIELDS: Final = tuple(field.name for field in fields(RunFields))


@dataclass(frozen=True, slots=True, kw_only=True)
class Run(RunFields):
    """A run, with its project's names."""

    id: int
    project_id: Annotated[int, ForeignKey("projects.id")]
    entity: OfItsProject
    project: OfItsProject
    name: Annotated[str, String(128)]
    state: Annotated[RunState, String(16)]
    # Of a sweep's run: its index in the search space, its parameters, its agent.
    sweep_id: Annotated[str | None, ForeignKey("sweeps.id")]
    sweep_index: int | None
    assigned: str | None
    agent_id: Annotated[str | None, String(32)]
    waiting: bool = False
    deliveries: int = 0
    sweep_revision: int = 0
    value: float | None
    stop_requested: bool = False
    exitcode: int | None
    # Logged by its client.
    tags: str = "[]"
    config: str = "{}"
    summary: str = "{}"
    system_metrics: str = "{}"
    history_keys: str = '{"sets": [], "keys": {}, "lastStep": -1}'
    history_lines: int = 0
    event_lines: int = 0
    log_lines: int = 0
    created_at: float
    started_at: float | None
    heard_at: float
    # Of a sweep with early_terminate or a target.
    metric_rows: int | None
    """The number of its history rows with the metric."""
    best_loss: float | None
    """The best loss so far."""
    metric_value: float | None
    """The metric's value after those rows, as in its summary."""
    opened_by: Annotated[str | None, String(64)]
    """The label of the worker's key that opened it last; None: no worker did."""
    inherited: str | None
    """Of a forked or rewound run: its summary at the branch point; the client's later values override it."""
    again: bool | None
    """Of a sweep's run: whether it was restarted after it had reported its own end; None: no."""


CLIENT_COLUMNS: Final[Mapping[str, str]] = {
    "sweep": "sweep_id",
    "name": "name",
    "state": "state",
    "displayName": "display_name",
    "display_name": "display_name",
    "group": "group_name",
    "jobType": "job_type",
    "job_type": "job_type",
    "tags": "tags",
    "host": "host",
    "notes": "notes",
    "createdAt": "created_at",
    "created_at": "created_at",
    "heartbeatAt": "heard_at",
    "heartbeat_at": "heard_at",
    "updatedAt": "heard_at",
}
"""Clients' names of the columns for filters and orders of runs."""


def columns_of(record: type) -> Iterator[Column[Any]]:
    """Yield the columns of a record's fields; `id` is the primary key."""
    hints = get_type_hints(record, include_extras=True)
    for field in fields(record):
        _, more = _parts(hints[field.name])
        if JOINED not in more:
            yield _column(field, hints[field.name])


def types_in(record: type) -> dict[str, type]:
    """Return the type of each of a record's fields, without None."""
    hints = get_type_hints(record, include_extras=True)
    return {name: _type(_parts(hint)[0]) for name, hint in hints.items()}


def _column(field: Field[Any], hint: Any) -> Column[Any]:
    plain, more = _parts(hint)
    return Column(
        field.name,
        *(more or (_TYPES[_type(plain)](),)),
        primary_key=field.name == "id",
        nullable=NoneType in get_args(plain),
        default=None if field.default is MISSING else field.default,
    )


def _parts(hint: Any) -> tuple[Any, tuple[Any, ...]]:
    """Return a field's type and its `Annotated` metadata."""
    if not hasattr(hint, "__metadata__"):
        return hint, ()
    return hint.__origin__, hint.__metadata__


def _type(plain: Any) -> type:
    found: type = next(kind for kind in get_args(plain) or (plain,) if kind is not NoneType)
    return found
