"""When the sweep's processes leave: nothing is left to do, nobody to do it, or somebody asks for it.

Pure, a part of `decide`.

Runs and sweeps that had their time, stall, or hold too much memory: pure, a part of `decide`.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from parallel_hpo.core.errors import ExitCode
from parallel_hpo.core.messages import CutRun, SweepEnd
from parallel_hpo.core.types import Outcome, SlotState, StopKind
from parallel_hpo.count.policy import why_tripped
from parallel_hpo.session.decide import deadline
from parallel_hpo.session.decide.draft import Draft
from parallel_hpo.session.decide.events import DumpStacks, Kill, Send, StopAsked
from parallel_hpo.session.decide.state import (
    SILENT_S,
    CutShort,
    SlotView,
    SweepView,
    run_ends_at,
    silent_from,
    stalls_at,
)
from parallel_hpo.session.decide.transitions import Move


def on_stop(draft: Draft, event: StopAsked) -> None:
    """Take a stop; a later one may only be harder than an earlier one."""
    before = draft.view.ending.stop if draft.view.ending else None
    interrupted = before not in (None, StopKind.DRAIN)
    if event.kind is StopKind.KILL or (interrupted and event.kind is not StopKind.DRAIN):
        _kill_all(draft, event)
    elif not interrupted and before is not event.kind:
        draft.tell_stop(event.kind, event.reason)
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


def end_if_done(draft: Draft) -> None:
    """End the sweep when nothing is left to do, or nobody to do it."""
    if draft.view.ending is not None:
        return
    tripped = why_tripped(draft.view.failures, draft.view.limits.failures)
    if tripped:
        draft.leave(SweepEnd(tripped, ExitCode.FAILURE_POLICY, StopKind.INTERRUPT))
    elif all(slot.over for slot in draft.view.slots):
        _end_without_workers(draft)
    elif any(slot.busy for slot in draft.view.slots) or draft.view.asking:
        pass
    elif draft.view.grant is None and not draft.work():
        draft.leave(_complete(draft.view))  # a pool says itself when nothing is left on any machine
    elif deadline.is_too_late(draft.view, draft.now):
        deadline.end(draft)


def _end_without_workers(draft: Draft) -> None:
    """End a sweep whose last worker gave up, or was drained by somebody."""
    if any(slot.state is SlotState.FATAL for slot in draft.view.slots):
        reason = f"all workers gave up: {draft.view.last_death}"
        # Another machine may do better with what a pool gets back.
        draft.drop_reruns(reason, Outcome.CRASHED if draft.view.grant is None else Outcome.STOPPED)
        draft.leave(SweepEnd(reason, ExitCode.FAILURE_POLICY))
    else:
        draft.leave(SweepEnd("all workers were drained", ExitCode.RESUMABLE, StopKind.DRAIN))


def _complete(view: SweepView) -> SweepEnd:
    """Return the ending of a sweep in which nothing is left to do."""
    reason = view.exhausted or f"all {view.limits.count} runs performed"
    none_finished = view.started > 0 and view.failures.none_finished
    return SweepEnd(reason, ExitCode.NO_RUN_FINISHED if none_finished else ExitCode.COMPLETE)


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
        draft.leave(SweepEnd(reason, ExitCode.SWEEP_TIMEOUT, StopKind.INTERRUPT))
    elif draft.view.ending is None and _is_past(draft.view.deadline_at, draft.now):
        reason = f"deadline {limits.deadline}"
        draft.tell_stop(StopKind.INTERRUPT, reason)
        draft.leave(SweepEnd(reason, ExitCode.SWEEP_TIMEOUT, StopKind.INTERRUPT))


def _cut_by_time(draft: Draft, slot: SlotView, reason: str) -> None:
    """Interrupt a run that is past its time; where it does not end, it is killed."""
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
