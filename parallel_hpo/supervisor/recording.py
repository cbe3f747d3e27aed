"""Records what a decision says of runs, and sees to what follows a record at once. Called by the loop."""

from __future__ import annotations

from concurrent.futures import Future

from parallel_hpo.supervisor.aftermath import BAD
from parallel_hpo.supervisor.decisions.actions import End, RecordDrop, RecordEnd, RecordStart
from parallel_hpo.supervisor.tools import LivingWorker, Tools
from parallel_hpo.words import Outcome, RunId


def record_start(action: RecordStart, device: str | None, tools: Tools) -> None:
    """Put a start on the disk; UnrecordedError where a stop is quicker."""
    tools.pump.begin_tail(action.slot)
    tools.recorder.start(action, device)


def record_end(action: RecordEnd, worker: LivingWorker, tools: Tools) -> None:
    """Record how an attempt ended; with the last one, see to its run."""
    tools.recorder.end(action)
    if not action.final:
        return
    if action.died:
        _tell_server(action.run.run_id, action.end, tools)
    _look_into(action.run.run_id, action.end, worker, tools)


def record_drop(action: RecordDrop, tools: Tools) -> None:
    """Record that a run gets no other attempt, and see to it."""
    tools.recorder.drop(action)
    _tell_server(action.run.run_id, action.end, tools)
    _look_into(action.run.run_id, action.end, None, tools)


def _tell_server(run_id: RunId, end: End, tools: Tools) -> None:
    """Have the server told of a run's end that its process could not tell."""
    state = "crashed" if end.outcome is Outcome.CRASHED else "killed"
    tools.server_calls.end_run(run_id, state, send_rest=not end.resumable)


def _look_into(run_id: RunId, end: End, worker: LivingWorker | None, tools: Tools) -> None:
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
    tools.aftermath.take(row, end, tail, {**(worker.environment if worker else {}), **facts})
