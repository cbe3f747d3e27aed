"""Runs and sweeps that had their time, stall, or hold too much memory: pure, a part of `decide`."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from parallel_hpo.errors import ExitCode
from parallel_hpo.supervisor.actions import DumpStacks, Kill, Send
from parallel_hpo.supervisor.step import Step
from parallel_hpo.supervisor.view import (
    SILENT_S,
    CutShort,
    Ending,
    SlotView,
    run_ends_at,
    silent_from,
    stalls_at,
)
from parallel_hpo.words import Cut, StopKind

STACKS_S: Final = 1.0
"""From asking a stalled worker for its stacks to killing it: writing them takes milliseconds."""


def set_the_clock(step: Step) -> None:
    """Let the sweep's own time begin."""
    timeout_s = step.view.limits.sweep_timeout_s
    if timeout_s is not None:
        step.view = replace(step.view, end_at=step.now + timeout_s)


def end_overdue(step: Step) -> None:
    """Kill, cut short or end what has had its time."""
    limits = step.view.limits
    for slot in step.view.slots:
        if _is_past(slot.kill_at, step.now):
            step.change(slot.slot, kill_at=None)
            step.actions.append(Kill(slot.slot))
        elif _is_past(run_ends_at(step.view, slot), step.now):
            _cut_by_time(step, slot, f"run timeout {limits.run_timeout_s:g} s")
        elif _is_past(stalls_at(step.view, slot), step.now):
            step.actions.append(DumpStacks(slot.slot))
            reason = f"stalled: no log call and no output for {limits.stall_timeout_s:g} s"
            step.change(slot.slot, cut=CutShort(reason, failed=False), kill_at=step.now + STACKS_S)
        elif step.view.ending is None and _is_past(silent_from(slot), step.now):
            step.actions.append(DumpStacks(slot.slot))
            step.replace_worker(slot, f"replaced: it was given work and has said nothing for {SILENT_S:g} s")
    if step.view.ending is None and _is_past(step.view.end_at, step.now):
        reason = f"sweep timeout {limits.sweep_timeout_s:g} s"
        step.leave(Ending(reason, ExitCode.SWEEP_TIMEOUT, StopKind.INTERRUPT))


def _cut_by_time(step: Step, slot: SlotView, reason: str) -> None:
    """Interrupt a run that is past its time; where it does not end, it is killed."""
    assert slot.run is not None
    step.actions.append(Send(slot.slot, Cut(slot.run.run_id, reason)))
    kill_at = step.now + step.view.limits.grace_s
    step.change(slot.slot, cut=CutShort(reason, failed=True), kill_at=slot.kill_at or kill_at)


def on_memory(step: Step, slot: SlotView, used_mb: float) -> None:
    limit_mb = step.view.limits.memory_limit_mb
    if limit_mb is not None and used_mb > limit_mb and slot.run is not None and slot.cut is None:
        reason = f"memory limit {limit_mb} MB: its process tree held {used_mb:.0f} MB"
        step.change(slot.slot, cut=CutShort(reason, failed=False))
        step.actions.append(Kill(slot.slot))


def _is_past(at: float | None, now: float) -> bool:
    return at is not None and at <= now
