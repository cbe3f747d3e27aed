"""Clients' requests on projects and sweeps: to create one; to change a sweep, and to set its state.

Runs that a client puts into a sweep's queue: by `sweep.enqueue_run`, or a `wandb sweep-scheduler`.

    client ── enqueueSweepRun ─▶ a pending run, waiting ─▶ the next agent that asks

They come before anything that the sweep's own method would choose. A sweep that has a
scheduler has no other runs: its method is the scheduler's. wandb client: a scheduler
takes a refusal for fatal and asks beyond the run_cap; it leaves once the sweep is finished.
What waits when the sweep ends is killed, as `abandoned` says.
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
from parallel_hpo.server.rules.sweeps import WISHES, IllegalSweepMoveError, SweepEvent, SweepState, move
from parallel_hpo.server.services.run_transitions import OVER, revalue, withdraw
from parallel_hpo.server.store import pending_runs, projects, runs, sweeps
from parallel_hpo.server.store.database import Transaction
from parallel_hpo.server.store.records import Project, Sweep
from parallel_hpo.server.store.tables import only_sweep
from parallel_hpo.server.values import RefusedError, read_object

_NAME_LENGTH = 128  # wandb client: no longer ones

_NO_CAP: Final = 2**31 - 1  # what the database holds; no sweep gets there


@dataclass(frozen=True, slots=True)
class SweepUpsert:
    """What a client wants of a sweep; None: left as it is, or the default of a new one."""

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


def upsert(world: AppContext, wishes: SweepUpsert) -> Sweep:
    """Create a sweep, or change the one with the id; RefusedError says what can't be done."""
    sweep_id = _create(world, wishes) if wishes.id is None else _change(world, wishes.id, wishes)
    with world.database.read() as transaction:
        sweep = sweeps.find(transaction, sweep_id)
    if sweep is None:
        raise RefusedError(f"sweep {sweep_id} doesn't exist", status=404)
    return sweep


def paused_among(world: AppContext, sweep_ids: Iterable[str]) -> frozenset[str]:
    """Return those of the sweeps that are paused; one that is not there is not."""
    with world.database.read() as transaction:
        found = [sweeps.find(transaction, sweep_id) for sweep_id in sweep_ids]
    return frozenset(sweep.id for sweep in found if sweep is not None and sweep.state is SweepState.PAUSED)


def _create(world: AppContext, wishes: SweepUpsert) -> str:
    if wishes.config is None:
        raise RefusedError("a new sweep needs a configuration")
    values = _configured(wishes.config) | _plain(wishes)
    values |= _passing_over_prior_runs(wishes.config, wishes)
    seed = engines.parse(wishes.config).seed
    values["seed"] = world.new_seed() if seed is None else seed
    state = SweepState.PENDING if wishes.state is None else _state_after(SweepState.PENDING, wishes.state)
    now, sweep_id = world.clock(), world.new_id()
    with world.database.write() as transaction:
        if only_sweep(transaction) is not None:
            raise RefusedError("a run of a sweep can't create sweeps: its key is good for its own sweep only")
        project = projects.ensure(
            transaction, wishes.entity or DEFAULT_ENTITY, wishes.project or DEFAULT_PROJECT, now
        )
        values |= {"id": sweep_id, "project_id": project.id, "state": state}
        sweeps.create(transaction, values | {"created_at": now, "updated_at": now, "heartbeat_at": now})
    return sweep_id


def _change(world: AppContext, sweep_id: str, wishes: SweepUpsert) -> str:
    changes = _plain(wishes)
    if wishes.config is not None:
        changes |= _configured(wishes.config)
    with world.database.write() as transaction:
        sweep = sweeps.find(transaction, sweep_id)
        if sweep is None:
            raise RefusedError(f"sweep {sweep_id} doesn't exist", status=404)
        if wishes.config is not None:
            changes |= _new_space(sweep, wishes.config)
        changes |= _passing_over_prior_runs(wishes.config or sweep.config, wishes)
        if "next_index" in changes:
            sweeps.delete_open_points(transaction, sweep_id)  # its walk over the new space finds them
        if wishes.state is not None:
            changes["state"] = _state_after(sweep.state, wishes.state)
            if changes["state"] is SweepState.CANCELED:
                pending_runs.request_stop(transaction, sweep_id)
            if changes["state"] in OVER:
                withdraw(transaction, sweep)
        sweeps.change(transaction, sweep_id, changes | {"updated_at": world.clock()})
        if wishes.config is not None and metric_of(sweep.config) != metric_of(wishes.config):
            revalue(transaction, sweep_id)  # a changed configuration has a new engine, which is told them
    return sweep_id


def finish(transaction: Transaction, sweep: Sweep, now: float) -> None:
    """Let a sweep be over of which nothing is left to do."""
    state = move(sweep.state, SweepEvent.FINISH)
    withdraw(transaction, sweep)
    sweeps.change(transaction, sweep.id, {"state": state, "updated_at": now})


def run_again(transaction: Transaction, sweep: Sweep, now: float) -> None:
    """Let a sweep that is finished give out runs again."""
    if sweep.state is SweepState.FINISHED:
        changes = {"state": move(sweep.state, SweepEvent.RUN), "updated_at": now}
        sweeps.change(transaction, sweep.id, changes)


def _new_space(sweep: Sweep, text: str) -> dict[str, Any]:
    """Return what a changed space changes of the sweep: one that ends begins anew, without what was tried."""
    old, new = engines.parse(sweep.config), engines.parse(text)
    if (old.method, old.metric, old.parameters) == (new.method, new.metric, new.parameters):
        return {}
    if sweep.state not in (SweepState.PENDING, SweepState.PAUSED):
        raise RefusedError(
            f"sweep {sweep.id} is {sweep.state}: pause it before its method, metric or parameters are changed"
        )
    return {"next_index": None if engines.size_of(text) is None else 0}


def _passing_over_prior_runs(config: str, wishes: SweepUpsert) -> dict[str, Any]:
    """Return where a sweep begins whose prior runs have some of the points of its space."""
    if not wishes.prior_runs_filters or engines.size_of(config) is None:
        return {}
    return {"next_index": 0}


def _configured(text: str) -> dict[str, Any]:
    configuration = engines.parse(text)
    cap = configuration.run_cap
    return {
        "config": text,
        "method": str(configuration.method),
        "metric_name": configuration.metric.name if configuration.metric is not None else None,
        "run_cap": None if cap is None else min(cap, _NO_CAP),
    }


def _plain(wishes: SweepUpsert) -> dict[str, Any]:
    names = ("display_name", "description", "controller", "scheduler", "prior_runs_filters")
    return {name: getattr(wishes, name) for name in names if getattr(wishes, name) is not None}


def _state_after(state: SweepState, wish: str) -> SweepState:
    try:
        event = WISHES[wish.upper()]
    except KeyError:
        raise RefusedError(f"sweep state {wish!r}: one of {', '.join(WISHES)}") from None
    try:
        return move(state, event)
    except IllegalSweepMoveError as error:
        raise RefusedError(str(error)) from None


def create_project(world: AppContext, entity: str, name: str) -> Project:
    """Return the project, made now where it was not there; RefusedError for a name that is too long."""
    if not name or len(name) > _NAME_LENGTH:
        raise RefusedError(f"project name: 1 to {_NAME_LENGTH} characters")
    with world.database.write() as transaction:
        return projects.ensure(transaction, entity, name, world.clock())


def enqueue(world: AppContext, sweep_id: str, parameters: str, display_name: str | None) -> str:
    """Let a run with these parameters (a JSON object) wait for an agent, and return its name.

    RefusedError where the sweep is over, its run_cap is reached, or a value is none that JSON has; a
    scheduler's run beyond the cap is kept, and no agent gets it.
    """
    values = _read_parameters(parameters)
    now = world.clock()
    with world.database.write() as transaction:
        sweep = sweeps.find(transaction, sweep_id)
        if sweep is None:
            raise RefusedError(f"sweep {sweep_id} doesn't exist", status=404)
        within_cap = _check_open(sweep)
        name = world.new_id()
        index = sweep.issued if within_cap else None
        own = {"display_name": display_name, "waiting": within_cap}
        create_pending(transaction, sweep, name, index, json.dumps(values), now, own)
        if within_cap:
            _count(transaction, sweep)
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
    """Make a run of the sweep that has yet to begin, with its parameters as JSON; return its id."""
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
            "config": json.dumps(wrapped(json.loads(assigned))),
            "created_at": now,
            "heard_at": now,
            **own,
        },
    )


def wrapped(parameters: dict[str, Any]) -> dict[str, Any]:
    """Put each value where wandb's clients look for it."""
    return {name: {"value": value} for name, value in parameters.items()}


def _read_parameters(text: str) -> dict[str, Any]:
    """Return parameters; what a sweep configuration can't hold, such as NaN, no run of it has either."""
    values = _unwrapped(read_object(text, "config"))
    try:
        json_native("config", values)
    except ConfigError as error:
        raise RefusedError(str(error)) from None
    return values


def _unwrapped(config: dict[str, Any]) -> dict[str, Any]:
    """Return the plain values: wandb-core sends each as {"value": …}, `sweep.enqueue_run` as it was given."""
    wire = all(isinstance(entry, dict) and entry.keys() == {"value"} for entry in config.values())
    return {name: entry["value"] for name, entry in config.items()} if wire else config


def _check_open(sweep: Sweep) -> bool:
    """Return whether the run_cap leaves room for one more run."""
    if sweep.state in OVER:
        raise RefusedError(f"sweep {sweep.id} is {sweep.state}: it takes no more runs; resume it first")
    within_cap = sweep.run_cap is None or sweep.issued < sweep.run_cap
    if not within_cap and not engines.is_scheduled(sweep.config):
        raise RefusedError(f"sweep {sweep.id} has had all the runs that its run_cap allows ({sweep.run_cap})")
    return within_cap


def _count(transaction: Transaction, sweep: Sweep) -> None:
    changes: dict[str, Any] = {"issued": sweep.issued + 1}
    if sweep.next_index is None and engines.size_of(sweep.config) is not None:
        changes["next_index"] = sweep.issued  # the next point is not used up by this run
    sweeps.change(transaction, sweep.id, changes)
