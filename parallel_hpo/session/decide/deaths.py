"""What follows from a worker's death, for its run and for its slot, and from a spawn that the system denied.

Pure, a part of `decide`.

What follows when a run has left `main` and its worker says how. Pure, a part of `decide`.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from parallel_hpo.core.errors import ExitCode
from parallel_hpo.core.messages import AttemptEnd, RunEnded, SweepEnd
from parallel_hpo.core.notices import Message
from parallel_hpo.core.types import Outcome, Slot, SlotState, StopKind
from parallel_hpo.count.policy import is_hopeless, may_be_preempted_again, may_run_again, next_restart
from parallel_hpo.session.decide import devices, stopping
from parallel_hpo.session.decide.draft import Draft
from parallel_hpo.session.decide.events import Died, GiveBack, SpawnDenied, TellEnd
from parallel_hpo.session.decide.state import OpenRun, SlotView
from parallel_hpo.session.decide.transitions import Move

DENIED_WAIT_S: Final = 1.0
DENIED_WAIT_MAX_S: Final = 30.0
"""A worker that the system has no process for is tried again after 1, 2, 4 … 30 s, for as long as it takes:
scarcity passes, and is no fault of the slot's, whose restarts it does not cost."""


def on_spawn_denied(draft: Draft, event: SpawnDenied) -> None:
    slot = draft.slot(event.slot)
    wait_s = min(DENIED_WAIT_MAX_S, DENIED_WAIT_S * 2.0 ** min(slot.denied, 10))
    draft.change(slot.slot, denied=slot.denied + 1)
    draft.move(slot.slot, Move.DENIED, event.why)
    if not draft.slot(slot.slot).over:
        draft.change(slot.slot, spawn_at=draft.now + wait_s)
    if not slot.denied:
        words = f"w{slot.slot} can't be started: {event.why}; it is tried again until it can"
        draft.tell(Message(words, warning=True))


def on_death(draft: Draft, event: Died) -> None:
    slot = draft.slot(event.slot)
    draft.change(
        slot.slot,
        busy=False,
        lease_left=0,
        run=None,
        assigned=None,
        cut=None,
        performed=0,
        replacing=False,
        fault=None,
        kill_at=None,
        lease_at=slot.lease_at if slot.replacing else None,
    )
    draft.actions.append(GiveBack(slot.slot, keep=slot.held[0].run_id if slot.held else None))
    if slot.run is not None:
        _on_cut_short(draft, slot, slot.run, event.cause)
    if slot.assigned is not None:
        _take_back(draft, slot.assigned)
    cause = slot.fault.cause if slot.fault else event.cause
    draft.view = replace(draft.view, last_death=cause)
    if slot.state is SlotState.STARTING:
        _on_start_death(draft, slot, cause)
    meant = slot.replacing and draft.view.ending is None
    draft.move(slot.slot, Move.REPLACED if meant else Move.DIED, cause)
    if draft.slot(slot.slot).state is SlotState.BACKOFF:
        _plan_restart(draft, slot.slot, cause, event.jitter)
    if slot.run is not None and draft.view.ending is None:
        devices.after_run(draft, slot.slot, Outcome.CRASHED, event.cause)
    devices.after_death(draft, draft.slot(slot.slot))


def _on_cut_short(draft: Draft, slot: SlotView, run: OpenRun, cause: str) -> None:
    """Decide what becomes of a run whose worker died under it."""
    run = replace(run, deaths=run.deaths + 1)
    reason = slot.cut.reason if slot.cut else cause
    ending = draft.view.ending
    again = False
    if ending is not None and ending.stop is not StopKind.DRAIN:
        why = f"{ending.reason}; killed ({cause})"
        end = AttemptEnd(outcome=Outcome.STOPPED, reason=why, resumable=True)
    elif slot.cut is not None and slot.cut.failed:
        end = AttemptEnd(outcome=Outcome.FAILED, reason=f"{reason}; killed")
    else:
        end = AttemptEnd(outcome=Outcome.CRASHED, reason=reason)
        again = may_run_again(run.deaths, draft.view.limits.retries)
    draft.end_attempt(slot.slot, run, end, died=True, final=not again)
    if again:
        _take_back(draft, _next_attempt(draft, run))


def run_again_preempted(draft: Draft, slot: Slot, run: OpenRun, reason: str) -> None:
    """End an attempt that marked itself as preempting and left with an error; the run gets another one."""
    end = AttemptEnd(outcome=Outcome.STOPPED, reason=f"preempted: {reason}")
    draft.end_attempt(slot, run, end, final=False)
    _take_back(draft, _next_attempt(draft, replace(run, preemptions=run.preemptions + 1)))


def run_again_alone(draft: Draft, slot: SlotView, run: OpenRun, reason: str) -> None:
    """End an attempt that others left too little memory; the run gets another one, alone on its device."""
    end = AttemptEnd(outcome=Outcome.STOPPED, reason=f"too little memory beside others: {reason}")
    draft.end_attempt(slot.slot, run, end, final=False)
    _take_back(draft, replace(_next_attempt(draft, run), alone_on=slot.device))


def _next_attempt(draft: Draft, run: OpenRun) -> OpenRun:
    return replace(run, attempt=run.attempt + 1, spent_s=run.spent_s + draft.now - run.since)


def _take_back(draft: Draft, run: OpenRun) -> None:
    """Keep a run for the next worker; where no worker will come, account for it now."""
    draft.view = replace(draft.view, reruns=(*draft.view.reruns, run))
    if draft.view.ending is not None:
        draft.drop_reruns(draft.view.ending.reason)


def _on_start_death(draft: Draft, slot: SlotView, cause: str) -> None:
    """End the sweep where every worker would die so before it is ready."""
    draft.view = replace(draft.view, start_deaths=(*draft.view.start_deaths, cause))
    if slot.fault is not None:
        draft.tell(Message(slot.fault.traceback.rstrip(), warning=True))
    if not draft.view.loadable and is_hopeless(draft.view.start_deaths):
        draft.leave(SweepEnd(f"no worker can start: {cause}", ExitCode.FAILURE_POLICY))


def _plan_restart(draft: Draft, slot: Slot, cause: str, jitter: float) -> None:
    limits = draft.view.limits.restart
    restart = next_restart(draft.slot(slot).restarts, limits, now=draft.now, jitter=jitter)
    if restart is None:
        reason = f"gave up after {limits.max_restarts} restarts within {limits.window_s:g} s: {cause}"
        draft.move(slot, Move.GIVE_UP, reason)
    else:
        draft.change(slot, restarts=restart.history, spawn_at=draft.now + restart.delay_s)


def on_run_ended(draft: Draft, slot: SlotView, report: RunEnded) -> None:
    if slot.run is None or slot.run.run_id != report.run_id:
        return  # nothing of it was recorded: a late message changes nothing
    kill_at = None if slot.cut else slot.kill_at
    if slot.state is SlotState.STOPPING and (slot.replacing or kill_at is None):
        kill_at = draft.now + draft.view.limits.grace_s  # nothing keeps it any more but what may hang
    draft.change(
        slot.slot, run=None, cut=None, kill_at=kill_at, performed=slot.performed + 1, active_at=draft.now
    )
    again = _may_be_run_again(draft, slot, slot.run, report)
    if not again:
        _end(draft, slot, slot.run, report)
    if report.unsent or not report.told:
        # What is sent afterwards opens the run again: where that is cut short it stays open.
        draft.actions.append(TellEnd(report.run_id, None if again else report.outcome, report.unsent))
    if report.worn and draft.slot(slot.slot).state is SlotState.RUNNING:
        draft.replace_worker(draft.slot(slot.slot), f"replaced: {report.worn}")


def _may_be_run_again(draft: Draft, slot: SlotView, run: OpenRun, report: RunEnded) -> bool:
    """Give a run another attempt that was preempted, or that others left too little memory."""
    if report.preempted and may_be_preempted_again(run.preemptions):
        run_again_preempted(draft, slot.slot, run, report.reason)
    elif devices.fell_short(draft, slot, report.outcome, report.reason):
        run_again_alone(draft, slot, run, report.reason)
        devices.after_shortage(draft, slot, report.reason)
    else:
        return False
    return True


def _end(draft: Draft, slot: SlotView, run: OpenRun, report: RunEnded) -> None:
    """End the run with its attempt, and see to what that tells of its metric and its device."""
    draft.end_attempt(slot.slot, run, report)
    if report.missing is not None and not draft.view.told_of_metric:
        draft.view = replace(draft.view, told_of_metric=True)
        draft.tell(report.missing)
    devices.note_measured_run(draft, slot, report.outcome)
    if not report.resumable:
        stopping.note_run(draft, report.outcome, draft.now - run.since)
    devices.after_run(draft, slot.slot, report.outcome, report.reason)
