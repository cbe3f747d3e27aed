"""The timeline of a sweep: one lane per worker, one bar per attempt, and marks for incidents.

This machine's ledgers supply attempts, devices and restarts. Runs in no ledger, from other machines or stock
agents, get lanes from the server's database.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from parallel_hpo.core.keys import slot_of
from parallel_hpo.core.types import RunId, Slot
from parallel_hpo.records.reader import RESTART, Attempt, Incident, PerformedRuns
from parallel_hpo.server.context import AppContext
from parallel_hpo.server.pages.run_data import ledgers_of
from parallel_hpo.server.pages.sweep_data import sweep_at
from parallel_hpo.server.rules.runs import OPEN
from parallel_hpo.server.services.supervision import SweepAt
from parallel_hpo.server.store import run_table, sweeps
from parallel_hpo.server.store.records import Agent
from parallel_hpo.server.store.run_table import RunScope, TableRun

Place = Mapping[tuple[str, Slot], int]
"""Lane numbers by share and slot."""

_OPEN = frozenset(str(state) for state in OPEN)
Lane = tuple[str, str]
"""A machine, and the name of a worker on it."""


def timeline(world: AppContext, at: SweepAt) -> dict[str, Any]:
    """Return lanes, bars (attempts) and marks; times in seconds since the epoch."""
    with world.database.read() as transaction:
        sweep = sweep_at(transaction, at)
        workers = sweeps.agents_of_sweep(transaction, sweep.id)
        runs = list(run_table.all_of(transaction, RunScope(sweep.project_id, sweep.id)))
    shares = ledgers_of(world, at)
    going_on = {run.name for run in runs if run.state in _OPEN}
    from_ledgers = lanes_of(shares, going_on.__contains__)
    known = {attempt.run_id for share in shares for attempt in share.attempts}
    others = [run for run in runs if run.name not in known and run.started_at is not None]
    seen = _from_database(others, [] if shares else workers, first=len(from_ledgers["lanes"]))
    return {"now": world.clock(), **{name: [*from_ledgers[name], *seen[name]] for name in from_ledgers}}


def _from_database(
    runs: Sequence[TableRun], workers: Iterable[Agent], *, first: int
) -> dict[str, list[dict[str, Any]]]:
    """Return lanes, bars and marks from the server's database; lane numbers begin at `first`."""
    workers = list(workers)
    lanes = sorted({*(_lane(each.label, each.host) for each in workers), *map(_lane_of, runs)})
    place = {lane: number for number, lane in enumerate(lanes, first)}
    return {
        "lanes": [{"name": name, "machine": machine, "device": None} for machine, name in lanes],
        "bars": [_bar(place[_lane_of(run)], run) for run in runs],
        "marks": list(_restarts(workers, place)),
    }


def _restarts(workers: Iterable[Agent], place: dict[Lane, int]) -> Iterable[dict[str, Any]]:
    """Yield a mark for each new process in a slot; one process may be several agents."""
    last = dict[Lane, str | None]()
    for each in workers:
        lane = _lane(each.label, each.host)
        if last.get(lane, each.label) != each.label:
            yield {
                "lane": place[lane],
                "at": each.created_at,
                "kind": RESTART,
                "text": "a new process in its place",
            }
        last[lane] = each.label


def _lane(label: str | None, host: str | None) -> Lane:
    slot = slot_of(label or "")
    return host or "?", (label or "agent") if slot is None else f"worker {slot}"


def _lane_of(run: TableRun) -> Lane:
    return _lane(run.opened_by or run.agent_label, run.host)


def _bar(lane: int, run: TableRun) -> dict[str, Any]:
    return {
        "lane": lane,
        "run": run.name,
        "attempt": 1,
        "start": run.started_at,
        "end": None if run.state in _OPEN else run.heard_at,
        "outcome": run.state,
    }


def lanes_of(shares: Sequence[PerformedRuns], goes_on: Callable[[RunId], bool]) -> dict[str, Any]:
    """Return lanes, bars and marks of ledgers; times in seconds since the epoch.

    `goes_on` returns whether a run is still open. If not, its attempt without an end was cut short.
    """
    lanes = [(share, slot) for share in shares for slot in share.slots]
    place = {(share.share, slot): number for number, (share, slot) in enumerate(lanes)}
    return {
        "lanes": [_ledger_lane(share, slot) for share, slot in lanes],
        "bars": [
            _ledger_bar(place[share.share, attempt.slot], attempt, goes_on)
            for share in shares
            for attempt in share.attempts
        ],
        "marks": [mark for share in shares for mark in (*_incidents(share, place), *_retries(share, place))],
    }


def _ledger_lane(share: PerformedRuns, slot: Slot) -> dict[str, Any]:
    return {
        "name": share.name_of(slot),
        "machine": share.machine_of(slot),
        "device": _devices(share, slot),
    }


def _devices(share: PerformedRuns, slot: Slot) -> str | None:
    """Return the devices that a worker has used; None if unknown."""
    found = {share.devices.get(each.run_id) for each in share.attempts if each.slot == slot}
    return ", ".join(sorted(device for device in found | {share.assigned.get(slot)} if device)) or None


def _ledger_bar(lane: int, attempt: Attempt, goes_on: Callable[[RunId], bool]) -> dict[str, Any]:
    lost = attempt.outcome is None and not goes_on(attempt.run_id)
    return {
        "lane": lane,
        "run": attempt.run_id,
        "attempt": attempt.attempt,
        "start": attempt.started_at,
        "end": attempt.started_at if lost else attempt.ended_at,
        "outcome": "cut short" if lost else attempt.outcome,
    }


def _incidents(share: PerformedRuns, place: Place) -> Iterator[dict[str, Any]]:
    for mark in share.incidents:
        for slot in _slots_of(share, mark):
            words = mark.reason or "a new process in its place"
            yield {"lane": place[share.share, slot], "at": mark.at, "kind": mark.kind, "text": words}


def _slots_of(share: PerformedRuns, mark: Incident) -> Iterator[Slot]:
    """Yield the slot of a mark; for a device's mark, the slots with that device."""
    if mark.slot is not None:
        yield mark.slot
    else:
        yield from (slot for slot in share.slots if share.assigned.get(slot) == mark.device)


def _retries(share: PerformedRuns, place: Place) -> Iterator[dict[str, Any]]:
    """Yield a mark for each retry, with the reason why the previous attempt ended."""
    before: dict[RunId, str] = {}
    for attempt in share.attempts:
        if attempt.attempt > 1:
            lane, words = place[share.share, attempt.slot], before.get(attempt.run_id) or "another attempt"
            yield {"lane": lane, "at": attempt.started_at, "kind": "retry", "text": words}
        before[attempt.run_id] = attempt.reason
