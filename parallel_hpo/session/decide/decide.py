"""The session's decisions: (view, event, now) → the next view and the actions. Pure; called by `loop`.

    event ──▶ _on_… ──▶ assign ──▶ end_without_workers ──▶ Decision

One function per event changes the draft. Then `assign` gives idle workers work and starts workers. The count
(`count/rules`) decides whether a run starts and when the sweep has ended, here or on a server: a run
enters `main` only once its start is counted.

A server may deliver a run twice: because it has not received the run's end (an offline run), or because it
wants another attempt (W&B requeues preempted runs). The ledger decides; a run counts once.
"""

from __future__ import annotations

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
from parallel_hpo.core.types import Outcome, RunId, Slot, SlotState, changed
from parallel_hpo.devices.health import DeviceClear
from parallel_hpo.devices.sharing import DeviceMemorySeen, OtherUsersSeen
from parallel_hpo.session.decide import deaths, demand, devices, stopping
from parallel_hpo.session.decide.draft import Draft
from parallel_hpo.session.decide.events import (
    AskStart,
    AskSweep,
    Decision,
    Delivered,
    Died,
    DrainAsked,
    Event,
    MemorySeen,
    Opened,
    OutputSeen,
    PoolAnswered,
    Reported,
    ReportEnd,
    ReturnRuns,
    ScaleAsked,
    Send,
    Spawn,
    SpawnDenied,
    StartGranted,
    StartRefused,
    StopAsked,
    SweepSeen,
    TimePassed,
)
from parallel_hpo.session.decide.state import Limits, Move, OpenRun, PendingStart, SlotView, SweepView
from parallel_hpo.session.decide.stopping import seed_of

EXIT_CODES: Final = {Outcome.FINISHED: 0, Outcome.FAILED: 1}
"""Exit code with which the client closes a run whose end the server has not received. The session itself
reports other outcomes, as no process of the client has an exit code for them."""


def on_run_started(draft: Draft, slot: SlotView, report: RunStarted) -> None:
    """Have the start counted; the worker enters `main` only after that."""
    if slot.state is SlotState.STOPPING:
        return  # the order to leave follows, and the server requeues the run
    if slot.assigned is not None:
        _start(draft, slot, slot.assigned)
    else:
        seed = _seed_of(draft.view.limits, report.index)
        run = OpenRun(report.run_id, report.parameters, report.attempt, since=draft.now, seed=seed)
        _start(draft, slot, run, new=True)


def on_delivered(draft: Draft, event: Delivered) -> None:
    """Start the next attempt of a run that the ledger knows, or skip the run if it has ended."""
    slot, report = draft.slot(event.slot), event.report
    if slot.state is SlotState.STOPPING:
        return
    waiting = [run for run in draft.view.reruns if run.run_id == report.run_id]
    if waiting:
        others = tuple(run for run in draft.view.reruns if run.run_id != report.run_id)
        draft.view = changed(draft.view, reruns=others)
        _start(draft, slot, waiting[0])
    elif event.outcome is None and not _is_elsewhere(draft.view, report.run_id):
        attempt = event.attempts + 1
        run = OpenRun(report.run_id, report.parameters, attempt, since=draft.now, seed=event.seed)
        _start(draft, slot, run)
    else:
        _skip_run(draft, slot, report.run_id, event.outcome)


def on_refused(draft: Draft, event: StartRefused) -> None:
    """Skip a run that has ended or belongs to another machine; return a new one to its server.

    To return it, the worker leaves: the server requeues what a dead worker has not started.
    """
    slot = draft.slot(event.slot)
    pending = slot.pending
    if pending is None or pending.run.run_id != event.run_id:
        return  # withdrawn in the meantime
    draft.change(slot.slot, pending=None)
    draft.view = changed(draft.view, started=draft.view.started - pending.new)
    if not slot.alive:
        if pending.new:
            draft.actions.append(ReturnRuns(slot.slot))
        return
    draft.change(slot.slot, lease_left=slot.lease_left + pending.leased)
    slot = draft.slot(slot.slot)
    if slot.state is SlotState.STOPPING:
        return
    draft.notify(Message(f"run {event.run_id} is not started here: {event.reason}"))
    if not pending.leased:
        draft.actions.append(Send(slot.slot, SkipRun(event.run_id, None)))
    elif event.reason.startswith(KNOWN_TO_POOL):
        _skip_run(draft, slot, event.run_id, _outcome_in(event.reason))
    else:
        draft.replace_worker(slot, f"replaced: {event.reason}")


def on_granted(draft: Draft, event: StartGranted) -> None:
    """Let the waiting run enter `main`; if its worker has left, the count requeues the run."""
    slot = draft.slot(event.slot)
    pending = slot.pending
    if pending is None or pending.run.run_id != event.run_id:
        return  # withdrawn in the meantime
    draft.change(slot.slot, pending=None)
    if slot.state is SlotState.RUNNING:
        _enter(draft, draft.slot(slot.slot), pending.run)
    else:
        draft.withdraw_start(pending, "its worker left before it began")


def _outcome_in(why: str) -> Outcome | None:
    """Return the outcome in a refusal, None if the run has not ended."""
    word = why.removeprefix(OVER_WORD)
    return Outcome(word) if word in list(Outcome) else None


def _start(draft: Draft, slot: SlotView, known: OpenRun, *, new: bool = False) -> None:
    """Ask the count for a start."""
    exclusive_on = known.exclusive_on if known.exclusive_on == slot.device else ""
    run = changed(known, since=draft.now, exclusive_on=exclusive_on)
    leased = slot.assigned is None and slot.lease_left > 0
    draft.view = changed(draft.view, started=draft.view.started + new)
    draft.change(slot.slot, assigned=None, idle_returns=0, lease_left=slot.lease_left - leased)
    pending = PendingStart(run, new, leased=slot.assigned is None)
    draft.change(slot.slot, pending=pending, active_at=draft.now)
    draft.actions.append(AskStart(slot.slot, run))


def _enter(draft: Draft, slot: SlotView, known: OpenRun) -> None:
    """Let the worker enter `main`; the run's clock starts here."""
    run = changed(known, since=draft.now)
    draft.change(slot.slot, run=run, active_at=draft.now)
    draft.actions.append(Send(slot.slot, Proceed(run.run_id, run.attempt, run.seed)))
    draft.notify(RunBegan(slot.slot, run.run_id, run.attempt, run.parameters, slot.device))


def _seed_of(limits: Limits, index: int | None) -> int | None:
    return None if limits.seed is None or index is None else seed_of(limits.seed, index)


def _skip_run(draft: Draft, slot: SlotView, run_id: RunId, outcome: Outcome | None) -> None:
    """Let the worker skip a run that has ended or is active in another slot; report its end to the server."""
    exit_code = None if outcome is None else EXIT_CODES.get(outcome)
    draft.change(slot.slot, lease_left=max(0, slot.lease_left - 1), active_at=draft.now)
    if outcome is not None:
        draft.actions.append(ReportEnd(run_id, outcome))
        words = f"run {run_id} was delivered again, but is {outcome}: telling its server"
        draft.notify(Message(words))
    draft.actions.append(Send(slot.slot, SkipRun(run_id, exit_code)))


def _is_elsewhere(view: SweepView, run_id: RunId) -> bool:
    return any(run.run_id == run_id for slot in view.slots for run in slot.held)


IDLE_RETURN_S: Final = 1.0
IDLE_RETURN_MAX_S: Final = 30.0
"""First and longest wait before an agent that returned no run from a running sweep (server unreachable, say)
gets another lease: 1, 2, 4 … 30 s, as W&B's own client waits between tries."""

WAITING: Final = (SlotState.STOPPED, SlotState.BACKOFF)
"""States of a slot without a process that may get one."""


def decide(view: SweepView, event: Event, now: float) -> Decision:
    """Return the next view and the actions that follow from `event` at `now` (monotonic seconds).

    Raises:
        IllegalMove: the event is impossible in the slot's state.
    """
    draft = _Decider(view, now)
    draft.take(event)
    draft.assign()
    stopping.end_without_workers(draft)
    return Decision(draft.view, tuple(draft.actions))


class _Decider(Draft):
    """Applies an event to a draft, then assigns work."""

    # --- events ---------------------------------------------------------------

    def take(self, event: Event) -> None:
        match event:
            case Opened():
                devices.announce_other_users(self)
            case TimePassed():
                stopping.end_overdue(self)
                devices.use_free_devices(self)
            case (
                OutputSeen()
                | MemorySeen()
                | DeviceMemorySeen()
                | DeviceClear()
                | Delivered()
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
                self._on_workers_asked(event)
            case PoolAnswered() | StartGranted() | StartRefused():
                self._on_pool(event)
            case _:
                assert_never(event)

    def _on_seen(
        self,
        event: OutputSeen | MemorySeen | DeviceMemorySeen | DeviceClear | Delivered | OtherUsersSeen,
    ) -> None:
        match event:
            case OtherUsersSeen():
                devices.on_other_users_seen(self, event)
            case DeviceMemorySeen():
                devices.on_memory(self, event)
            case Delivered():
                on_delivered(self, event)
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

    def _on_workers_asked(self, event: ScaleAsked | DrainAsked) -> None:
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
                self.view = changed(self.view, loadable=True)
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

    def _on_lease_ended(self, slot: SlotView, report: LeaseEnded) -> None:
        self.change(slot.slot, busy=False, lease_left=0)
        if slot.state is SlotState.RUNNING and report.error:
            self.replace_worker(slot, report.error)
        elif slot.state is SlotState.RUNNING and demand.runs_left_in_process(self, slot) == 0:
            self.replace_worker(slot, "replaced after its runs")
        leaves = slot.state is SlotState.STOPPING  # it has already reported, or was ordered to leave
        if leaves or self.view.ending is not None or not (report.short or report.error):
            return
        wait_s = min(IDLE_RETURN_MAX_S, IDLE_RETURN_S * 2.0 ** min(slot.idle_returns, 10))
        self.change(slot.slot, lease_at=self.now + wait_s, idle_returns=slot.idle_returns + 1)
        agent_error = f"w{slot.slot}: {report.error}; replacing its process" if report.error else ""
        if not self.view.asking:
            self.view = changed(self.view, asking=True, agent_error=agent_error)
            self.actions.append(AskSweep())

    def _on_sweep_seen(self, over: str) -> None:
        """Note whether the sweep goes on; then show the agent's error, and replace agents that got no run.

        The server returns a run that such an agent was issued and could not begin (no room for its
        parameters, say) once its process has ended.
        """
        if not over and self.view.agent_error:
            self.notify(Message(self.view.agent_error, warning=True))
        self.view = changed(self.view, asking=False, agent_error="", exhausted=over or self.view.exhausted)
        if over:
            return
        for slot in self.view.slots:
            if slot.idle_returns and slot.state is SlotState.RUNNING and not slot.busy:
                self.replace_worker(slot, "replaced: its agent returned though the sweep goes on")

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

    # --- after every event -----------------------------------------------------

    def assign(self) -> None:
        """Give idle workers work, and start workers for the rest."""
        for slot in self.view.slots:
            if slot.spawn_at is not None or slot.lease_at is not None:
                self._clear_past_waits(slot)
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

    def _clear_past_waits(self, slot: SlotView) -> None:
        """Clear expired waits, so that no deadline lies in the past."""
        if slot.spawn_at is not None and slot.spawn_at <= self.now:
            self.change(slot.slot, spawn_at=None)
        if slot.lease_at is not None and slot.lease_at <= self.now:
            self.change(slot.slot, lease_at=None)
