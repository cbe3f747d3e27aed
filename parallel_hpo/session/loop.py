"""The session's loop: wait once, turn what woke it into events, let `decide` decide, perform the actions.

    fork server ─┐
    workers     ─┤                        ┌─▶ ledger
    wakeup fd   ─┼─▶ wait ─▶ event ─▶ decide ─▶ actions ─▶ children, server_calls, observer
    deadline    ─┘           ▲                          ├─▶ count: starts, ends, demand ─┐
                             └── answers ───────────────┴────────────────────────────────┘

Only this file performs actions, one short function each; it takes no decision.
"""

from __future__ import annotations

import queue
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path

from parallel_hpo.core.child_spec import STACKS_SIGNAL
from parallel_hpo.core.errors import ConfigError
from parallel_hpo.core.messages import AttemptEnd, Proceed, Progress, Report, RunEnded, RunStarted, SweepEnd
from parallel_hpo.core.notices import Message, RunProgressed
from parallel_hpo.core.types import Outcome, RunId, Slot
from parallel_hpo.devices.sharing import OtherUsersSeen
from parallel_hpo.processes.environment import make_room_for
from parallel_hpo.processes.fork_server import SCARCE, ResourcesExhaustedError, has_more, name_death
from parallel_hpo.session.count import end_of, end_of_waiting, end_of_withdrawn, start_of
from parallel_hpo.session.decide.decide import decide
from parallel_hpo.session.decide.demand import needs
from parallel_hpo.session.decide.events import (
    Action,
    AskStart,
    AskSweep,
    AwaitDevice,
    Delivered,
    Died,
    DumpStacks,
    Event,
    Kill,
    Notify,
    Opened,
    RecordDrop,
    RecordEnd,
    RecordQuarantine,
    Reported,
    ReportEnd,
    ReturnRuns,
    ScaleAsked,
    Send,
    Spawn,
    SpawnDenied,
    SweepSeen,
    TimePassed,
    WithdrawStart,
)
from parallel_hpo.session.decide.state import SlotView, SweepView, is_finished, next_deadline
from parallel_hpo.session.decide.stopping import index_from
from parallel_hpo.session.hooks import BAD
from parallel_hpo.session.measuring import LivingWorker, LoopContext, Measurements
from parallel_hpo.session.signals import wait


def record_end(action: RecordEnd, worker: LivingWorker, tools: LoopContext) -> None:
    """Report an attempt's end and consumption; after a run's last one, handle the run's end."""
    used = tools.meter.end(action.slot, tools.clock())
    action = replace(action, end=replace(action.end, consumption=used))
    tools.count.end(end_of(action))
    if not action.final:
        return
    if action.died and not _is_requeued(action.end, tools):
        _tell_server(action.run.run_id, action.end, tools)
    _handle_failure(action.run.run_id, action.end, worker, tools)


def record_drop(action: RecordDrop, tools: LoopContext) -> None:
    """Report that a run gets no further attempt here, and handle its end."""
    tools.count.end(end_of_waiting(action))
    if not _is_requeued(action.end, tools):
        _tell_server(action.run.run_id, action.end, tools)
    _handle_failure(action.run.run_id, action.end, None, tools)


def _is_requeued(end: AttemptEnd, tools: LoopContext) -> bool:
    """Return whether another machine may run it again; its server must not get an end then."""
    return end.resumable and tools.count.has_others


def _tell_server(run_id: RunId, end: AttemptEnd, tools: LoopContext) -> None:
    """Report a run's end to the server, as its process could not."""
    state = "crashed" if end.outcome is Outcome.CRASHED else "killed"
    tools.server_calls.end_run(run_id, state, send_rest=not end.resumable)


def _handle_failure(run_id: RunId, end: AttemptEnd, worker: LivingWorker | None, tools: LoopContext) -> None:
    """Hand a failed or crashed run to the failure handler; without a worker, its last output is unknown."""
    if end.outcome not in BAD or end.resumable or (row := tools.count.known(run_id)) is None:
        return
    tail: Future[list[str]] = Future()
    if worker is None:
        tail.set_result([])
    else:
        tail = tools.pump.tail(worker.slot)
    facts = {"PARALLEL_HPO_RUN_ID": run_id, "PARALLEL_HPO_ATTEMPT": str(row.attempts)}
    facts |= {} if row.seed is None else {"PARALLEL_HPO_SEED": str(row.seed)}
    tools.failure_handler.take(row, end, tail, {**(worker.environment if worker else {}), **facts})


Answer = SweepSeen | OtherUsersSeen
Answers = queue.SimpleQueue[Answer]


class Loop:
    """Runs one sweep from its opening to the end of its last process."""

    def __init__(self, view: SweepView, tools: LoopContext, answers: Answers) -> None:
        """`answers` holds answers of servers; the control's wakeup fd announces them too."""
        self.view = view
        self._tools = tools
        self._denied: set[Slot] = set()
        self._answers = answers
        self._workers: dict[int, LivingWorker] = {}
        self._in_slot: dict[Slot, LivingWorker] = {}
        self._spawned = 0
        self._measures = Measurements(view, tools)

    def run(self) -> SweepEnd:
        """Run the sweep, and return its end once none of its processes is left.

        Raises:
            StoppedError: after a stop, something did not end in time.
        """
        self._handle(Opened())
        self._exchange()
        while not is_finished(self.view):
            self._turn()
            self._exchange()
        assert self.view.ending is not None
        return self.view.ending

    def _turn(self) -> None:
        tools = self._tools
        deadline = next_deadline(self.view)
        times = (
            deadline,
            self._measures.due_at,
            tools.devices.look_at,
            tools.meter.read_at,
            tools.count.due_at,
        )
        wake_at = min((at for at in times if at is not None), default=None)
        wake_in_s = None if wake_at is None else max(0.0, wake_at - tools.clock())
        waits_s = (
            wake_in_s,
            tools.children.look_after_s,
            tools.waits.time_for_runs_to_end(),
            tools.stall_detector.due_in_s(self.view),
        )
        timeout = min((wait_s for wait_s in waits_s if wait_s is not None), default=None)
        pipes = [worker.child.connection for worker in self._workers.values() if not worker.at_eof]
        ready = wait(
            [
                *pipes,
                tools.control.bell,
                tools.command_pipe.fileno(),
                tools.children.line,
                *tools.children.orphan_fds,
            ],
            timeout,
        )
        for worker in list(self._workers.values()):
            if worker.child.connection in ready:
                self._receive(worker)
        self._take_ended()
        self._take_asked()
        for clear in tools.devices.look(tools.clock()):
            self._handle(clear)
        tools.meter.read(tools.clock())
        self._take_measures()
        self._check_stall()
        if deadline is not None and deadline <= tools.clock():
            self._take_time()

    def _exchange(self) -> None:
        self._tools.count.exchange(lambda: needs(self.view), self._handle)

    def _take_time(self) -> None:
        """Let limits of time act, after reading all reports of the workers.

        SQLite may have waited for the ledger: a worker's latest reports may still be unread.
        """
        for worker in list(self._workers.values()):
            self._receive_rest(worker)
        for seen in self._measures.output():
            self._handle(seen)
        self._handle(TimePassed())

    # --- events ----------------------------------------------------------------------

    def _receive(self, worker: LivingWorker) -> None:
        """Take one report; the others wake the next turn."""
        try:
            report = worker.child.connection.recv()
        except (EOFError, OSError):
            worker.at_eof = True
            return
        if isinstance(report, Progress):
            self._tools.observer(RunProgressed(worker.slot, report))
            return
        if isinstance(report, RunEnded):  # its process still holds the memory that the run needed
            for seen in self._measures.held(self._workers.values(), self._slot(worker.slot).device):
                self._handle(seen)
        self._handle(self._delivered(worker.slot, report) or Reported(worker.slot, self._indexed(report)))

    def _delivered(self, slot: Slot, report: Report) -> Delivered | None:
        """Return the event of a start of a run that the ledger knows, None for any other report."""
        if not isinstance(report, RunStarted) or self._slot(slot).assigned is not None:
            return None
        row = self._tools.count.known(report.run_id)
        if row is None:
            return None
        return Delivered(slot, report, row.attempts, None if row.resumable else row.outcome, row.seed)

    def _indexed(self, report: Report) -> Report:
        """Give a run without an index from its server one, if its seed needs it."""
        if self.view.limits.seed is None or not isinstance(report, RunStarted) or report.index is not None:
            return report
        before = self._tools.count.begun_with(report.parameters)
        return replace(report, index=index_from(report.parameters, before))

    def _take_ended(self) -> None:
        for reaped, child in self._tools.children.collect():
            worker = self._workers.pop(reaped.pid, None)
            if worker is not None:
                self._tools.memory.remove(worker.slot)
                self._receive_rest(worker)
                self._handle(Died(worker.slot, name_death(reaped.status), self._tools.jitter()))
                child.connection.close()

    def _receive_rest(self, worker: LivingWorker) -> None:
        """Receive all reports of a worker that are still unread."""
        while not worker.at_eof and has_more(worker.child.connection):
            self._receive(worker)

    def _take_asked(self) -> None:
        for asked in self._tools.control.take():
            self._handle(asked)
        for command in self._tools.command_pipe.take():
            if not isinstance(command, ScaleAsked) or self._has_room_for(command.workers):
                self._handle(command)
        while not self._answers.empty():
            self._handle(self._answers.get())

    def _has_room_for(self, workers: int) -> bool:
        """Return whether the system has room for this many workers; if not, warn."""
        try:
            make_room_for(max(0, workers - len(self._workers)))
        except (ConfigError, OSError) as error:
            words = f"not scaled to {workers} workers: {error}"
            self._tools.observer(Message(words, warning=True))
            return False
        return True

    def _take_measures(self) -> None:
        devices = [self._slot(worker.slot).device for worker in self._workers.values()]
        for seen in self._measures.take(self._workers.values(), devices):
            self._handle(seen)

    def _check_stall(self) -> None:
        if self._tools.stall_detector.look(self.view):
            for worker in self._workers.values():
                worker.child.signal(STACKS_SIGNAL)

    # --- actions ------------------------------------------------------------------------

    def _handle(self, event: Event) -> None:
        self._tools.stall_detector.moved()
        decision = decide(self.view, event, self._tools.clock())
        self.view = decision.view
        for action in decision.actions:
            self._perform(action)

    def _perform(self, action: Action) -> None:
        match action:
            case RecordEnd() | RecordDrop() | RecordQuarantine():
                self._record(action)
            case AskStart() | WithdrawStart():
                self._ask_count(action)
            case Spawn(slot):
                self._spawn(slot)
            case Send(slot, order):
                self._send(slot, order)
            case Kill(slot):
                self._in_slot[slot].child.kill()
            case DumpStacks(slot):
                self._in_slot[slot].child.signal(STACKS_SIGNAL)
            case ReportEnd() | ReturnRuns() | AskSweep():
                self._ask_server(action)
            case AwaitDevice(slot):
                self._tools.devices.begin(slot, self._slot(slot).device, self._tools.clock())
            case Notify(notice):
                self._tools.observer(notice)

    def _ask_count(self, action: AskStart | WithdrawStart) -> None:
        match action:
            case AskStart(slot, run):
                device = self._slot(slot).device or None
                self._tools.count.ask(start_of(slot, run, device), needs(self.view))
            case WithdrawStart(run):
                self._tools.count.withdraw(end_of_withdrawn(run))

    def _ask_server(self, action: ReportEnd | ReturnRuns | AskSweep) -> None:
        server_calls = self._tools.server_calls
        match action:
            case ReportEnd(run_id, outcome, unsent):
                server_calls.report_end(run_id, outcome, [Path(folder) for folder in unsent])
            case ReturnRuns(slot, keep):
                server_calls.requeue_runs(self._in_slot[slot].label, [keep] if keep else [])
            case AskSweep():
                server_calls.ask_sweep()

    def _spawn(self, slot: Slot) -> None:
        tools = self._tools
        self._spawned += 1
        label = f"{tools.owner_id}_{slot}_{self._spawned}"
        if slot not in self._denied:
            tools.count.spawn(slot, self._slot(slot).device or None, again=slot in self._in_slot)
        try:
            spec = tools.make_spec(self._slot(slot), label)
            child = tools.waits.call(lambda: tools.children.spawn(spec))
        except (ResourcesExhaustedError, OSError) as error:
            if isinstance(error, OSError) and error.errno not in SCARCE:
                raise
            self._denied.add(slot)
            self._handle(SpawnDenied(slot, str(error)))
            return
        self._denied.discard(slot)
        tools.pump.add(child.output, slot)
        worker = LivingWorker(slot, child, label, spec.surroundings.environment)
        tools.memory.add(slot, child.pid)
        self._workers[child.pid] = worker
        self._in_slot[slot] = worker

    def _slot(self, slot: Slot) -> SlotView:
        return self.view.slots[slot]

    def _send(self, slot: Slot, order: object) -> None:
        if isinstance(order, Proceed):
            self._tools.pump.begin_tail(slot)
            self._tools.meter.begin(slot, self._slot(slot).device, self._tools.clock())
        try:
            self._in_slot[slot].child.connection.send(order)
        except OSError:
            return  # it has died; its Died event follows

    def _record(self, action: RecordEnd | RecordDrop | RecordQuarantine) -> None:
        match action:
            case RecordEnd():
                record_end(action, self._in_slot[action.slot], self._tools)
            case RecordDrop():
                record_drop(action, self._tools)
            case RecordQuarantine(device, reason):
                self._tools.count.quarantine(device, reason)
