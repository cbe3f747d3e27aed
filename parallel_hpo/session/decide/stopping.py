"""Stops, limits of time and memory of a run, a sweep without workers, and each run's seed. Pure, a part of
`decide`.
"""

from __future__ import annotations

import json
from dataclasses import replace
from hashlib import sha256
from typing import Final

from parallel_hpo.core.errors import ExitCode
from parallel_hpo.core.messages import CutRun, SweepEnd
from parallel_hpo.core.types import Outcome, Parameters, SlotState, StopKind
from parallel_hpo.session.decide.draft import Draft
from parallel_hpo.session.decide.events import DumpStacks, Kill, Send, StopAsked
from parallel_hpo.session.decide.state import (
    SILENT_S,
    CutShort,
    Move,
    SlotView,
    run_ends_at,
    silent_from,
    stalls_at,
)

SEEDS: Final = 2**31
"""Upper bound of a seed, exclusive. Some libraries refuse larger numbers, some refuse negative ones."""
_STEP: Final = 0x9E3779B1
"""Step between seeds. Odd, so that all 2**31 indices get distinct seeds; large, so that neighbours differ
much."""


def seed_of(sweep_seed: int, index: int) -> int:
    """Return the seed of a sweep's run, 0 ≤ seed < 2**31."""
    return (_number(f"{sweep_seed}") + index * _STEP) % SEEDS


def index_from(parameters: Parameters, before: int) -> int:
    """Return an index for a run of a server that gives runs none, as W&B's.

    Args:
        before: number of runs with the same parameters that have begun.
    """
    return _number(f"{before}/{json.dumps(parameters, sort_keys=True)}")


def _number(text: str) -> int:
    return int.from_bytes(sha256(text.encode()).digest()[:8])


def on_stop(draft: Draft, event: StopAsked) -> None:
    """Begin a stop; a later one can only be harder than an earlier one."""
    before = draft.view.ending.stop if draft.view.ending else None
    interrupted = before not in (None, StopKind.DRAIN)
    if event.kind is StopKind.KILL or (interrupted and event.kind is not StopKind.DRAIN):
        _kill_all(draft, event)
    elif not interrupted and before is not event.kind:
        draft.announce_stop(event.kind, event.reason)
        draft.leave(SweepEnd(event.reason, event.exit_code, event.kind))


def _kill_all(draft: Draft, event: StopAsked) -> None:
    draft.view = replace(draft.view, ending=SweepEnd(event.reason, event.exit_code, StopKind.KILL))
    draft.withdraw_starts(event.reason)
    draft.drop_reruns(event.reason)
    for slot in draft.view.slots:
        draft.move(slot.slot, Move.LEAVE)
        draft.change(slot.slot, spawn_at=None, replacing=False)
        if slot.alive:
            draft.actions.append(Kill(slot.slot))


def end_without_workers(draft: Draft) -> None:
    """End the sweep here once its last worker has given up or was drained."""
    if draft.view.ending is not None or not all(slot.is_terminal for slot in draft.view.slots):
        return
    if any(slot.state is SlotState.FATAL for slot in draft.view.slots):
        reason = f"all workers gave up: {draft.view.last_death}"
        draft.drop_reruns(reason, Outcome.STOPPED if draft.view.has_others else Outcome.CRASHED)
        draft.leave(SweepEnd(reason, ExitCode.FAILURE_POLICY))
    else:
        draft.leave(SweepEnd("all workers were drained", ExitCode.RESUMABLE, StopKind.DRAIN))


STACKS_S: Final = 1.0
"""Delay in seconds between a stalled worker's stack dump (milliseconds) and its kill."""


def end_overdue(draft: Draft) -> None:
    """Apply the limits of time of workers and their runs that have passed."""
    limits = draft.view.limits
    for slot in draft.view.slots:
        if _is_past(slot.kill_at, draft.now):
            draft.change(slot.slot, kill_at=None)
            draft.actions.append(Kill(slot.slot))
        elif _is_past(run_ends_at(draft.view, slot), draft.now):
            _cut_by_time(draft, slot, f"run timeout {limits.run_timeout_s:g} s")
        elif _is_past(stalls_at(draft.view, slot), draft.now):
            draft.actions.append(DumpStacks(slot.slot))
            reason = f"stalled: no log call and no output for {limits.stall_timeout_s:g} s"
            draft.change(slot.slot, cut=CutShort(reason, failed=False), kill_at=draft.now + STACKS_S)
        elif draft.view.ending is None and _is_past(silent_from(slot), draft.now):
            draft.actions.append(DumpStacks(slot.slot))
            draft.replace_worker(slot, f"replaced: it had work and was silent for {SILENT_S:g} s")


def _cut_by_time(draft: Draft, slot: SlotView, reason: str) -> None:
    """Interrupt a run after its timeout; kill it if it does not end within the grace time."""
    assert slot.run is not None
    draft.actions.append(Send(slot.slot, CutRun(slot.run.run_id, reason)))
    kill_at = draft.now + draft.view.limits.grace_s
    draft.change(slot.slot, cut=CutShort(reason, failed=True), kill_at=slot.kill_at or kill_at)


def on_memory(draft: Draft, slot: SlotView, used_mb: float) -> None:
    limit_mb = draft.view.limits.memory_limit_mb
    if limit_mb is not None and used_mb > limit_mb and slot.run is not None and slot.cut is None:
        reason = f"memory limit {limit_mb} MB: its process tree held {used_mb:.0f} MB"
        draft.change(slot.slot, cut=CutShort(reason, failed=False))
        draft.actions.append(Kill(slot.slot))


def _is_past(at: float | None, now: float) -> bool:
    return at is not None and at <= now
