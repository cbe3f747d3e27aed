"""What follows from a worker's death, for its run and for its slot, and from a birth that the system denied.

Pure, a part of `decide`.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from parallel_hpo.errors import ExitCode
from parallel_hpo.lifecycle import Move
from parallel_hpo.policy.restart import next_restart
from parallel_hpo.policy.retry import may_run_again
from parallel_hpo.policy.start import is_hopeless
from parallel_hpo.supervisor import device_care
from parallel_hpo.supervisor.actions import GiveBack
from parallel_hpo.supervisor.events import Died, SpawnDenied
from parallel_hpo.supervisor.step import Step
from parallel_hpo.supervisor.view import Ending, OpenRun, SlotView
from parallel_hpo.words import Message, Outcome, Slot, SlotState, StopKind

DENIED_WAIT_S: Final = 1.0
DENIED_WAIT_MAX_S: Final = 30.0
"""A worker that the system has no process for is tried again after 1, 2, 4 … 30 s, for as long as it takes:
scarcity passes, and is no fault of the slot's, whose restarts it does not cost."""


def on_spawn_denied(step: Step, event: SpawnDenied) -> None:
    slot = step.slot(event.slot)
    wait_s = min(DENIED_WAIT_MAX_S, DENIED_WAIT_S * 2.0 ** min(slot.denied, 10))
    step.change(slot.slot, denied=slot.denied + 1)
    step.move(slot.slot, Move.DENIED, event.why)
    if not step.slot(slot.slot).over:
        step.change(slot.slot, spawn_at=step.now + wait_s)
    if not slot.denied:
        words = f"w{slot.slot} can't be started: {event.why}; it is tried again until it can"
        step.tell(Message(words, warning=True))


def on_death(step: Step, event: Died) -> None:
    slot = step.slot(event.slot)
    step.change(
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
    known = slot.run or slot.assigned
    step.actions.append(GiveBack(slot.slot, keep=known.run_id if known else None))
    if slot.run is not None:
        _on_cut_short(step, slot, slot.run, event.cause)
    if slot.assigned is not None:
        _take_back(step, slot.assigned)
    cause = slot.fault.cause if slot.fault else event.cause
    step.view = replace(step.view, last_death=cause)
    if slot.state is SlotState.STARTING:
        _on_start_death(step, slot, cause)
    meant = slot.replacing and step.view.ending is None
    step.move(slot.slot, Move.REPLACED if meant else Move.DIED, cause)
    if step.slot(slot.slot).state is SlotState.BACKOFF:
        _plan_restart(step, slot.slot, cause, event.jitter)
    if slot.run is not None and step.view.ending is None:
        device_care.after_run(step, slot.slot, Outcome.CRASHED, event.cause)
    device_care.after_death(step, step.slot(slot.slot))


def _on_cut_short(step: Step, slot: SlotView, run: OpenRun, cause: str) -> None:
    """Decide what becomes of a run whose worker died under it."""
    run = replace(run, deaths=run.deaths + 1)
    reason = slot.cut.reason if slot.cut else cause
    ending = step.view.ending
    if ending is not None and ending.stop is not StopKind.DRAIN:
        reason = f"{ending.reason}; killed ({cause})"
        step.end_attempt(slot.slot, run, Outcome.STOPPED, reason, died=True, resumable=True)
    elif slot.cut is not None and slot.cut.failed:
        step.end_attempt(slot.slot, run, Outcome.FAILED, f"{reason}; killed", died=True)
    elif may_run_again(run.deaths, step.view.limits.retries):
        step.end_attempt(slot.slot, run, Outcome.CRASHED, reason, died=True, final=False)
        _take_back(step, _next_attempt(step, run))
    else:
        step.end_attempt(slot.slot, run, Outcome.CRASHED, reason, died=True)


def run_again_preempted(step: Step, slot: Slot, run: OpenRun, reason: str) -> None:
    """End an attempt that marked itself as preempting and left with an error; the run gets another one."""
    step.end_attempt(slot, run, Outcome.STOPPED, f"preempted: {reason}", final=False)
    _take_back(step, _next_attempt(step, replace(run, preemptions=run.preemptions + 1)))


def _next_attempt(step: Step, run: OpenRun) -> OpenRun:
    return replace(run, attempt=run.attempt + 1, spent_s=run.spent_s + step.now - run.since)


def _take_back(step: Step, run: OpenRun) -> None:
    """Keep a run for the next worker; where no worker will come, account for it now."""
    step.view = replace(step.view, reruns=(*step.view.reruns, run))
    if step.view.ending is not None:
        step.drop_reruns(step.view.ending.reason)


def _on_start_death(step: Step, slot: SlotView, cause: str) -> None:
    """End the sweep where every worker would die so before it is ready."""
    step.view = replace(step.view, start_deaths=(*step.view.start_deaths, cause))
    if slot.fault is not None:
        step.tell(Message(slot.fault.traceback.rstrip(), warning=True))
    if not step.view.loadable and is_hopeless(step.view.start_deaths):
        step.leave(Ending(f"no worker can start: {cause}", ExitCode.FAILURE_POLICY))


def _plan_restart(step: Step, slot: Slot, cause: str, jitter: float) -> None:
    limits = step.view.limits.restart
    restart = next_restart(step.slot(slot).restarts, limits, now=step.now, jitter=jitter)
    if restart is None:
        reason = f"gave up after {limits.max_restarts} restarts within {limits.window_s:g} s: {cause}"
        step.move(slot, Move.GIVE_UP, reason)
    else:
        step.change(slot, restarts=restart.history, spawn_at=step.now + restart.delay_s)
