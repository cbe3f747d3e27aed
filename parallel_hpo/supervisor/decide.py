"""The supervisor's decisions: (view, event, now) → the next view and what to do.

Pure: no clock, no process, no file. One function per event changes what the
event changes; then `_assign` gives idle workers work, brings up workers for
what is left, or ends the sweep. The ledger's record always comes before the act
that it records.

    event ──▶ _on_… ──▶ _assign ──▶ _end_if_done ──▶ Decision
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from parallel_hpo.errors import ExitCode
from parallel_hpo.lifecycle import Move
from parallel_hpo.plan import next_lease
from parallel_hpo.policy.restart import next_restart
from parallel_hpo.policy.retry import may_run_again
from parallel_hpo.policy.start import is_hopeless
from parallel_hpo.supervisor.step import Step
from parallel_hpo.supervisor.view import (
    AskSweep,
    Decision,
    Died,
    Ending,
    Event,
    GiveBack,
    Kill,
    Opened,
    OpenRun,
    RecordStart,
    Reported,
    Send,
    SlotView,
    Spawn,
    StopAsked,
    SweepSeen,
    SweepView,
    TimePassed,
)
from parallel_hpo.words import (
    Lease,
    LeaseEnded,
    Message,
    Outcome,
    Proceed,
    Ready,
    Report,
    Rerun,
    RunBegan,
    RunEnded,
    RunStarted,
    Slot,
    SlotState,
    StartFailed,
    StopKind,
)

IDLE_RETURN_S: Final = 1.0
IDLE_RETURN_MAX_S: Final = 30.0
"""An agent that returns without a run from a sweep that goes on (a server away, say) is
asked again after 1, 2, 4 … 30 s: W&B's own client waits so between its tries."""


def decide(view: SweepView, event: Event, now: float) -> Decision:
    """Return the next view and the actions that follow from `event` at `now` (monotonic seconds).

    Raises:
        IllegalMove: the event can't happen to its slot in the state it is in.
    """
    step = _Decider(view, now)
    step.take(event)
    step.assign()
    step.end_if_done()
    return Decision(step.view, tuple(step.actions))


class _Decider(Step):
    """What each kind of event changes, and what follows from every one."""

    # --- events ---------------------------------------------------------------

    def take(self, event: Event) -> None:
        match event:
            case Opened():
                pass
            case TimePassed():
                self._kill_overdue()
            case Reported(slot, report):
                self._on_report(slot, report)
            case Died():
                self._on_death(event)
            case StopAsked():
                self._on_stop(event)
            case SweepSeen(over):
                self.view = replace(self.view, asking=False, exhausted=over or self.view.exhausted)

    def _kill_overdue(self) -> None:
        for slot in self.view.slots:
            if slot.kill_at is not None and slot.kill_at <= self.now:
                self.change(slot.slot, kill_at=None)
                self.actions.append(Kill(slot.slot))

    def _on_report(self, slot: Slot, report: Report) -> None:
        match report:
            case Ready():
                self.move(slot, Move.READY)
            case RunStarted():
                self._on_run_started(self.slot(slot), report)
            case RunEnded():
                self._on_run_ended(self.slot(slot), report)
            case LeaseEnded():
                self._on_lease_ended(self.slot(slot), report)
            case StartFailed():
                self.change(slot, fault=report)

    def _on_run_started(self, slot: SlotView, report: RunStarted) -> None:
        """Record the start; only then is the worker told to enter `main`."""
        if slot.state is SlotState.STOPPING:
            return  # it hears the order to leave instead, and the run goes back unstarted
        if slot.assigned is not None:
            run = replace(slot.assigned, since=self.now)
        else:
            run = OpenRun(report.run_id, report.parameters, report.attempt, self.now)
            self.view = replace(self.view, started=self.view.started + 1)
        new = slot.assigned is None and self.view.limits.count is not None
        self.change(
            slot.slot,
            run=run,
            assigned=None,
            idle_returns=0,
            lease_left=slot.lease_left - 1 if new else slot.lease_left,
        )
        self.actions.append(RecordStart(slot.slot, run))
        self.actions.append(Send(slot.slot, Proceed(run.run_id)))
        self.tell(RunBegan(slot.slot, run.run_id, run.attempt, run.parameters))

    def _on_run_ended(self, slot: SlotView, report: RunEnded) -> None:
        if slot.run is None or slot.run.run_id != report.run_id:
            return  # nothing of it was recorded: a late message changes nothing
        self.change(slot.slot, run=None)
        self.end_attempt(
            slot.slot,
            slot.run,
            report.outcome,
            report.reason,
            value=report.value,
            resumable=report.resumable,
        )

    def _on_lease_ended(self, slot: SlotView, report: LeaseEnded) -> None:
        self.change(slot.slot, busy=False, lease_left=0)
        if self.view.ending is not None or not (report.short or report.error):
            return
        wait_s = min(IDLE_RETURN_MAX_S, IDLE_RETURN_S * 2.0 ** min(slot.idle_returns, 10))
        self.change(slot.slot, lease_at=self.now + wait_s, idle_returns=slot.idle_returns + 1)
        if report.error:
            self.tell(Message(f"w{slot.slot}: the agent could not go on: {report.error}", warning=True))
        if not self.view.asking:
            self.view = replace(self.view, asking=True)
            self.actions.append(AskSweep())

    def _on_death(self, event: Died) -> None:
        slot = self.slot(event.slot)
        self.change(
            slot.slot,
            busy=False,
            lease_left=0,
            run=None,
            assigned=None,
            fault=None,
            kill_at=None,
            lease_at=None,
        )
        known = slot.run or slot.assigned
        self.actions.append(GiveBack(slot.slot, keep=known.run_id if known else None))
        if slot.run is not None:
            self._on_cut_short(slot.slot, slot.run, event.cause)
        if slot.assigned is not None:
            self._take_back(slot.assigned)
        cause = slot.fault.cause if slot.fault else event.cause
        if slot.state is SlotState.STARTING:
            self._on_start_death(slot, cause)
        self.move(slot.slot, Move.DIED, cause)
        if self.slot(slot.slot).state is SlotState.BACKOFF:
            self._plan_restart(slot.slot, cause, event.jitter)

    def _on_cut_short(self, slot: Slot, run: OpenRun, cause: str) -> None:
        """Decide what becomes of a run whose worker died under it."""
        run = replace(run, deaths=run.deaths + 1)
        ending = self.view.ending
        if ending is not None and ending.stop is not StopKind.DRAIN:
            reason = f"{ending.reason}; killed ({cause})"
            self.end_attempt(slot, run, Outcome.STOPPED, reason, died=True, resumable=True)
        elif may_run_again(run.deaths, self.view.limits.retries):
            self.end_attempt(slot, run, Outcome.CRASHED, cause, died=True, final=False)
            spent_s = run.spent_s + self.now - run.since
            self._take_back(replace(run, attempt=run.attempt + 1, spent_s=spent_s))
        else:
            self.end_attempt(slot, run, Outcome.CRASHED, cause, died=True)

    def _take_back(self, run: OpenRun) -> None:
        """Keep a run for the next worker; where no worker will come, account for it now."""
        self.view = replace(self.view, reruns=(*self.view.reruns, run))
        if self.view.ending is not None:
            self.drop_reruns(self.view.ending.reason)

    def _on_start_death(self, slot: SlotView, cause: str) -> None:
        """End the sweep where every worker would die so before it is ready."""
        self.view = replace(self.view, start_deaths=(*self.view.start_deaths, cause))
        if slot.fault is not None:
            self.tell(Message(slot.fault.traceback.rstrip(), warning=True))
        if is_hopeless(self.view.start_deaths):
            self.leave(Ending(f"no worker can start: {cause}", ExitCode.FAILURE_POLICY))

    def _plan_restart(self, slot: Slot, cause: str, jitter: float) -> None:
        limits = self.view.limits.restart
        restart = next_restart(self.slot(slot).restarts, limits, now=self.now, jitter=jitter)
        if restart is None:
            reason = f"gave up after {limits.max_restarts} restarts within {limits.window_s:g} s: {cause}"
            self.move(slot, Move.GIVE_UP, reason)
        else:
            self.change(slot, restarts=restart.history, spawn_at=self.now + restart.delay_s)

    def _on_stop(self, event: StopAsked) -> None:
        """Take a stop; a later one may only be harder than an earlier one."""
        before = self.view.ending
        if event.kind is StopKind.KILL or (before and before.stop and before.stop is not StopKind.DRAIN):
            self._kill_all(event)
        elif before is None or before.stop is not event.kind:
            self.leave(Ending(event.reason, event.exit_code, event.kind))

    def _kill_all(self, event: StopAsked) -> None:
        self.view = replace(self.view, ending=Ending(event.reason, event.exit_code, StopKind.KILL))
        self.drop_reruns(event.reason)
        for slot in self.view.slots:
            self.move(slot.slot, Move.LEAVE)
            if slot.alive:
                self.actions.append(Kill(slot.slot))

    # --- what every event is followed by ---------------------------------------

    def assign(self) -> None:
        """Give idle workers work, and start workers for what nobody has taken."""
        for slot in self.view.slots:
            self._forget_past_waits(slot)
        if self.view.ending is not None:
            return
        for slot in self.view.slots:
            if slot.state is SlotState.RUNNING and not slot.busy:
                self._give_work(slot)
        for slot in self.view.slots:
            if self._wants_worker(slot):
                self.move(slot.slot, Move.SPAWN)
                self.actions.append(Spawn(slot.slot))

    def _forget_past_waits(self, slot: SlotView) -> None:
        """Clear waits that are over, so that no deadline lies in the past."""
        if slot.spawn_at is not None and slot.spawn_at <= self.now:
            self.change(slot.slot, spawn_at=None)
        if slot.lease_at is not None and slot.lease_at <= self.now:
            self.change(slot.slot, lease_at=None)

    def _give_work(self, slot: SlotView) -> None:
        if self.view.reruns:
            run, *others = self.view.reruns
            self.view = replace(self.view, reruns=tuple(others))
            self.change(slot.slot, busy=True, assigned=run)
            self.actions.append(Send(slot.slot, Rerun(run.run_id, run.parameters, run.attempt)))
        elif slot.lease_at is None and not self.view.asking and self.unleased() > 0:
            count = self.view.limits.count
            lease = None if count is None else next_lease(self.unleased(), self.workers())
            self.change(slot.slot, busy=True, lease_left=lease or 0)
            self.actions.append(Send(slot.slot, Lease(lease)))

    def _wants_worker(self, slot: SlotView) -> bool:
        """Whether a slot without a process is to get one now: its wait is over and there is work."""
        if slot.state not in (SlotState.STOPPED, SlotState.BACKOFF) or slot.spawn_at is not None:
            return False
        coming = sum(1 for other in self.view.slots if other.state is SlotState.STARTING)
        return self.work() > coming

    def end_if_done(self) -> None:
        """End the sweep when nothing is left to do, or nobody to do it."""
        if self.view.ending is not None:
            return
        if all(slot.state is SlotState.FATAL for slot in self.view.slots):
            self.drop_reruns("all workers gave up", Outcome.CRASHED)
            self.leave(Ending("all workers gave up", ExitCode.FAILURE_POLICY))
        elif not self.work() and not self.view.asking and not any(slot.busy for slot in self.view.slots):
            self.leave(_complete(self.view))


def _complete(view: SweepView) -> Ending:
    """Return the ending of a sweep in which nothing is left to do."""
    reason = view.exhausted or f"all {view.limits.count} runs performed"
    none_finished = view.started > 0 and view.finished == 0
    return Ending(reason, ExitCode.NO_RUN_FINISHED if none_finished else ExitCode.COMPLETE)
