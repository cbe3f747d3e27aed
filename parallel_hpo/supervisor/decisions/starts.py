"""What follows when a run starts in a worker: a new one, or one that is known. Pure, a part of `decide`.

A server may deliver a run twice: it never heard of its end (a run that was offline), or it
wants another attempt of it (W&B requeues preempted runs). The ledger's word decides; a
run is counted once.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from parallel_hpo.notices import Message, RunBegan
from parallel_hpo.protocol.messages import Proceed, RunStarted, Settle
from parallel_hpo.protocol.pool import KNOWN_TO_POOL, OVER_WORD
from parallel_hpo.supervisor.decisions import deadline
from parallel_hpo.supervisor.decisions.actions import AskStart, GiveBack, RecordStart, Send, TellEnd
from parallel_hpo.supervisor.decisions.draft import Draft
from parallel_hpo.supervisor.decisions.events import Delivered, StartGranted, StartRefused
from parallel_hpo.supervisor.decisions.seeding import seed_of
from parallel_hpo.supervisor.decisions.view import Limits, OpenRun, PendingStart, SlotView, SweepView
from parallel_hpo.words import Outcome, RunId, SlotState

EXIT_CODES: Final = {Outcome.FINISHED: 0, Outcome.FAILED: 1}
"""How a performed run is closed on a server that has not heard of its end; of the other ends it is told by
us alone, as no process of theirs has said them."""


def on_run_started(draft: Draft, slot: SlotView, report: RunStarted) -> None:
    """Have the start counted and recorded; only then is the worker told to enter `main`."""
    if slot.state is SlotState.STOPPING:
        return  # it hears the order to leave instead, and the run goes back unstarted
    if slot.assigned is not None:
        _start(draft, slot, slot.assigned)
    elif deadline.is_too_late(draft.view, draft.now):
        deadline.send_back(draft, slot)
    else:
        seed = _seed_of(draft.view.limits, report.place)
        run = OpenRun(report.run_id, report.parameters, report.attempt, draft.now, seed=seed)
        _start(draft, slot, run, new=True)


def on_delivered(draft: Draft, event: Delivered) -> None:
    """Take a known run as what it is: the next attempt of one that waits for it, or one that is over."""
    slot, report = draft.slot(event.slot), event.report
    if slot.state is SlotState.STOPPING:
        return
    waiting = [run for run in draft.view.reruns if run.run_id == report.run_id]
    if waiting:
        others = tuple(run for run in draft.view.reruns if run.run_id != report.run_id)
        draft.view = replace(draft.view, reruns=others)
        _start(draft, slot, waiting[0])
    elif event.outcome is None and not _is_elsewhere(draft.view, report.run_id):
        attempt = event.attempts + 1
        run = OpenRun(report.run_id, report.parameters, attempt, draft.now, seed=event.seed)
        _start(draft, slot, run)
    else:
        _settle(draft, slot, report.run_id, event.outcome)


def on_refused(draft: Draft, event: StartRefused) -> None:
    """Let a run be that the pool knows as over or another machine's; a new one goes back to its server.

    For that its worker has to leave: the server takes back what a dead worker has not started.
    """
    slot = draft.slot(event.slot)
    pending = slot.pending
    if pending is None or pending.run.run_id != event.run_id:
        return  # it was withdrawn meanwhile
    draft.change(slot.slot, pending=None)
    draft.view = replace(draft.view, started=draft.view.started - pending.new)
    if not slot.alive:
        if pending.new:
            draft.actions.append(GiveBack(slot.slot))
        return
    draft.change(slot.slot, lease_left=slot.lease_left + pending.leased)
    slot = draft.slot(slot.slot)
    if slot.state is SlotState.STOPPING:
        return
    draft.tell(Message(f"run {event.run_id} is not started here: {event.why}"))
    if not pending.leased:
        draft.actions.append(Send(slot.slot, Settle(event.run_id, None)))
    elif event.why.startswith(KNOWN_TO_POOL):
        _settle(draft, slot, event.run_id, _outcome_in(event.why))
    else:
        draft.replace_worker(slot, f"replaced: {event.why}")


def on_granted(draft: Draft, event: StartGranted) -> None:
    """Let the run that waited enter `main`; where its worker has gone or leaves, the next worker takes it."""
    slot = draft.slot(event.slot)
    pending = slot.pending
    if pending is None or pending.run.run_id != event.run_id:
        return  # it was withdrawn meanwhile
    draft.change(slot.slot, pending=None)
    if slot.state is SlotState.RUNNING:
        _enter(draft, draft.slot(slot.slot), pending.run)
    else:
        draft.withdraw_start(pending, "its worker left before it began")


def on_delayed(draft: Draft, slot: SlotView) -> None:
    """Count a run's time from now on: its record had to wait."""
    if slot.run is not None:
        draft.change(slot.slot, run=replace(slot.run, since=draft.now), active_at=draft.now)


def _outcome_in(why: str) -> Outcome | None:
    """Return how a run ended that the pool says is over; None: it is not."""
    word = why.removeprefix(OVER_WORD)
    return Outcome(word) if word in list(Outcome) else None


def _start(draft: Draft, slot: SlotView, known: OpenRun, *, new: bool = False) -> None:
    """Count a start: the pool is asked first, where there is one."""
    alone_on = known.alone_on if known.alone_on == slot.device else ""
    run = replace(known, since=draft.now, alone_on=alone_on)
    leased = slot.assigned is None and slot.lease_left > 0
    draft.view = replace(draft.view, started=draft.view.started + new)
    draft.change(slot.slot, assigned=None, idle_returns=0, lease_left=slot.lease_left - leased)
    if draft.view.grant is None:
        _enter(draft, slot, run)
    else:
        pending = PendingStart(run, new, leased=slot.assigned is None)
        draft.change(slot.slot, pending=pending, active_at=draft.now)
        draft.actions.append(AskStart(slot.slot, run))


def _enter(draft: Draft, slot: SlotView, known: OpenRun) -> None:
    """Record the start, then let the worker enter `main`; the run's time counts from here."""
    run = replace(known, since=draft.now)
    draft.change(slot.slot, run=run, active_at=draft.now)
    draft.actions.append(RecordStart(slot.slot, run))
    draft.actions.append(Send(slot.slot, Proceed(run.run_id, run.attempt, run.seed)))
    draft.tell(RunBegan(slot.slot, run.run_id, run.attempt, run.parameters, slot.device))


def _seed_of(limits: Limits, place: int | None) -> int | None:
    return None if limits.seed is None or place is None else seed_of(limits.seed, place)


def _settle(draft: Draft, slot: SlotView, run_id: RunId, outcome: Outcome | None) -> None:
    """Have the worker pass over a run that is over, or on in another slot, and the server told of its end."""
    exit_code = None if outcome is None else EXIT_CODES.get(outcome)
    draft.change(slot.slot, lease_left=max(0, slot.lease_left - 1), active_at=draft.now)
    if outcome is not None:
        draft.actions.append(TellEnd(run_id, outcome))
        words = f"run {run_id} was delivered again, but is {outcome}: its server is told so"
        draft.tell(Message(words))
    draft.actions.append(Send(slot.slot, Settle(run_id, exit_code)))


def _is_elsewhere(view: SweepView, run_id: RunId) -> bool:
    return any(run.run_id == run_id for slot in view.slots for run in slot.held)
