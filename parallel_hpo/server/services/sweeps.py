"""Clients' requests on projects and sweeps: creation, changes, states, and the queue of runs.

`sweep.enqueue_run` and a `wandb sweep-scheduler` put runs into a sweep's queue:

    client ── enqueueSweepRun ─▶ a pending run, waiting ─▶ the next agent that asks

Queued runs come before those of the sweep's own method. A sweep with a scheduler has no other runs.
wandb client: a scheduler takes a refusal for fatal and enqueues beyond the run_cap; it exits once the
sweep is finished. Runs that still wait when the sweep ends are killed (see `run_transitions`).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from parallel_hpo.config.checks import json_native
from parallel_hpo.core.errors import ConfigError
from parallel_hpo.server import engines
from parallel_hpo.server.context import DEFAULT_ENTITY, DEFAULT_PROJECT, AppContext
from parallel_hpo.server.engines import metric_of
from parallel_hpo.server.rules.runs import RunState
from parallel_hpo.server.rules.sweeps import (
    EVENTS_BY_STATE,
    IllegalSweepMoveError,
    SweepEvent,
    SweepState,
    move,
)
from parallel_hpo.server.services.run_transitions import ENDED, recompute_values, withdraw
from parallel_hpo.server.store import pending_runs, projects, runs, sweeps
from parallel_hpo.server.store.database import Transaction
from parallel_hpo.server.store.records import Project, Sweep
from parallel_hpo.server.store.tables import only_sweep
from parallel_hpo.server.values import RefusedError, read_object

_NAME_LENGTH = 128  # wandb client's limit
_MAX_RUN_CAP: Final = 2**31 - 1  # the column's limit, which no sweep reaches


@dataclass(frozen=True, slots=True)
class SweepUpsert:
    """A client's request on a sweep; None: unchanged, or a new sweep's default."""

    id: str | None = None
    entity: str | None = None
    project: str | None = None
    config: str | None = None
    state: str | None = None
    display_name: str | None = None
    description: str | None = None
    controller: str | None = None
    scheduler: str | None = None
    prior_runs_filters: str | None = None


def upsert(app: AppContext, request: SweepUpsert) -> Sweep:
    """Create a sweep, or change the one with the id; RefusedError for an invalid request."""
    sweep_id = _create(app, request) if request.id is None else _change(app, request.id, request)
    with app.database.read() as transaction:
        sweep = sweeps.find(transaction, sweep_id)
    if sweep is None:
        raise RefusedError(f"sweep {sweep_id} doesn't exist", status=404)
    return sweep


def paused_among(app: AppContext, sweep_ids: Iterable[str]) -> frozenset[str]:
    """Return the ids of the paused ones among sweeps; unknown sweeps are ignored."""
    with app.database.read() as transaction:
        found = [sweeps.find(transaction, sweep_id) for sweep_id in sweep_ids]
    return frozenset(sweep.id for sweep in found if sweep is not None and sweep.state is SweepState.PAUSED)


def _create(app: AppContext, request: SweepUpsert) -> str:
    if request.config is None:
        raise RefusedError("a new sweep needs a configuration")
    values = _config_columns(request.config) | _text_columns(request)
    values |= _prior_run_changes(request.config, request)
    seed = engines.parse(request.config).seed
    values["seed"] = app.new_seed() if seed is None else seed
    state = SweepState.PENDING if request.state is None else _state_after(SweepState.PENDING, request.state)
    now, sweep_id = app.clock(), app.new_id()
    with app.database.write() as transaction:
        if only_sweep(transaction) is not None:
            raise RefusedError(
                "a run of a sweep can't create sweeps: its key is valid for its own sweep only"
            )
        project = projects.ensure(
            transaction, request.entity or DEFAULT_ENTITY, request.project or DEFAULT_PROJECT, now
        )
        values |= {"id": sweep_id, "project_id": project.id, "state": state}
        sweeps.create(transaction, values | {"created_at": now, "updated_at": now, "heartbeat_at": now})
    return sweep_id


def _change(app: AppContext, sweep_id: str, request: SweepUpsert) -> str:
    changes = _text_columns(request)
    if request.config is not None:
        changes |= _config_columns(request.config)
    with app.database.write() as transaction:
        sweep = sweeps.find(transaction, sweep_id)
        if sweep is None:
            raise RefusedError(f"sweep {sweep_id} doesn't exist", status=404)
        if request.config is not None:
            changes |= _new_space(sweep, request.config)
        changes |= _prior_run_changes(request.config or sweep.config, request)
        if "next_index" in changes:
            sweeps.delete_open_points(transaction, sweep_id)  # iterating the new space finds them
        if request.state is not None:
            changes["state"] = _state_after(sweep.state, request.state)
            if changes["state"] is SweepState.CANCELED:
                pending_runs.request_stop(transaction, sweep_id)
            if changes["state"] in ENDED:
                withdraw(transaction, sweep)
        sweeps.change(transaction, sweep_id, changes | {"updated_at": app.clock()})
        if request.config is not None and metric_of(sweep.config) != metric_of(request.config):
            recompute_values(
                transaction, sweep_id
            )  # the changed configuration gets a new engine, which reads them
    return sweep_id


def finish(transaction: Transaction, sweep: Sweep, now: float) -> None:
    """Finish a sweep that has nothing left to do."""
    state = move(sweep.state, SweepEvent.FINISH)
    withdraw(transaction, sweep)
    sweeps.change(transaction, sweep.id, {"state": state, "updated_at": now})


def resume(transaction: Transaction, sweep: Sweep, now: float) -> None:
    """Let a finished sweep issue runs again."""
    if sweep.state is SweepState.FINISHED:
        changes = {"state": move(sweep.state, SweepEvent.RUN), "updated_at": now}
        sweeps.change(transaction, sweep.id, changes)


def _new_space(sweep: Sweep, text: str) -> dict[str, Any]:
    """Return the changes to a sweep whose space has changed: a finite one restarts, without tried points."""
    old, new = engines.parse(sweep.config), engines.parse(text)
    if (old.method, old.metric, old.parameters) == (new.method, new.metric, new.parameters):
        return {}
    if sweep.state not in (SweepState.PENDING, SweepState.PAUSED):
        raise RefusedError(
            f"sweep {sweep.id} is {sweep.state}: pause it before its method, metric or parameters are changed"
        )
    return {"next_index": None if engines.size_of(text) is None else 0}


def _prior_run_changes(config: str, request: SweepUpsert) -> dict[str, Any]:
    """Return the first index of a sweep whose prior runs may cover points of its finite space."""
    if not request.prior_runs_filters or engines.size_of(config) is None:
        return {}
    return {"next_index": 0}


def _config_columns(text: str) -> dict[str, Any]:
    configuration = engines.parse(text)
    cap = configuration.run_cap
    return {
        "config": text,
        "method": str(configuration.method),
        "metric_name": configuration.metric.name if configuration.metric is not None else None,
        "run_cap": None if cap is None else min(cap, _MAX_RUN_CAP),
    }


def _text_columns(request: SweepUpsert) -> dict[str, Any]:
    names = ("display_name", "description", "controller", "scheduler", "prior_runs_filters")
    return {name: getattr(request, name) for name in names if getattr(request, name) is not None}


def _state_after(state: SweepState, name: str) -> SweepState:
    try:
        event = EVENTS_BY_STATE[name.upper()]
    except KeyError:
        raise RefusedError(f"sweep state {name!r}: one of {', '.join(EVENTS_BY_STATE)}") from None
    try:
        return move(state, event)
    except IllegalSweepMoveError as error:
        raise RefusedError(str(error)) from None


def create_project(app: AppContext, entity: str, name: str) -> Project:
    """Return the project, created if needed; RefusedError for an empty or too long name."""
    if not name or len(name) > _NAME_LENGTH:
        raise RefusedError(f"project name: 1 to {_NAME_LENGTH} characters")
    with app.database.write() as transaction:
        return projects.ensure(transaction, entity, name, app.clock())


def enqueue(app: AppContext, sweep_id: str, parameters: str, display_name: str | None) -> str:
    """Queue a run with these parameters (a JSON object) for the next agent, and return its name.

    RefusedError if the sweep has ended, its run_cap is reached, or a value is not valid JSON. A
    scheduler's run beyond the cap is stored, but no agent gets it.
    """
    values = _read_parameters(parameters)
    now = app.clock()
    with app.database.write() as transaction:
        sweep = sweeps.find(transaction, sweep_id)
        if sweep is None:
            raise RefusedError(f"sweep {sweep_id} doesn't exist", status=404)
        within_cap = _check_accepts_runs(sweep)
        name = app.new_id()
        index = sweep.issued if within_cap else None
        own = {"display_name": display_name, "waiting": within_cap}
        create_pending(transaction, sweep, name, index, json.dumps(values), now, own)
        if within_cap:
            _count_issued(transaction, sweep)
    return name


def create_pending(
    transaction: Transaction,
    sweep: Sweep,
    name: str,
    index: int | None,
    assigned: str,
    now: float,
    own: Mapping[str, Any],
) -> int:
    """Create a pending run of the sweep, with its parameters as JSON; return its id."""
    return runs.create(
        transaction,
        {
            "project_id": sweep.project_id,
            "name": name,
            "state": RunState.PENDING,
            "sweep_id": sweep.id,
            "sweep_index": index,
            "assigned": assigned,
            "sweep_revision": sweeps.next_revision(transaction, sweep.id),
            "config": json.dumps(wrap_values(json.loads(assigned))),
            "created_at": now,
            "heard_at": now,
            **own,
        },
    )


def wrap_values(parameters: dict[str, Any]) -> dict[str, Any]:
    """Wrap each value as wandb's clients expect it."""
    return {name: {"value": value} for name, value in parameters.items()}


def _read_parameters(text: str) -> dict[str, Any]:
    """Parse parameters; RefusedError for values that no sweep configuration can hold, such as NaN."""
    values = _unwrap_values(read_object(text, "config"))
    try:
        json_native("config", values)
    except ConfigError as error:
        raise RefusedError(str(error)) from None
    return values


def _unwrap_values(config: dict[str, Any]) -> dict[str, Any]:
    """Return the plain values: wandb-core sends each as {"value": …}, `sweep.enqueue_run` as it was given."""
    wire = all(isinstance(entry, dict) and entry.keys() == {"value"} for entry in config.values())
    return {name: entry["value"] for name, entry in config.items()} if wire else config


def _check_accepts_runs(sweep: Sweep) -> bool:
    """Return whether the run_cap leaves room for one more run."""
    if sweep.state in ENDED:
        raise RefusedError(f"sweep {sweep.id} is {sweep.state}: it takes no more runs; resume it first")
    within_cap = sweep.run_cap is None or sweep.issued < sweep.run_cap
    if not within_cap and not engines.is_scheduled(sweep.config):
        raise RefusedError(f"sweep {sweep.id} has reached its run_cap ({sweep.run_cap})")
    return within_cap


def _count_issued(transaction: Transaction, sweep: Sweep) -> None:
    changes: dict[str, Any] = {"issued": sweep.issued + 1}
    if sweep.next_index is None and engines.size_of(sweep.config) is not None:
        changes["next_index"] = sweep.issued  # this run does not use up the next point
    sweeps.change(transaction, sweep.id, changes)
