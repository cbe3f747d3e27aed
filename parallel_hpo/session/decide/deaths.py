"""The end of a worker or of its run, and a spawn that the system denied. Pure, a part of `decide`."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from parallel_hpo.core.errors import ExitCode
from parallel_hpo.core.messages import AttemptEnd, RunEnded, SweepEnd
from parallel_hpo.core.notices import Message
from parallel_hpo.core.types import Outcome, Slot, SlotState, StopKind
from parallel_hpo.count.policy import is_hopeless, may_be_preempted_again, may_run_again, next_restart
from parallel_hpo.session.decide import devices
from parallel_hpo.session.decide.draft import Draft
from parallel_hpo.session.decide.events import Died, ReportEnd, ReturnRuns, SpawnDenied
from parallel_hpo.session.decide.state import Move, OpenRun, SlotView

DENIED_WAIT_S: Final = 1.0
DENIED_WAIT_MAX_S: Final = 30.0
"""First and longest wait before a denied spawn is retried (1, 2, 4 … 30 s). Retries are unlimited and don't
use up the slot's restarts: the shortage passes, and isn't the slot's fault."""


def on_spawn_denied(draft: Draft, event: SpawnDenied) -> None:
    slot = draft.slot(event.slot)
    wait_s = min(DENIED_WAIT_MAX_S, DENIED_WAIT_S * 2.0 ** min(slot.denied, 10))
    draft.change(slot.slot, denied=slot.denied + 1)
    draft.move(slot.slot, Move.DENIED, event.reason)
    if not draft.slot(slot.slot).is_terminal:
        draft.change(slot.slot, spawn_at=draft.now + wait_s)
    if not slot.denied:
        words = f"w{slot.slot} can't be started: {event.reason}; retrying until it can"
        draft.notify(Message(words, warning=True))


def on_death(draft: Draft, event: Died) -> None:
    slot = draft.slot(event.slot)
    draft.change(
        slot.slot,
        busy=False,
        lease_left=0,
        run=None,
        assigned=None,
        cut=None,
        completed=0,
        replacing=False,
        fault=None,
        kill_at=None,
        lease_at=slot.lease_at if slot.replacing else None,
    )
    draft.actions.append(ReturnRuns(slot.slot, keep=slot.held[0].run_id if slot.held else None))
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
    """End or requeue the run whose worker died."""
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
    """End an attempt that marked itself as preempting and left with an error, and requeue the run."""
    end = AttemptEnd(outcome=Outcome.STOPPED, reason=f"preempted: {reason}")
    draft.end_attempt(slot, run, end, final=False)
    _take_back(draft, _next_attempt(draft, replace(run, preemptions=run.preemptions + 1)))


def run_again_alone(draft: Draft, slot: SlotView, run: OpenRun, reason: str) -> None:
    """End an attempt that ran out of memory beside others, and requeue the run exclusively on its device."""
    end = AttemptEnd(outcome=Outcome.STOPPED, reason=f"too little memory beside others: {reason}")
    draft.end_attempt(slot.slot, run, end, final=False)
    _take_back(draft, replace(_next_attempt(draft, run), exclusive_on=slot.device))


def _next_attempt(draft: Draft, run: OpenRun) -> OpenRun:
    return replace(run, attempt=run.attempt + 1, spent_s=run.spent_s + draft.now - run.since)


def _take_back(draft: Draft, run: OpenRun) -> None:
    """Requeue a run for the next worker, or return it to the count if none may start."""
    draft.view = replace(draft.view, reruns=(*draft.view.reruns, run))
    if draft.view.ending is not None:
        draft.drop_reruns(draft.view.ending.reason)
    elif draft.view.grant.held:
        draft.drop_reruns(draft.view.grant.held)


def _on_start_death(draft: Draft, slot: SlotView, cause: str) -> None:
    """End the sweep if every worker would die this way before it is ready."""
    draft.view = replace(draft.view, start_deaths=(*draft.view.start_deaths, cause))
    if slot.fault is not None:
        draft.notify(Message(slot.fault.traceback.rstrip(), warning=True))
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
        return  # a late message about a run that was never recorded
    kill_at = None if slot.cut else slot.kill_at
    if slot.state is SlotState.STOPPING and (slot.replacing or kill_at is None):
        kill_at = draft.now + draft.view.limits.grace_s  # only a hang can keep it now
    draft.change(
        slot.slot, run=None, cut=None, kill_at=kill_at, completed=slot.completed + 1, active_at=draft.now
    )
    again = _may_be_run_again(draft, slot, slot.run, report)
    if not again:
        _end(draft, slot, slot.run, report)
    if report.unsent or not report.reported:
        # A later upload reopens the run; if that upload is cut short, the run stays open.
        draft.actions.append(ReportEnd(report.run_id, None if again else report.outcome, report.unsent))
    if report.reuse_problem and draft.slot(slot.slot).state is SlotState.RUNNING:
        draft.replace_worker(draft.slot(slot.slot), f"replaced: {report.reuse_problem}")


def _may_be_run_again(draft: Draft, slot: SlotView, run: OpenRun, report: RunEnded) -> bool:
    """Requeue a run that was preempted, or ran out of memory beside others; return whether it was."""
    if report.preempted and may_be_preempted_again(run.preemptions):
        run_again_preempted(draft, slot.slot, run, report.reason)
    elif devices.ran_out_of_shared_memory(draft, slot, report.outcome, report.reason):
        run_again_alone(draft, slot, run, report.reason)
        devices.after_shortage(draft, slot, report.reason)
    else:
        return False
    return True


def _end(draft: Draft, slot: SlotView, run: OpenRun, report: RunEnded) -> None:
    """End the run with its attempt, and update what is known of its metric and its device."""
    draft.end_attempt(slot.slot, run, report)
    if report.missing is not None and not draft.view.missing_metric_announced:
        draft.view = replace(draft.view, missing_metric_announced=True)
        draft.notify(report.missing)
    devices.note_measured_run(draft, slot, report.outcome)
    devices.after_run(draft, slot.slot, report.outcome, report.reason)
