"""Clients' requests on runs: start, resume or change (one operation of W&B's), stop, rewind and fork.

`resume_from` of wandb.init rewinds a run, `fork_from` forks one. History is copied, so a fork outlives its
parent; a rewind deletes what it cuts off. As in W&B, console output and system metrics start empty, and
artifacts stay with the run that logged them.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from parallel_hpo.core.keys import SUPERVISOR
from parallel_hpo.server.context import DEFAULT_ENTITY, DEFAULT_PROJECT, UNLABELLED, AppContext
from parallel_hpo.server.rules.runs import (
    METRIC,
    OPEN,
    BranchPoint,
    IllegalRunMoveError,
    RunEvent,
    RunState,
    read_branch_point,
    read_past,
    read_step,
)
from parallel_hpo.server.rules.sweeps import SweepState
from parallel_hpo.server.services.early_stopping import recompute_losses, reset_losses
from parallel_hpo.server.services.run_transitions import apply_event, restart_changes
from parallel_hpo.server.store import lines, projects, runs, sweeps
from parallel_hpo.server.store.database import Transaction
from parallel_hpo.server.store.lines import Stream
from parallel_hpo.server.store.records import CLIENT_FIELDS, Project, Run, RunFields
from parallel_hpo.server.store.runs import RunPath
from parallel_hpo.server.values import RefusedError, read_object


def rewind(app: AppContext, path: RunPath, metric: str, value: float, *, opener: str = UNLABELLED) -> Run:
    """Delete a run's history after a step, and restart the run there; RefusedError for an invalid request.

    `opener` is the label of the request's key. A supervisor uploads the rest of an attempt that had rewound
    the run when it began: the history is left alone then, as it may hold more than that rest.
    """
    if metric != METRIC:
        raise RefusedError(f"runs are rewound by their {METRIC}, not by {metric!r}")
    point = BranchPoint(path.name, read_step(value))
    with app.database.write() as transaction:
        run = runs.at(transaction, path)
        if run is None:
            where = f"{path.entity}/{path.project}/{path.name}"
            raise RefusedError(f"run {where} doesn't exist: resume_from rewinds one that does")
        changes: dict[str, Any] = {"heard_at": app.clock()} | restart_changes(run)
        if opener != SUPERVISOR:
            lines.cut_history(transaction, run.id, point.end)
            lines.clear(transaction, run.id, (Stream.EVENTS, Stream.CONSOLE))
            changes |= _branch_changes(transaction, run, run, point)
        if opener not in (UNLABELLED, SUPERVISOR):
            changes["opened_by"] = opener  # so that its first upsert doesn't reset its losses
        apply_event(transaction, run, RunEvent.STARTED, changes)
        return runs.find(transaction, run.id) or run


def fork(transaction: Transaction, run: Run, point: BranchPoint) -> dict[str, Any]:
    """Replace a run's history by another run's up to a point, and return the changes to its row."""
    parent = runs.in_project(transaction, run.project_id, point.run)
    if parent is None:
        raise RefusedError(
            f"run {point.run} of project {run.entity}/{run.project} doesn't exist: fork_from names a run of "
            "the new run's own project"
        )
    lines.clear(transaction, run.id)
    lines.copy_history(transaction, parent.id, run.id, point.end)
    return _branch_changes(transaction, run, parent, point)


def _branch_changes(transaction: Transaction, run: Run, source: Run, point: BranchPoint) -> dict[str, Any]:
    """Return the changes to a run's row when its history is that of `source` up to a point."""
    keys, summary = source.history_keys, source.summary
    if json.loads(keys)["lastStep"] >= point.end:  # else nothing is cut off
        past = read_past(map(json.loads, lines.texts(transaction, run.id, Stream.HISTORY)))
        keys, summary = json.dumps(past.history_keys), json.dumps(past.summary)
    return {
        "history_keys": keys,
        "history_lines": lines.end_of(transaction, run.id, Stream.HISTORY),
        "summary": summary,
        "inherited": summary,
        "event_lines": 0,
        "log_lines": 0,
        "system_metrics": "{}",
    } | recompute_losses(transaction, replace(run, summary=summary))


_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunUpsert(RunFields):
    """A client's changes to a run; None: unchanged."""

    id: int | None = None
    name: str | None = None
    entity: str | None = None
    project: str | None = None
    sweep: str | None = None
    tags: tuple[str, ...] | None = None
    config: str | None = None
    summary: str | None = None


_STATES: Final[Mapping[str, RunEvent]] = {"pending": RunEvent.REQUEUED, "failed": RunEvent.WRITTEN_OFF}
"""States that an owner may set, and their events."""

_UNDER_WAY: Final = (RunState.RUNNING, RunState.PREEMPTING)


@dataclass(frozen=True, slots=True)
class Upserted:
    """The run after the request, and whether the request created it."""

    bucket: Run
    inserted: bool


def describe(app: AppContext, path: RunPath, columns: Mapping[str, Any]) -> None:
    """Set columns of an ended run; a client would overwrite the texts of one that goes on."""
    with app.database.write() as transaction:
        run = _existing(runs.at(transaction, path), path.name)
        if run.state in OPEN:
            raise RefusedError(f"run {run.name} is {run.state}: edit it after its end", status=409)
        runs.change(transaction, run.id, {**columns, **_new_revision(transaction, run)})


def _new_revision(transaction: Transaction, run: Run) -> dict[str, int]:
    """Return the change by which pages notice that an ended run has changed."""
    if run.sweep_id is None:
        return {"sweep_revision": runs.next_revision_outside_sweeps(transaction)}
    return {"sweep_revision": sweeps.next_revision(transaction, run.sweep_id)}


def upsert(app: AppContext, request: RunUpsert, *, opener: str = UNLABELLED) -> Upserted:
    """Start, resume or change a run; RefusedError if what it refers to doesn't exist.

    `opener` is the label of the request's key.
    """
    changes = _changes(request)
    life = {"heard_at": app.clock()}
    with app.database.write() as transaction:
        if request.id is None:
            return _start(app, transaction, request, changes | life, opener)
        run = _existing(runs.find(transaction, request.id), str(request.id))
        if request.name is None:
            return _edit(transaction, run, changes)
        # wandb client: a run's own client sends both; for a resumed run from its first request on.
        own = _opener_changes(transaction, run, opener, life["heard_at"])
        return _continue(transaction, run, own | changes | life)


def request_stop(app: AppContext, run_id: int) -> bool:
    """Ask a run to stop; its agent or its own client learns it with the next heartbeat."""
    with app.database.write() as transaction:
        run = _existing(runs.find(transaction, run_id), str(run_id))
        if run.waiting and run.state is RunState.PENDING:  # no agent has it
            apply_event(transaction, run, RunEvent.OWNER_KILLED)
        runs.change(transaction, run.id, {"stop_requested": True})
    return True


def set_state(app: AppContext, run_id: int, state: str) -> None:
    """Set the state of a run outside sweeps (wandb client: `run.update_state`)."""
    if state not in _STATES:
        raise RefusedError(f"state {state[:40]!r}: one of {', '.join(_STATES)}")
    with app.database.write() as transaction:
        run = _existing(runs.find(transaction, run_id), str(run_id))
        if run.sweep_id is not None:
            raise RefusedError(f"run {run.name} belongs to sweep {run.sweep_id}, which sets its runs' states")
        try:
            apply_event(
                transaction, run, _STATES[state], restart_changes(run) if state == RunState.PENDING else {}
            )
        except IllegalRunMoveError as error:
            raise RefusedError(f"invalid state transition: {error}") from None


def alert(app: AppContext, path: RunPath, title: str, text: str, severity: str) -> None:
    """Log a run's alert; this server sends no mail."""
    with app.database.read() as transaction:
        _existing(runs.at(transaction, path), path.name)
    where = f"{path.entity}/{path.project}/{path.name}"
    # Quoted, so that a run's text can't pose as log lines.
    _log.warning("alert (%s) of run %s: %r: %r", severity, where, title[:200], text[:1000])


def _edit(transaction: Transaction, run: Run, changes: dict[str, Any]) -> Upserted:
    """Change a run that a client names by id alone (wandb.Api): that doesn't count as a sign of life."""
    if run.state not in OPEN:
        changes = changes | _new_revision(transaction, run)
    if run.state in (RunState.PENDING, RunState.CRASHED):
        runs.change(transaction, run.id, changes)
    else:
        apply_event(transaction, run, RunEvent.ACTIVITY, changes)
    return Upserted(_existing(runs.find(transaction, run.id), run.name), inserted=False)


def _continue(transaction: Transaction, run: Run, changes: dict[str, Any]) -> Upserted:
    """Start an existing run, or apply its client's changes."""
    changed = restart_changes(run) | _sweep_changes(transaction, run)
    apply_event(transaction, run, RunEvent.STARTED, changed | changes)
    return Upserted(_existing(runs.find(transaction, run.id), run.name), inserted=False)


def _start(
    app: AppContext, transaction: Transaction, request: RunUpsert, changes: dict[str, Any], opener: str
) -> Upserted:
    name = request.name or app.new_id()
    point = read_branch_point(read_object(changes.get("config", "{}"), "the run's config"))
    found = _issued_run(transaction, request.sweep, name)
    if found is None:
        project = projects.ensure(
            transaction, request.entity or DEFAULT_ENTITY, request.project or DEFAULT_PROJECT, app.clock()
        )
        found = runs.in_project(transaction, project.id, name)
    if found is None:
        return _make(transaction, project, name, changes | {"sweep_id": request.sweep}, point)
    own = _opener_changes(transaction, found, opener, changes["heard_at"])
    # wandb client: it sends the sweep without the run's id only when an attempt begins or is uploaded later.
    if request.sweep is not None and opener != SUPERVISOR:
        own |= _attempt_changes(transaction, found, point)  # a fork's losses come from its copied history
    return _continue(transaction, found, own | changes)


def _make(
    transaction: Transaction,
    project: Project,
    name: str,
    values: dict[str, Any],
    point: BranchPoint | None,
) -> Upserted:
    if runs.is_hidden(transaction, project.id, name):
        raise RefusedError(f"run {name} of project {project.name} belongs to another sweep")
    own = {"project_id": project.id, "name": name, "state": RunState.RUNNING, "display_name": name}
    now = values["heard_at"]
    run_id = runs.create(transaction, own | {"created_at": now, "started_at": now} | values)
    if point is not None:
        made = _existing(runs.find(transaction, run_id), name)
        runs.change(transaction, run_id, fork(transaction, made, point))
    return Upserted(_existing(runs.find(transaction, run_id), name), inserted=True)


def _sweep_changes(transaction: Transaction, run: Run) -> dict[str, Any]:
    """Return the changes to a run that starts after its sweep was cancelled."""
    if run.state is RunState.PENDING and run.sweep_id is not None:
        sweep = sweeps.find(transaction, run.sweep_id)
        if sweep is not None and sweep.state is SweepState.CANCELED:
            return {"stop_requested": True}
    return {}


def _opener_changes(transaction: Transaction, run: Run, opener: str, now: float) -> dict[str, Any]:
    """Return the changes to a run that is opened; if by another worker than before, a new attempt begins.

    A preempted run continues where it was, as in W&B, and so does a run that is resumed without a
    supervisor. A supervisor only uploads the rest of an attempt.

    wandb client: it repeats its first request when the config changes, and at the end.
    """
    if opener == SUPERVISOR and run.started_at is not None:
        return {}
    is_another = opener not in (UNLABELLED, SUPERVISOR, run.opened_by)
    begins = is_another or run.started_at is None or run.state not in _UNDER_WAY
    changes: dict[str, Any] = {"started_at": now} if begins else {}
    if is_another:
        changes["opened_by"] = opener
        if run.state not in (RunState.PREEMPTING, RunState.PREEMPTED):
            changes |= reset_losses(transaction, run)
    return changes


def _attempt_changes(transaction: Transaction, run: Run, point: BranchPoint | None) -> dict[str, Any]:
    """Return the changes to a sweep's run when an attempt begins, which may be a fork."""
    if point is None:
        return {"inherited": None}
    return {} if point.run == run.name else fork(transaction, run, point)


def _issued_run(transaction: Transaction, sweep_id: str | None, name: str) -> Run | None:
    """Return the run that was issued under this name, whatever entity or project the client sends.

    User code may set WANDB_ENTITY between the agent's start and wandb.init().
    """
    if sweep_id is None:
        return None
    if sweeps.find(transaction, sweep_id) is None:
        raise RefusedError(f"sweep {sweep_id} doesn't exist", status=404)
    return runs.in_sweep(transaction, sweep_id, name)


def _changes(request: RunUpsert) -> dict[str, Any]:
    for name in ("config", "summary"):
        if getattr(request, name) is not None:
            read_object(getattr(request, name), f"the run's {name}")
    sent = {name: getattr(request, name) for name in (*CLIENT_FIELDS, "config", "summary")}
    changes = {name: value for name, value in sent.items() if value is not None}
    if request.tags is not None:
        changes["tags"] = json.dumps(list(request.tags))
    return changes


def _existing(run: Run | None, name: str) -> Run:
    if run is None:
        raise RefusedError(f"run {name} doesn't exist", status=404)
    return run
