"""One decision in the making: a view that is replaced piece by piece, and the actions that pile up.

The pieces that all files of this room put their decisions together from. Pure.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from parallel_hpo.core.messages import AttemptEnd, Drain, Interrupt, MissingMetric, SweepEnd
from parallel_hpo.core.notices import Message, RunBegan, RunOver, WorkerChanged
from parallel_hpo.core.types import Outcome, Slot, SlotState, StopKind
from parallel_hpo.count.policy import count_outcome
from parallel_hpo.session.decide.events import Action, Kill, RecordDrop, RecordEnd, Send, Tell, WithdrawStart
from parallel_hpo.session.decide.state import OpenRun, PendingStart, SlotView, SweepView
from parallel_hpo.session.decide.transitions import Move, move


class Draft:
    """One decision in the making: a view that is replaced piece by piece, and its actions."""

    def __init__(self, view: SweepView, now: float) -> None:
        self.view = view
        self.now = now
        self.actions: list[Action] = []

    def work(self) -> int:
        """How many runs wait for a worker."""
        return len(self.view.reruns) + self.unleased()

    def unleased(self) -> int:
        """How many new runs may be leased; without a count one per slot while the sweep gives any."""
        grant = self.view.grant
        count = self.view.limits.count if grant is None else grant.granted
        if self.view.exhausted:
            return 0
        if count is None:
            return len(self.view.slots)
        # A resumed sweep may have begun more runs than it is to perform now.
        return max(0, count - self.view.started - sum([slot.lease_left for slot in self.view.slots]))

    def workers(self) -> int:
        """How many slots take part."""
        return sum(1 for slot in self.view.slots if not slot.over)

    def leave(self, ending: SweepEnd) -> None:
        """Tell every worker to leave, each as `ending` asks."""
        self.view = replace(self.view, ending=ending)
        self.withdraw_starts(ending.reason)
        self.drop_reruns(ending.reason)
        for slot in self.view.slots:
            state = slot.state
            self.move(slot.slot, Move.LEAVE)
            self.change(slot.slot, spawn_at=None, replacing=False)
            if state is SlotState.STARTING:
                self.actions.append(Kill(slot.slot))  # it holds no run and hears no order yet
            elif slot.alive:
                self._send_off(slot, ending.stop)

    def tell_stop(self, stop: StopKind, reason: str) -> None:
        """Say what a stop means for the runs that are on: they may take a while."""
        running = sum(1 for slot in self.view.slots if slot.run is not None)
        runs = "1 running run" if running == 1 else f"{running} running runs"
        if not running:
            words = "no new runs"
        elif stop is StopKind.DRAIN:
            words = f"no new runs; {runs} will finish"
        else:
            words = f"{runs} interrupted, killed after {self.view.limits.grace_s:g} s"
        self.tell(Message(f"{reason}: {words}"))

    def _send_off(self, slot: SlotView, stop: StopKind | None) -> None:
        if stop in (StopKind.INTERRUPT, StopKind.PREEMPT):
            self.actions.append(Send(slot.slot, Interrupt(preempting=stop is StopKind.PREEMPT)))
        else:
            self.actions.append(Send(slot.slot, Drain()))
        if slot.run is None or stop is not StopKind.DRAIN:
            self.change(slot.slot, kill_at=self.now + self.view.limits.grace_s)

    def replace_worker(self, slot: SlotView, reason: str) -> None:
        """Send a worker off once its run has ended; a fresh one follows where there is work."""
        if self.view.ending is None:
            kill_at = self.now + self.view.limits.grace_s if slot.run is None else None
            self.change(slot.slot, replacing=True, kill_at=kill_at)
            self.move(slot.slot, Move.LEAVE, reason)
            self.actions.append(Send(slot.slot, Drain()))

    def withdraw_starts(self, reason: str) -> None:
        """Give up all starts that wait for the pool's answer."""
        for slot in self.view.slots:
            if slot.pending is not None:
                self.change(slot.slot, pending=None)
                self.withdraw_start(slot.pending, reason)

    def withdraw_start(self, pending: PendingStart, reason: str) -> None:
        """Leave a run to the pool, which hands it on if it has counted the start."""
        run = pending.run
        self.actions.append(WithdrawStart(run))
        if not pending.new:
            self._drop(run, f"{reason}, before attempt {run.attempt}", Outcome.STOPPED)

    def drop_reruns(self, reason: str, outcome: Outcome = Outcome.STOPPED) -> None:
        """Account for the runs that were to be run again and now are not."""
        waiting, self.view = self.view.reruns, replace(self.view, reruns=())
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
        """Have an attempt be over, and its run where that is `final`; how long it took is known only here."""
        took_s = self.now - run.since
        total_s = run.spent_s + took_s if final else took_s
        self.actions.append(RecordEnd(slot, run, AttemptEnd.like(end, duration_s=total_s), final, died))
        if final:
            self.view = replace(self.view, failures=count_outcome(self.view.failures, end.outcome))
        over = (slot, run.run_id, run.attempt, end.outcome, end.reason, end.value, total_s)
        self.tell(RunOver(*over, again=not final))

    def slot(self, slot: Slot) -> SlotView:
        return self.view.slots[slot]

    def change(self, slot: Slot, **changes: Any) -> None:
        self._update(slot, lambda old: replace(old, **changes))

    def move(self, slot: Slot, what: Move, reason: str = "") -> None:
        before = self.slot(slot).state
        after = move(before, what)
        self._update(slot, lambda old: replace(old, state=after))
        if after is not before:
            self.tell(WorkerChanged(slot, after, reason))

    def _update(self, slot: Slot, change: Callable[[SlotView], SlotView]) -> None:
        slots = self.view.slots
        self.view = replace(self.view, slots=(*slots[:slot], change(slots[slot]), *slots[slot + 1 :]))

    def tell(self, notice: RunBegan | RunOver | MissingMetric | WorkerChanged | Message) -> None:
        self.actions.append(Tell(notice))
