"""The supervisor's decisions: (view, event, now) → the next view and what to do.

Pure: no clock, no process, no file. One function per event changes what the
event changes; then `assign` gives idle workers work, brings up workers for
what is left, and `end_if_done` ends the sweep. The ledger's record always comes before the act
that it records.

    event ──▶ _on_… ──▶ assign ──▶ end_if_done ──▶ Decision
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final, assert_never

from parallel_hpo.lifecycle import Move
from parallel_hpo.notices import Message
from parallel_hpo.protocol.messages import (
    Active,
    LeaseEnded,
    Ready,
    Report,
    RunEnded,
    RunStarted,
    StartFailed,
)
from parallel_hpo.supervisor.decisions import (
    deaths,
    device_care,
    grants,
    leases,
    limits,
    occupancy,
    run_ends,
    scaling,
    starts,
    sweep_end,
)
from parallel_hpo.supervisor.decisions.actions import AskSweep, Decision, LookAtAwaited, Spawn
from parallel_hpo.supervisor.decisions.draft import Draft
from parallel_hpo.supervisor.decisions.events import (
    Delivered,
    Died,
    DrainAsked,
    Event,
    MemorySeen,
    Opened,
    OutputSeen,
    PoolAnswered,
    Reported,
    ScaleAsked,
    SpawnDenied,
    StartDelayed,
    StartGranted,
    StartRefused,
    StopAsked,
    SweepSeen,
    TimePassed,
)
from parallel_hpo.supervisor.decisions.view import SlotView, SweepView
from parallel_hpo.supervisor.devices.handover import DeviceClear
from parallel_hpo.supervisor.devices.occupancy import DeviceMemorySeen
from parallel_hpo.supervisor.devices.presence import OwnersSeen
from parallel_hpo.words import Slot, SlotState

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
    sweep_end.end_if_done(draft)
    return Decision(draft.view, tuple(draft.actions))


class _Decider(Draft):
    """What each kind of event changes, and what follows from every one."""

    # --- events ---------------------------------------------------------------

    def take(self, event: Event) -> None:
        match event:
            case Opened():
                limits.set_the_clock(self)
                device_care.say_who_is_there(self)
            case TimePassed():
                limits.end_overdue(self)
                device_care.join_again(self)
            case (
                OutputSeen()
                | MemorySeen()
                | DeviceMemorySeen()
                | DeviceClear()
                | Delivered()
                | StartDelayed()
                | OwnersSeen()
            ):
                self._on_seen(event)
            case Reported(slot, report):
                self._on_report(slot, report)
            case Died() | SpawnDenied():
                self._on_no_process(event)
            case StopAsked():
                sweep_end.on_stop(self, event)
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
        | OwnersSeen,
    ) -> None:
        match event:
            case OwnersSeen():
                device_care.on_owners_seen(self, event)
            case DeviceMemorySeen():
                occupancy.on_memory(self, event)
            case Delivered():
                starts.on_delivered(self, event)
            case StartDelayed(slot):
                starts.on_delayed(self, self.slot(slot))
            case OutputSeen(slot):
                self.change(slot, active_at=self.now)
            case MemorySeen(slot, used_mb):
                limits.on_memory(self, self.slot(slot), used_mb)
            case DeviceClear():
                device_care.on_clear(self, event)

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
                scaling.scale(self, workers)
            case DrainAsked(slot):
                scaling.drain_asked(self, slot)

    def _on_report(self, slot: Slot, report: Report) -> None:
        match report:
            case Ready():
                self.view = replace(self.view, loadable=True)
                self.change(slot, denied=0)
                self.move(slot, Move.READY)
            case RunStarted():
                starts.on_run_started(self, self.slot(slot), report)
            case RunEnded():
                run_ends.on_run_ended(self, self.slot(slot), report)
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
        elif slot.state is SlotState.RUNNING and leases.runs_left_in_process(self, slot) == 0:
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
            self.actions.append(LookAtAwaited())

    def _on_sweep_seen(self, over: str) -> None:
        """Note whether the sweep goes on; only then is an agent's complaint worth a line."""
        if not over and self.view.complaint:
            self.tell(Message(self.view.complaint, warning=True))
        self.view = replace(self.view, asking=False, complaint="", exhausted=over or self.view.exhausted)

    def _on_pool(self, event: PoolAnswered | StartGranted | StartRefused) -> None:
        match event:
            case StartGranted():
                starts.on_granted(self, event)
            case StartRefused():
                starts.on_refused(self, event)
            case PoolAnswered(answer):
                grants.take(self, answer)
                if (stop := grants.stop_in(self.view, answer.ends)) is not None:
                    sweep_end.on_stop(self, stop)

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
                leases.give_work(self, slot)
        occupancy.fill(self)
        for slot in self.view.slots:
            if slot.state in WAITING and leases.wants_worker(self, slot):
                self.move(slot.slot, Move.SPAWN)
                self.actions.append(Spawn(slot.slot))

    def _forget_past_waits(self, slot: SlotView) -> None:
        """Clear waits that are over, so that no deadline lies in the past."""
        if slot.spawn_at is not None and slot.spawn_at <= self.now:
            self.change(slot.slot, spawn_at=None)
        if slot.lease_at is not None and slot.lease_at <= self.now:
            self.change(slot.slot, lease_at=None)
