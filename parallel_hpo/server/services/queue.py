"""Runs that a client puts into a sweep's queue: by `sweep.enqueue_run`, or a `wandb sweep-scheduler`.

    client ── enqueueSweepRun ─▶ a pending run, waiting ─▶ the next agent that asks

They come before anything that the sweep's own method would choose. A sweep that has a
scheduler has no other runs: its method is the scheduler's. wandb client: a scheduler
takes a refusal for fatal and asks beyond the run_cap; it leaves once the sweep is finished.
What waits when the sweep ends is killed, as `abandoned` says.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from parallel_hpo.config.sweep_checks import json_native
from parallel_hpo.errors import ConfigError
from parallel_hpo.server.engines import configurations
from parallel_hpo.server.refusals import RefusedError
from parallel_hpo.server.rules.run_states import RunState
from parallel_hpo.server.services.abandoned import OVER
from parallel_hpo.server.store import runs, sweeps
from parallel_hpo.server.store.database import Transaction
from parallel_hpo.server.store.records import Sweep
from parallel_hpo.server.values import read_object
from parallel_hpo.server.world import World


def enqueue(world: World, sweep_id: str, parameters: str, display_name: str | None) -> str:
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
    if not within_cap and not configurations.is_scheduled(sweep.config):
        raise RefusedError(f"sweep {sweep.id} has had all the runs that its run_cap allows ({sweep.run_cap})")
    return within_cap


def _count(transaction: Transaction, sweep: Sweep) -> None:
    changes: dict[str, Any] = {"issued": sweep.issued + 1}
    if sweep.next_index is None and configurations.size_of(sweep.config) is not None:
        changes["next_index"] = sweep.issued  # the next point is not used up by this run
    sweeps.change(transaction, sweep.id, changes)
