"""When which worker performed which run: a lane for each worker, as far as the server saw it."""

from __future__ import annotations

from typing import Any

from parallel_hpo.server.pages.rows import slot_of
from parallel_hpo.server.pages.sweep_data import sweep_at
from parallel_hpo.server.rules.run_states import OPEN
from parallel_hpo.server.services.supervision import SweepAt
from parallel_hpo.server.store import agents, watching
from parallel_hpo.server.store.watching import Seen, Which
from parallel_hpo.server.world import World

_OPEN = frozenset(str(state) for state in OPEN)
Lane = tuple[str, str]
"""A machine, and what a worker is called there."""


def timeline(world: World, at: SweepAt) -> dict[str, Any]:
    """Return lanes, bars (runs) and marks (restarts of workers); times in seconds since the epoch."""
    with world.database.read() as transaction:
        sweep = sweep_at(transaction, at)
        workers = agents.of_sweep(transaction, sweep.id)
        runs = list(watching.all_of(transaction, Which(sweep.project_id, sweep.id)))
    lanes = sorted({*map(_lane, ((each.label, each.host) for each in workers)), *map(_lane_of, runs)})
    place = {lane: number for number, lane in enumerate(lanes)}
    bars = [_bar(place[_lane_of(run)], run) for run in runs if run.started_at is not None]
    seen = set[Lane]()
    marks = []
    for each in workers:
        lane = _lane((each.label, each.host))
        if lane in seen:
            marks.append(
                {"lane": place[lane], "at": each.created_at, "kind": "restart", "text": "a new agent"}
            )
        seen.add(lane)
    return {
        "now": world.clock(),
        "lanes": [{"name": name, "machine": machine, "device": None} for machine, name in lanes],
        "bars": bars,
        "marks": marks,
    }


def _lane(worker: tuple[str, str | None]) -> Lane:
    label, host = worker
    slot = slot_of(label)
    return host or "?", label or "agent" if slot is None else f"worker {slot}"


def _lane_of(run: Seen) -> Lane:
    return _lane((run.opened_by or run.agent_label or "", run.host))


def _bar(lane: int, run: Seen) -> dict[str, Any]:
    return {
        "lane": lane,
        "run": run.name,
        "attempt": 1,
        "start": run.started_at,
        "end": None if run.state in _OPEN else run.heard_at,
        "outcome": run.state,
    }
