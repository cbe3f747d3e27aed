"""Runs and sweeps that had their time, stall, or hold too much memory: pure, a part of `decide`."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from parallel_hpo.errors import ExitCode
from parallel_hpo.protocol.ends import Ending
from parallel_hpo.protocol.messages import Cut
from parallel_hpo.supervisor.decisions.actions import DumpStacks, Kill, Send
from parallel_hpo.supervisor.decisions.draft import Draft
from parallel_hpo.supervisor.decisions.view import (
    SILENT_S,
    CutShort,
    SlotView,
    run_ends_at,
    silent_from,
    stalls_at,
)
from parallel_hpo.words import StopKind

STACKS_S: Final = 1.0
"""From asking a stalled worker for its stacks to killing it: writing them takes milliseconds."""


def set_the_clock(draft: Draft) -> None:
    """Let the sweep's own time begin."""
    timeout_s = draft.view.limits.sweep_timeout_s
    if timeout_s is not None:
        draft.view = replace(draft.view, end_at=draft.now + timeout_s)


def end_overdue(draft: Draft) -> None:
    """Kill, cut short or end what has had its time."""
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
            draft.replace_worker(slot, f"replaced: it was given work and has said nothing for {SILENT_S:g} s")
    if draft.view.ending is None and _is_past(draft.view.end_at, draft.now):
        reason = f"sweep timeout {limits.sweep_timeout_s:g} s"
        draft.leave(Ending(reason, ExitCode.SWEEP_TIMEOUT, StopKind.INTERRUPT))
    elif draft.view.ending is None and _is_past(draft.view.deadline_at, draft.now):
        reason = f"deadline {limits.deadline}"
        draft.tell_stop(StopKind.INTERRUPT, reason)
        draft.leave(Ending(reason, ExitCode.SWEEP_TIMEOUT, StopKind.INTERRUPT))


def _cut_by_time(draft: Draft, slot: SlotView, reason: str) -> None:
    """Interrupt a run that is past its time; where it does not end, it is killed."""
    assert slot.run is not None
    draft.actions.append(Send(slot.slot, Cut(slot.run.run_id, reason)))
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
