"""A run's data stream: history, summary, system events, console output, and the run's end.

Chunks may arrive twice or late: lines are written at their numbers, the summary is
replaced, and the end is a move of `rules.runs`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from parallel_hpo.server.context import AppContext
from parallel_hpo.server.rules.runs import RunEvent, exit_event, merged_summary
from parallel_hpo.server.services.early_stopping import apply_metrics
from parallel_hpo.server.services.run_transitions import apply_event
from parallel_hpo.server.store import lines, runs
from parallel_hpo.server.store.database import Transaction
from parallel_hpo.server.store.lines import Line, Stream
from parallel_hpo.server.store.records import Run
from parallel_hpo.server.store.runs import RunPath
from parallel_hpo.server.values import RefusedError, merge_history_keys, read_object, step_of

_FILES: Final[Mapping[str, Stream]] = {
    "wandb-history.jsonl": Stream.HISTORY,
    "wandb-events.jsonl": Stream.EVENTS,
    "output.log": Stream.CONSOLE,
}
_SUMMARY: Final = "wandb-summary.json"
_MAX_LINE_NUMBER: Final = 2**31 - 1
_COUNTERS: Final[Mapping[Stream, str]] = {
    Stream.HISTORY: "history_lines",
    Stream.EVENTS: "event_lines",
    Stream.CONSOLE: "log_lines",
}


@dataclass(frozen=True, slots=True)
class Batch:
    """Consecutive lines of one stream; `offset` is the first line's number."""

    stream: Stream
    offset: int
    content: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Chunk:
    """One request of the stream."""

    batches: tuple[Batch, ...] = ()
    summary: str | None = None
    preempting: bool = False
    exitcode: int | None = None
    """None: the run has not ended."""


def read_chunk(body: Any) -> Chunk:
    """Parse a request's body; RefusedError (400) says what is wrong with it."""
    if not isinstance(body, dict):
        raise RefusedError("the body must be a JSON object", status=400)
    files = body.get("files", {})
    if not isinstance(files, dict):
        raise RefusedError("files must be an object", status=400)
    batches, summary = [], None
    for name, file in files.items():
        offset, content = _read_file(name, file)
        if name == _SUMMARY and content:
            summary = content[-1]
        elif name in _FILES and content:
            batches.append(Batch(_FILES[name], offset, content))
    exitcode = None
    if body.get("complete"):
        code = body.get("exitcode")
        exitcode = code if isinstance(code, int) and abs(code) <= _MAX_LINE_NUMBER else 0
    return Chunk(tuple(batches), summary, bool(body.get("preempting")), exitcode)


def receive(app: AppContext, path: RunPath, chunk: Chunk) -> bool:
    """Store a chunk and return whether the run should stop; RefusedError (404) for an unknown run."""
    with app.database.write() as transaction:
        run = runs.at(transaction, path)
        if run is None:
            raise RefusedError(f"run {path.entity}/{path.project}/{path.name} doesn't exist", status=404)
        changes: dict[str, Any] = {"heard_at": app.clock()}
        if run.started_at is None:
            changes["started_at"] = app.clock()
        rows: list[Mapping[str, Any]] = []
        for batch in chunk.batches:
            stored = _store(transaction, run, batch)
            changes |= stored.changes
            rows += stored.history
        summary = None
        if chunk.summary is not None:
            summary = read_object(chunk.summary, _SUMMARY)
            changes["summary"] = merged_summary(run.inherited, chunk.summary)
        changes |= apply_metrics(transaction, run, rows, summary)
        if chunk.exitcode is not None:
            changes["exitcode"] = chunk.exitcode
            changes.pop("stop_requested", None)  # the run has ended already
        _move(transaction, run, chunk, changes)
    return bool(changes.get("stop_requested", run.stop_requested))


def _move(transaction: Transaction, run: Run, chunk: Chunk, changes: dict[str, Any]) -> None:
    """Change the run's state by the chunk; one that is preempting and has ended takes both moves."""
    if chunk.preempting:
        apply_event(transaction, run, RunEvent.PREEMPTING, changes)
        if chunk.exitcode is None:
            return
        run = runs.find(transaction, run.id) or run
        changes = {}
    event = RunEvent.ACTIVITY
    if chunk.exitcode is not None:
        event = exit_event(chunk.exitcode, stop_requested=run.stop_requested)
    apply_event(transaction, run, event, changes)


def _read_file(name: Any, file: Any) -> tuple[int, tuple[str, ...]]:
    if not isinstance(file, dict):
        raise RefusedError(f"files.{name} must be an object", status=400)
    offset, content = file.get("offset", 0), file.get("content", [])
    if isinstance(offset, bool) or not isinstance(offset, int) or not 0 <= offset <= _MAX_LINE_NUMBER:
        raise RefusedError(f"files.{name}.offset must be a line number", status=400)
    if not isinstance(content, list) or not all(isinstance(line, str) for line in content):
        raise RefusedError(f"files.{name}.content must be a list of strings", status=400)
    if offset + len(content) > _MAX_LINE_NUMBER:
        raise RefusedError(f"files.{name} has too many lines", status=400)
    return offset, tuple(content)


@dataclass(frozen=True, slots=True)
class _Stored:
    """The changes to the run's row, and a batch's new history rows."""

    changes: dict[str, Any]
    history: tuple[Mapping[str, Any], ...] = ()


def _store(transaction: Transaction, run: Run, batch: Batch) -> _Stored:
    """Write a batch's lines."""
    rows = [] if batch.stream is Stream.CONSOLE else [read_object(text, "a line") for text in batch.content]
    steps = [step_of(row) for row in rows] if batch.stream is Stream.HISTORY else [None] * len(batch.content)
    stored_steps = _known_steps(transaction, run, batch, steps)
    numbered = enumerate(zip(steps, batch.content, strict=True), batch.offset)
    new_lines = [Line(number, step, text) for number, (step, text) in numbered if step not in stored_steps]
    lines.put(transaction, run.id, batch.stream, new_lines)
    counter = _COUNTERS[batch.stream]
    known: int = getattr(run, counter)
    changes: dict[str, Any] = {counter: max(known, new_lines[-1].number + 1) if new_lines else known}
    if batch.stream is Stream.HISTORY:
        repeated = max(known - batch.offset, 0)  # lines that are not counted twice
        paired = zip(steps[repeated:], rows[repeated:], strict=True)
        new_rows = [row for step, row in paired if step not in stored_steps]
        keys = merge_history_keys(json.loads(run.history_keys), new_rows)
        return _Stored(changes | {"history_keys": json.dumps(keys)}, tuple(new_rows))
    if batch.stream is Stream.EVENTS:
        changes["system_metrics"] = json.dumps(json.loads(run.system_metrics) | rows[-1])
    return _Stored(changes)


def _known_steps(
    transaction: Transaction, run: Run, batch: Batch, steps: Sequence[int | None]
) -> frozenset[int]:
    """Return the steps whose rows were received before, under lower numbers.

    wandb client: `wandb sync` sends all rows of a run's folder after those that the server has, with
    their original steps. A step belongs to one row only.
    """
    known = [step for step in steps if step is not None]
    if not known or batch.offset == 0:
        return frozenset()
    return lines.known_steps(transaction, run.id, batch.offset, range(min(known), max(known) + 1))
