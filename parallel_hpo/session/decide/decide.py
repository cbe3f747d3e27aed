"""What follows when a run starts in a worker: a new one, or one that is known. Pure, a part of `decide`.

A server may deliver a run twice: it never heard of its end (a run that was offline), or it
wants another attempt of it (W&B requeues preempted runs). The ledger's word decides; a
run is counted once.

The supervisor's decisions: (view, event, now) → the next view and what to do.

Pure: no clock, no process, no file. One function per event changes what the
event changes; then `assign` gives idle workers work, brings up workers for
what is left, and `end_if_done` ends the sweep. The ledger's record always comes before the act
that it records.

    event ──▶ _on_… ──▶ assign ──▶ end_if_done ──▶ Decision
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final, assert_never

from parallel_hpo.core.messages import (
    Active,
    LeaseEnded,
    Proceed,
    Ready,
    Report,
    RunEnded,
    RunStarted,
    SkipRun,
    StartFailed,
)
from parallel_hpo.core.notices import Message, RunBegan
from parallel_hpo.core.pool_messages import KNOWN_TO_POOL, OVER_WORD
from parallel_hpo.core.types import Outcome, RunId, Slot, SlotState
from parallel_hpo.devices.health import DeviceClear
from parallel_hpo.devices.sharing import DeviceMemorySeen, OtherUsersSeen
from parallel_hpo.session.decide import deaths, demand, devices, stopping
from parallel_hpo.session.decide.draft import Draft
from parallel_hpo.session.decide.events import (
    AskStart,
    AskSweep,
    CheckAwaitedRuns,
    Decision,
    Delivered,
    Died,
    DrainAsked,
    Event,
    GiveBack,
    MemorySeen,
    Opened,
    OutputSeen,
    PoolAnswered,
    RecordStart,
    Reported,
    ScaleAsked,
    Send,
    Spawn,
    SpawnDenied,
    StartDelayed,
    StartGranted,
    StartRefused,
    StopAsked,
    SweepSeen,
    TellEnd,
    TimePassed,
)
from parallel_hpo.session.decide.state import Limits, OpenRun, PendingStart, SlotView, SweepView
from parallel_hpo.session.decide.stopping import seed_of
from parallel_hpo.session.decide.transitions import Move

EXIT_CODES: Final = {Outcome.FINISHED: 0, Outcome.FAILED: 1}
"""How a performed run is closed on a server that has not heard of its end; of the other ends it is told by
us alone, as no process of theirs has said them."""


def on_run_started(draft: Draft, slot: SlotView, report: RunStarted) -> None:
    """Have the start counted and recorded; only then is the worker told to enter `main`."""
    if slot.state is SlotState.STOPPING:
        return  # it hears the order to leave instead, and the run goes back unstarted
    if slot.assigned is not None:
        _start(draft, slot, slot.assigned)
    elif stopping.is_too_late(draft.view, draft.now):
        stopping.send_back(draft, slot)
    else:
        seed = _seed_of(draft.view.limits, report.index)
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
        draft.actions.append(Send(slot.slot, SkipRun(event.run_id, None)))
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
    draft.actions.append(Send(slot.slot, SkipRun(run_id, exit_code)))


def _is_elsewhere(view: SweepView, run_id: RunId) -> bool:
    return any(run.run_id == run_id for slot in view.slots for run in slot.held)


IDLE_RETURN_S: Final = 1.0
IDLE_RETURN_MAX_S: Final = 30.0
"""An agent that returns without a run from a sweep that goes on (a server away, say) is
asked again after 1, 2, 4 … 30 s: W&B's own client waits so between its tries."""

LOOK_EVERY_S: Final = 5.0
"""A waiting agent asks every 5 s, and says so every 10; what many of them wait for is looked at once."""

WAITING: Final = (SlotState.STOPPED, SlotState.BACKOFF)
"""States of a slot that has no process and may get one."""


def decide(view: SweepView, event: Event, now: float) -> Decision:
    """Return the next view and the actions that follow from `event` at `now` (monotonic seconds).

    Raises:
        IllegalMove: the event can't happen to its slot in the state it is in.
    """
    draft = _Decider(view, now)
    draft.take(event)
    draft.assign()
    stopping.end_if_done(draft)
    return Decision(draft.view, tuple(draft.actions))


class _Decider(Draft):
    """What each kind of event changes, and what follows from every one."""

    # --- events ---------------------------------------------------------------

    def take(self, event: Event) -> None:
        match event:
            case Opened():
                stopping.set_the_clock(self)
                devices.say_who_is_there(self)
            case TimePassed():
                stopping.end_overdue(self)
                devices.join_again(self)
            case (
                OutputSeen()
                | MemorySeen()
                | DeviceMemorySeen()
                | DeviceClear()
                | Delivered()
                | StartDelayed()
                | OtherUsersSeen()
            ):
                self._on_seen(event)
            case Reported(slot, report):
                self._on_report(slot, report)
            case Died() | SpawnDenied():
                self._on_no_process(event)
            case StopAsked():
                stopping.on_stop(self, event)
            case SweepSeen(over):
                self._on_sweep_seen(over)
            case ScaleAsked() | DrainAsked():
                self._on_crew_asked(event)
            case PoolAnswered() | StartGranted() | StartRefused():
                self._on_pool(event)
            case _:
                assert_never(event)

    def _on_seen(
        self,
        event: OutputSeen
        | MemorySeen
        | DeviceMemorySeen
        | DeviceClear
        | Delivered
        | StartDelayed
        | OtherUsersSeen,
    ) -> None:
        match event:
            case OtherUsersSeen():
                devices.on_owners_seen(self, event)
            case DeviceMemorySeen():
                devices.on_memory(self, event)
            case Delivered():
                on_delivered(self, event)
            case StartDelayed(slot):
                on_delayed(self, self.slot(slot))
            case OutputSeen(slot):
                self.change(slot, active_at=self.now)
            case MemorySeen(slot, used_mb):
                stopping.on_memory(self, self.slot(slot), used_mb)
            case DeviceClear():
                devices.on_clear(self, event)

    def _on_no_process(self, event: Died | SpawnDenied) -> None:
        match event:
            case Died():
                deaths.on_death(self, event)
            case SpawnDenied():
                deaths.on_spawn_denied(self, event)

    def _on_crew_asked(self, event: ScaleAsked | DrainAsked) -> None:
        match event:
            case _ if self.view.ending is not None:
                pass  # all leave anyway
            case ScaleAsked(workers):
                devices.scale(self, workers)
            case DrainAsked(slot):
                devices.drain_asked(self, slot)

    def _on_report(self, slot: Slot, report: Report) -> None:
        match report:
            case Ready():
                self.view = replace(self.view, loadable=True)
                self.change(slot, denied=0)
                self.move(slot, Move.READY)
            case RunStarted():
                on_run_started(self, self.slot(slot), report)
            case RunEnded():
                deaths.on_run_ended(self, self.slot(slot), report)
            case LeaseEnded():
                self._on_lease_ended(self.slot(slot), report)
            case StartFailed():
                self.change(slot, fault=report)
            case Active():
                self.change(slot, active_at=self.now)
                self._on_vain_question(self.slot(slot))

    def _on_lease_ended(self, slot: SlotView, report: LeaseEnded) -> None:
        self.change(slot.slot, busy=False, lease_left=0)
        if slot.state is SlotState.RUNNING and report.error:
            self.replace_worker(slot, report.error)
        elif slot.state is SlotState.RUNNING and demand.runs_left_in_process(self, slot) == 0:
            self.replace_worker(slot, "replaced after its runs")
        leaves = slot.state is SlotState.STOPPING  # it has said so before, or was told to
        if leaves or self.view.ending is not None or not (report.short or report.error):
            return
        wait_s = min(IDLE_RETURN_MAX_S, IDLE_RETURN_S * 2.0 ** min(slot.idle_returns, 10))
        self.change(slot.slot, lease_at=self.now + wait_s, idle_returns=slot.idle_returns + 1)
        complaint = f"w{slot.slot}: {report.error}; its process is replaced" if report.error else ""
        if not self.view.asking:
            self.view = replace(self.view, asking=True, complaint=complaint)
            self.actions.append(AskSweep())

    def _on_vain_question(self, slot: SlotView) -> None:
        """Have a look at what a worker waits for whose agent was given no run."""
        if self.view.grant is not None:
            return  # what other machines hold is the pool's to know
        if slot.run is None and self.view.ending is None and self.now >= self.view.look_from:
            self.view = replace(self.view, look_from=self.now + LOOK_EVERY_S)
            self.actions.append(CheckAwaitedRuns())

    def _on_sweep_seen(self, over: str) -> None:
        """Note whether the sweep goes on; only then is an agent's complaint worth a line."""
        if not over and self.view.complaint:
            self.tell(Message(self.view.complaint, warning=True))
        self.view = replace(self.view, asking=False, complaint="", exhausted=over or self.view.exhausted)

    def _on_pool(self, event: PoolAnswered | StartGranted | StartRefused) -> None:
        match event:
            case StartGranted():
                on_granted(self, event)
            case StartRefused():
                on_refused(self, event)
            case PoolAnswered(answer):
                demand.take(self, answer)
                if (stop := demand.stop_in(self.view, answer.ends)) is not None:
                    stopping.on_stop(self, stop)

    # --- what every event is followed by ---------------------------------------

    def assign(self) -> None:
        """Give idle workers work, and start workers for what nobody has taken."""
        for slot in self.view.slots:
            if slot.spawn_at is not None or slot.lease_at is not None:
                self._forget_past_waits(slot)
        if self.view.ending is not None:
            return
        for slot in self.view.slots:
            if slot.state is SlotState.RUNNING and not slot.busy:
                demand.give_work(self, slot)
        devices.fill(self)
        for slot in self.view.slots:
            if slot.state in WAITING and demand.wants_worker(self, slot):
                self.move(slot.slot, Move.SPAWN)
                self.actions.append(Spawn(slot.slot))

    def _forget_past_waits(self, slot: SlotView) -> None:
        """Clear waits that are over, so that no deadline lies in the past."""
        if slot.spawn_at is not None and slot.spawn_at <= self.now:
            self.change(slot.slot, spawn_at=None)
        if slot.lease_at is not None and slot.lease_at <= self.now:
            self.change(slot.slot, lease_at=None)
