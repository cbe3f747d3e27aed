"""Records what a decision says of runs, and sees to what follows a record at once. Called by the loop."""

from __future__ import annotations

from concurrent.futures import Future
from dataclasses import replace

from parallel_hpo.protocol.ends import AttemptEnd
from parallel_hpo.supervisor.decisions.actions import (
    AskStart,
    RecordDrop,
    RecordEnd,
    RecordStart,
    WithdrawStart,
)
from parallel_hpo.supervisor.decisions.grants import needs
from parallel_hpo.supervisor.decisions.view import SweepView
from parallel_hpo.supervisor.membership.telling import end_of, end_of_waiting, never_begun, start_of
from parallel_hpo.supervisor.on_failure import BAD
from parallel_hpo.supervisor.records.recorder import UnrecordedError
from parallel_hpo.supervisor.tools import LivingWorker, Tools
from parallel_hpo.words import Outcome, RunId


def ask_pool(action: AskStart | WithdrawStart, after: SweepView, tools: Tools) -> None:
    """Ask the pool for a start, or withdraw that; `after` is the view with the run as started."""
    assert tools.membership is not None
    match action:
        case AskStart(slot, run):
            device = after.slots[slot].device or None
            tools.membership.ask(start_of(slot, run, device), needs(after, tools.clock()))
        case WithdrawStart(run):
            tools.membership.withdraw(never_begun(run))


def record_start(action: RecordStart, after: SweepView, tools: Tools) -> bool:
    """Put a start on the disk; return whether that had to wait. UnrecordedError where it may not begin.

    `after` is the view with the run on.
    """
    device = after.slots[action.slot].device or None
    tools.pump.begin_tail(action.slot)
    tools.meter.begin(action.slot, device or "", tools.clock())
    try:
        return tools.recorder.start(action, device)
    except UnrecordedError:
        if tools.membership is not None:
            tools.membership.end(never_begun(action.run))
        raise


def record_end(action: RecordEnd, worker: LivingWorker, tools: Tools) -> None:
    """Record how an attempt ended and what it used; with the last one, see to its run."""
    used = tools.meter.end(action.slot, tools.clock())
    action = replace(action, end=replace(action.end, consumption=used))
    tools.recorder.end(action)
    if tools.membership is not None:
        tools.membership.end(end_of(action))
    if not action.final:
        return
    if action.died and not _is_handed_on(action.end, tools):
        _tell_server(action.run.run_id, action.end, tools)
    _look_into(action.run.run_id, action.end, worker, tools)


def record_drop(action: RecordDrop, tools: Tools) -> None:
    """Record that a run gets no other attempt, and see to it."""
    tools.recorder.drop(action)
    if tools.membership is not None:
        tools.membership.end(end_of_waiting(action))
    if not _is_handed_on(action.end, tools):
        _tell_server(action.run.run_id, action.end, tools)
    _look_into(action.run.run_id, action.end, None, tools)


def _is_handed_on(end: AttemptEnd, tools: Tools) -> bool:
    """Whether another machine runs it again: its server must not be told an end while it is on there."""
    return end.resumable and tools.membership is not None


def _tell_server(run_id: RunId, end: AttemptEnd, tools: Tools) -> None:
    """Have the server told of a run's end that its process could not tell."""
    state = "crashed" if end.outcome is Outcome.CRASHED else "killed"
    tools.server_calls.end_run(run_id, state, send_rest=not end.resumable)


def _look_into(run_id: RunId, end: AttemptEnd, worker: LivingWorker | None, tools: Tools) -> None:
    """Have a run seen to that failed or crashed; without a worker, what it printed last is not known."""
    row = tools.recorder.known(run_id)
    if end.outcome not in BAD or end.resumable or row is None:
        return
    tail: Future[list[str]] = Future()
    if worker is None:
        tail.set_result([])
    else:
        tail = tools.pump.tail(worker.slot)
    facts = {"PARALLEL_HPO_RUN_ID": run_id, "PARALLEL_HPO_ATTEMPT": str(row.attempts)}
    facts |= {} if row.seed is None else {"PARALLEL_HPO_SEED": str(row.seed)}
    tools.aftermath.take(row, end, tail, {**(worker.environment if worker else {}), **facts})
