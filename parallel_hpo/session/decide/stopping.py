"""Runs that would not end before the deadline are not started: pure, a part of `decide`.

What is not started is left to `--resume`. While others run a worker without a run waits: a shorter
run than those before may make room for one more.

Each run's own seed: pure.

A server of ours says which place in its sweep a run has. W&B's says none: there what tells runs apart
is their parameters, and of those with the same ones which of them it is.

When the sweep's processes leave: nothing is left to do, nobody to do it, or somebody asks for it.

Pure, a part of `decide`.

Runs and sweeps that had their time, stall, or hold too much memory: pure, a part of `decide`.
"""

from __future__ import annotations

import json
from dataclasses import replace
from hashlib import sha256
from typing import Final

from parallel_hpo.core.errors import ExitCode
from parallel_hpo.core.messages import CutRun, SweepEnd
from parallel_hpo.core.notices import Message
from parallel_hpo.core.types import Outcome, Parameters, SlotState, StopKind
from parallel_hpo.count.policy import note_duration, runs_within, why_too_late, why_tripped
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

TOO_LATE: Final = "replaced: its next run would not end before the deadline"


def longest_lease(view: SweepView, now: float) -> int | None:
    """Return how many runs, one after the other, would end before the deadline; None: there is none."""
    return None if view.deadline_at is None else runs_within(view.took, view.deadline_at - now)


def is_too_late(view: SweepView, now: float) -> bool:
    """Whether a run that starts now would not end before the deadline."""
    return longest_lease(view, now) == 0


def note_run(draft: Draft, outcome: Outcome, took_s: float) -> None:
    """Let a run that has ended by itself, or by the sweep's wish, say how long one takes."""
    if draft.view.deadline_at is not None:
        draft.view = replace(draft.view, took=note_duration(draft.view.took, took_s, outcome))


def say_once(draft: Draft) -> None:
    """Say that no run starts any more, where there are some."""
    if not draft.view.told_too_late:
        draft.view = replace(draft.view, told_too_late=True)
        draft.tell(Message(_why(draft)))


def send_back(draft: Draft, slot: SlotView) -> None:
    """Let a leased run go back to its server, which takes that from a worker that leaves."""
    say_once(draft)
    draft.replace_worker(slot, TOO_LATE)


def end_too_late(draft: Draft) -> None:
    """End a sweep of which nothing is on, and nothing more may start."""
    draft.leave(SweepEnd(_why(draft), ExitCode.SWEEP_TIMEOUT, StopKind.DRAIN))


def _why(draft: Draft) -> str:
    assert draft.view.deadline_at is not None
    left_s = draft.view.deadline_at - draft.now
    return why_too_late(draft.view.took, left_s, str(draft.view.limits.deadline))


SEEDS: Final = 2**31
"""What every library takes for a seed: some know no larger number, some no negative one."""
_STEP: Final = 0x9E3779B1
"""Odd, so that no two of 2**31 places come to the same seed; large, so that neighbours are far apart."""


def seed_of(sweep_seed: int, place: int) -> int:
    """Return the seed of the run at a place of a sweep, a whole number from 0 and below 2**31."""
    return (_number(f"{sweep_seed}") + place * _STEP) % SEEDS


def place_by(parameters: Parameters, before: int) -> int:
    """Return a place for a run with these parameters, of which `before` others have begun."""
    return _number(f"{before}/{json.dumps(parameters, sort_keys=True)}")


def _number(text: str) -> int:
    return int.from_bytes(sha256(text.encode()).digest()[:8])


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
    elif is_too_late(draft.view, draft.now):
        end_too_late(draft)


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
