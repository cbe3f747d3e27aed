"""What follows when a run starts in a worker: a new one, or one that is known. Pure, a part of `decide`.

A server may deliver a run twice: it never heard of its end (a run that was offline), or it
wants another attempt of it (W&B requeues preempted runs). The ledger's word decides; a
run is counted once.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from parallel_hpo.supervisor.actions import RecordStart, Send, TellEnd
from parallel_hpo.supervisor.events import Delivered
from parallel_hpo.supervisor.step import Step
from parallel_hpo.supervisor.view import OpenRun, SlotView, SweepView
from parallel_hpo.words import (
    Message,
    Outcome,
    Proceed,
    RunBegan,
    RunId,
    RunStarted,
    Settle,
    SlotState,
)

EXIT_CODES: Final = {Outcome.FINISHED: 0, Outcome.FAILED: 1}
"""How a performed run is closed on a server that has not heard of its end; of the other ends it is told by
us alone, as no process of theirs has said them."""


def on_run_started(step: Step, slot: SlotView, report: RunStarted) -> None:
    """Record the start; only then is the worker told to enter `main`."""
    if slot.state is SlotState.STOPPING:
        return  # it hears the order to leave instead, and the run goes back unstarted
    if slot.assigned is not None:
        _start(step, slot, slot.assigned)
    else:
        step.view = replace(step.view, started=step.view.started + 1)
        _start(step, slot, OpenRun(report.run_id, report.parameters, report.attempt, step.now))


def on_delivered(step: Step, event: Delivered) -> None:
    """Take a known run as what it is: the next attempt of one that waits for it, or one that is over."""
    slot, report = step.slot(event.slot), event.report
    if slot.state is SlotState.STOPPING:
        return
    waiting = [run for run in step.view.reruns if run.run_id == report.run_id]
    if waiting:
        others = tuple(run for run in step.view.reruns if run.run_id != report.run_id)
        step.view = replace(step.view, reruns=others)
        _start(step, slot, waiting[0])
    elif event.outcome is None and not _is_elsewhere(step.view, report.run_id):
        _start(step, slot, OpenRun(report.run_id, report.parameters, event.attempts + 1, step.now))
    else:
        _settle(step, slot, report.run_id, event.outcome)


def _start(step: Step, slot: SlotView, known: OpenRun) -> None:
    run = replace(known, since=step.now)
    left = slot.lease_left if slot.assigned else max(0, slot.lease_left - 1)
    step.change(slot.slot, run=run, assigned=None, idle_returns=0, lease_left=left, active_at=step.now)
    step.actions.append(RecordStart(slot.slot, run))
    step.actions.append(Send(slot.slot, Proceed(run.run_id, run.attempt)))
    step.tell(RunBegan(slot.slot, run.run_id, run.attempt, run.parameters))


def _settle(step: Step, slot: SlotView, run_id: RunId, outcome: Outcome | None) -> None:
    """Have the worker pass over a run that is over, or on in another slot, and the server told of its end."""
    exit_code = None if outcome is None else EXIT_CODES.get(outcome)
    step.change(slot.slot, lease_left=max(0, slot.lease_left - 1), active_at=step.now)
    if outcome is not None:
        step.actions.append(TellEnd(run_id, outcome))
        words = f"run {run_id} was delivered again, but is {outcome}: its server is told so"
        step.tell(Message(words))
    step.actions.append(Send(slot.slot, Settle(run_id, exit_code)))


def _is_elsewhere(view: SweepView, run_id: RunId) -> bool:
    runs = [run for slot in view.slots for run in (slot.run, slot.assigned) if run is not None]
    return any(run.run_id == run_id for run in runs)
