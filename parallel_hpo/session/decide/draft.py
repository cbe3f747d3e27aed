"""The view while a decision changes it, with its actions, and the changes that the other files share.
Pure."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from parallel_hpo.core.messages import AttemptEnd, Drain, Interrupt, MissingMetric, SweepEnd
from parallel_hpo.core.notices import Message, RunBegan, RunOver, WorkerChanged
from parallel_hpo.core.types import Outcome, Slot, SlotState, StopKind, changed
from parallel_hpo.session.decide.events import (
    Action,
    Kill,
    Notify,
    RecordDrop,
    RecordEnd,
    Send,
    WithdrawStart,
)
from parallel_hpo.session.decide.state import Move, OpenRun, PendingStart, SlotView, SweepView, move


class Draft:
    """The view while a decision changes it, and the actions so far."""

    def __init__(self, view: SweepView, now: float) -> None:
        self.view = view
        self.now = now
        self.actions: list[Action] = []

    def work(self) -> int:
        """Return how many runs wait for a worker."""
        return len(self.view.reruns) + self.unleased()

    def unleased(self) -> int:
        """Return how many new runs may be leased."""
        if self.view.exhausted:
            return 0
        leased = sum([slot.lease_left for slot in self.view.slots])
        return max(0, self.view.grant.granted - self.view.started - leased)

    def leave(self, ending: SweepEnd) -> None:
        """Notify every worker to leave, each as `ending` asks."""
        self.view = changed(self.view, ending=ending)
        self.withdraw_starts(ending.reason)
        self.drop_reruns(ending.reason)
        for slot in self.view.slots:
            state = slot.state
            self.move(slot.slot, Move.LEAVE)
            self.change(slot.slot, spawn_at=None, replacing=False)
            if state is SlotState.STARTING:
                self.actions.append(Kill(slot.slot))  # it has no run, and can't receive an order yet
            elif slot.alive:
                self._send_off(slot, ending.stop)

    def announce_stop(self, stop: StopKind, reason: str) -> None:
        """Notify the user what a stop means for active runs: they may take a while."""
        running = sum(1 for slot in self.view.slots if slot.run is not None)
        runs = "1 running run" if running == 1 else f"{running} running runs"
        if not running:
            words = "no new runs"
        elif stop is StopKind.DRAIN:
            words = f"no new runs; {runs} will finish"
        else:
            words = f"{runs} interrupted, killed after {self.view.limits.grace_s:g} s"
        self.notify(Message(f"{reason}: {words}"))

    def _send_off(self, slot: SlotView, stop: StopKind | None) -> None:
        if stop in (StopKind.INTERRUPT, StopKind.PREEMPT):
            self.actions.append(Send(slot.slot, Interrupt(preempting=stop is StopKind.PREEMPT)))
        else:
            self.actions.append(Send(slot.slot, Drain()))
        if slot.run is None or stop is not StopKind.DRAIN:
            self.change(slot.slot, kill_at=self.now + self.view.limits.grace_s)

    def replace_worker(self, slot: SlotView, reason: str) -> None:
        """Let a worker leave after its run; a new one follows if there is work."""
        if self.view.ending is None:
            kill_at = self.now + self.view.limits.grace_s if slot.run is None else None
            self.change(slot.slot, replacing=True, kill_at=kill_at)
            self.move(slot.slot, Move.LEAVE, reason)
            self.actions.append(Send(slot.slot, Drain()))

    def withdraw_starts(self, reason: str) -> None:
        """Withdraw all starts that wait for the count's answer."""
        for slot in self.view.slots:
            if slot.pending is not None:
                self.change(slot.slot, pending=None)
                self.withdraw_start(slot.pending, reason)

    def withdraw_start(self, pending: PendingStart, reason: str) -> None:
        """Return a run to the count, which requeues it if it has counted the start."""
        run = pending.run
        self.actions.append(WithdrawStart(run))
        if not pending.new:
            self._drop(run, f"{reason}, before attempt {run.attempt}", Outcome.STOPPED)

    def drop_reruns(self, reason: str, outcome: Outcome = Outcome.STOPPED) -> None:
        """Record the end of the runs that waited for another attempt and get none."""
        waiting, self.view = self.view.reruns, changed(self.view, reruns=())
        for run in waiting:
            self._drop(run, f"{reason}, before attempt {run.attempt}", outcome)

    def _drop(self, run: OpenRun, reason: str, outcome: Outcome) -> None:
        resumable = outcome is Outcome.STOPPED
        end = AttemptEnd(outcome=outcome, reason=reason, duration_s=run.spent_s, resumable=resumable)
        self.actions.append(RecordDrop(run, end))

    def end_attempt(
        self,
        slot: Slot,
        run: OpenRun,
        end: AttemptEnd,
        *,
        died: bool = False,
        final: bool = True,
    ) -> None:
        """Record and announce the end of an attempt, and of its run if `final`; add its duration."""
        took_s = self.now - run.since
        total_s = run.spent_s + took_s if final else took_s
        self.actions.append(RecordEnd(slot, run, AttemptEnd.like(end, duration_s=total_s), final, died))
        self.notify(
            RunOver(
                slot=slot,
                run_id=run.run_id,
                attempt=run.attempt,
                outcome=end.outcome,
                reason=end.reason,
                value=end.value,
                duration_s=total_s,
                again=not final,
            )
        )

    def slot(self, slot: Slot) -> SlotView:
        return self.view.slots[slot]

    def change(self, slot: Slot, **changes: Any) -> None:
        self._update(slot, lambda old: changed(old, **changes))

    def move(self, slot: Slot, what: Move, reason: str = "") -> None:
        before = self.slot(slot).state
        after = move(before, what)
        self._update(slot, lambda old: changed(old, state=after))
        if after is not before:
            self.notify(WorkerChanged(slot, after, reason))

    def _update(self, slot: Slot, change: Callable[[SlotView], SlotView]) -> None:
        slots = self.view.slots
        self.view = changed(self.view, slots=(*slots[:slot], change(slots[slot]), *slots[slot + 1 :]))

    def notify(self, notice: RunBegan | RunOver | MissingMetric | WorkerChanged | Message) -> None:
        self.actions.append(Notify(notice))
