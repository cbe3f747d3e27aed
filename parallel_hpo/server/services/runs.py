"""Runs that go on from an earlier point: rewound (`resume_from` of wandb.init), or forked (`fork_from`).

History is copied, so that a fork outlives its parent; what a rewind cuts off is gone. As in W&B, console
output and system metrics begin anew, and artifacts stay with the run that logged them.

Clients' requests on runs: to start, resume or change one (one operation of W&B's), and to stop one.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from parallel_hpo.core.keys import SUPERVISOR
from parallel_hpo.server.context import DEFAULT_ENTITY, DEFAULT_PROJECT, STRANGER, AppContext
from parallel_hpo.server.rules.runs import (
    METRIC,
    BranchPoint,
    IllegalRunMoveError,
    RunEvent,
    RunState,
    past_of,
    point_in,
    read_step,
)
from parallel_hpo.server.rules.sweeps import SweepState
from parallel_hpo.server.services.early_stopping import begin_course, replay
from parallel_hpo.server.services.run_transitions import happened, started_again
from parallel_hpo.server.store import lines, projects, runs, sweeps
from parallel_hpo.server.store.database import Transaction
from parallel_hpo.server.store.lines import Stream
from parallel_hpo.server.store.records import TOLD, Project, Run, RunFields
from parallel_hpo.server.store.runs import RunPath
from parallel_hpo.server.values import RefusedError, read_object


def rewind(world: AppContext, path: RunPath, metric: str, value: float, *, opener: str = STRANGER) -> Run:
    """Cut a run's history after a step, and let it go on from there; RefusedError says what can't be done.

    `opener` is the label of the key with which that is asked: a supervisor sends what is left of an attempt
    that rewound the run when it began, and more of that may have come than is left.
    """
    if metric != METRIC:
        raise RefusedError(f"runs are rewound by their {METRIC}, not by {metric!r}")
    point = BranchPoint(path.name, read_step(value))
    with world.database.write() as transaction:
        run = runs.at(transaction, path)
        if run is None:
            where = f"{path.entity}/{path.project}/{path.name}"
            raise RefusedError(f"run {where} doesn't exist: resume_from rewinds one that does")
        changes: dict[str, Any] = {"heard_at": world.clock()} | started_again(run)
        if opener != SUPERVISOR:
            lines.cut_history(transaction, run.id, point.end)
            lines.clear(transaction, run.id, (Stream.EVENTS, Stream.CONSOLE))
            changes |= _begun_branch(transaction, run, run, point)
        if opener not in (STRANGER, SUPERVISOR):
            changes["opened_by"] = opener  # so that its first words don't begin its course anew
        happened(transaction, run, RunEvent.STARTED, changes)
        return runs.find(transaction, run.id) or run


def fork(transaction: Transaction, run: Run, point: BranchPoint) -> dict[str, Any]:
    """Give a run the history of another one up to a point, in place of its own; the changes to its row."""
    parent = runs.in_project(transaction, run.project_id, point.run)
    if parent is None:
        raise RefusedError(
            f"run {point.run} of project {run.entity}/{run.project} doesn't exist: fork_from names a run of "
            "the new run's own project"
        )
    lines.clear(transaction, run.id)
    lines.copy_history(transaction, parent.id, run.id, point.end)
    return _begun_branch(transaction, run, parent, point)


def _begun_branch(transaction: Transaction, run: Run, source: Run, point: BranchPoint) -> dict[str, Any]:
    """Return what changes of a run's row when its history is that of `source` up to a point."""
    keys, summary = source.history_keys, source.summary
    if json.loads(keys)["lastStep"] >= point.end:  # else nothing of it is cut off
        past = past_of(map(json.loads, lines.texts(transaction, run.id, Stream.HISTORY)))
        keys, summary = json.dumps(past.history_keys), json.dumps(past.summary)
    return {
        "history_keys": keys,
        "history_lines": lines.end_of(transaction, run.id, Stream.HISTORY),
        "summary": summary,
        "inherited": summary,
        "event_lines": 0,
        "log_lines": 0,
        "system_metrics": "{}",
    } | replay(transaction, replace(run, summary=summary))


_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunUpsert(RunFields):
    """What a client tells of a run; None: left as it is."""

    id: int | None = None
    name: str | None = None
    entity: str | None = None
    project: str | None = None
    sweep: str | None = None
    tags: tuple[str, ...] | None = None
    config: str | None = None
    summary: str | None = None


_STATES: Final[Mapping[str, RunEvent]] = {"pending": RunEvent.REQUEUED, "failed": RunEvent.WRITTEN_OFF}
"""What an owner may say of a run, and what that is."""

_UNDER_WAY: Final = (RunState.RUNNING, RunState.PREEMPTING)


@dataclass(frozen=True, slots=True)
class Upserted:
    """The run as it is now, and whether this request made it."""

    bucket: Run
    inserted: bool


def upsert(world: AppContext, wishes: RunUpsert, *, opener: str = STRANGER) -> Upserted:
    """Start, resume or change a run; RefusedError where what it refers to doesn't exist.

    `opener` is the label of the key with which that is asked.
    """
    changes = _changes(wishes)
    life = {"heard_at": world.clock()}
    with world.database.write() as transaction:
        if wishes.id is None:
            return _start(world, transaction, wishes, changes | life, opener)
        run = _existing(runs.find(transaction, wishes.id), str(wishes.id))
        if wishes.name is None:
            return _edit(transaction, run, changes)
        # wandb client: a run's own client names both; after it has looked up a run to resume, from the start.
        own = _of_its_opener(transaction, run, opener, life["heard_at"])
        return _go_on(transaction, run, own | changes | life)


def request_stop(world: AppContext, run_id: int) -> bool:
    """Ask a run to stop; its agent or its own client hears of it at the next beat."""
    with world.database.write() as transaction:
        run = _existing(runs.find(transaction, run_id), str(run_id))
        if run.waiting and run.state is RunState.PENDING:  # nobody has it who could be told
            happened(transaction, run, RunEvent.OWNER_SAYS_KILLED)
        runs.change(transaction, run.id, {"stop_requested": True})
    return True


def set_state(world: AppContext, run_id: int, wish: str) -> None:
    """Set the state of a run of no sweep as its owner wishes (wandb client: `run.update_state`)."""
    if wish not in _STATES:
        raise RefusedError(f"state {wish[:40]!r}: one of {', '.join(_STATES)}")
    with world.database.write() as transaction:
        run = _existing(runs.find(transaction, run_id), str(run_id))
        if run.sweep_id is not None:
            raise RefusedError(f"run {run.name} is of sweep {run.sweep_id}, which sets its runs' states")
        try:
            happened(transaction, run, _STATES[wish], started_again(run) if wish == RunState.PENDING else {})
        except IllegalRunMoveError as error:
            raise RefusedError(f"invalid state transition: {error}") from None


def alert(world: AppContext, path: RunPath, title: str, text: str, severity: str) -> None:
    """Show an alert of a run where the server logs; there is nobody here to send mail to."""
    with world.database.read() as transaction:
        _existing(runs.at(transaction, path), path.name)
    where = f"{path.entity}/{path.project}/{path.name}"
    # Quoted: what a run says must not look like lines of the log's own.
    _log.warning("alert (%s) of run %s: %r: %r", severity, where, title[:200], text[:1000])


def _edit(transaction: Transaction, run: Run, changes: dict[str, Any]) -> Upserted:
    """Change a run that a client names by its key alone (wandb.Api): that is no sign of its life."""
    if run.state in (RunState.PENDING, RunState.CRASHED):
        runs.change(transaction, run.id, changes)
    else:
        happened(transaction, run, RunEvent.HEARD, changes)
    return Upserted(_existing(runs.find(transaction, run.id), run.name), inserted=False)


def _go_on(transaction: Transaction, run: Run, changes: dict[str, Any]) -> Upserted:
    """Start a run that is there, or hear more of it."""
    again = started_again(run) | _of_its_sweep(transaction, run)
    happened(transaction, run, RunEvent.STARTED, again | changes)
    return Upserted(_existing(runs.find(transaction, run.id), run.name), inserted=False)


def _start(
    world: AppContext, transaction: Transaction, wishes: RunUpsert, changes: dict[str, Any], opener: str
) -> Upserted:
    name = wishes.name or world.new_id()
    point = point_in(read_object(changes.get("config", "{}"), "the run's config"))
    found = _of_the_sweep(transaction, wishes.sweep, name)
    if found is None:
        project = projects.ensure(
            transaction, wishes.entity or DEFAULT_ENTITY, wishes.project or DEFAULT_PROJECT, world.clock()
        )
        found = runs.in_project(transaction, project.id, name)
    if found is None:
        return _make(transaction, project, name, changes | {"sweep_id": wishes.sweep}, point)
    own = _of_its_opener(transaction, found, opener, changes["heard_at"])
    # wandb client: the sweep is told without the run's key only as an attempt begins, or is sent later.
    if wishes.sweep is not None and opener != SUPERVISOR:
        own |= _begun(transaction, found, point)  # a fork's course goes through the history that it gets
    return _go_on(transaction, found, own | changes)


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


def _of_its_sweep(transaction: Transaction, run: Run) -> dict[str, Any]:
    """Return what changes of a run that starts after its sweep was cancelled."""
    if run.state is RunState.PENDING and run.sweep_id is not None:
        sweep = sweeps.find(transaction, run.sweep_id)
        if sweep is not None and sweep.state is SweepState.CANCELED:
            return {"stop_requested": True}
    return {}


def _of_its_opener(transaction: Transaction, run: Run, opener: str, now: float) -> dict[str, Any]:
    """Return what changes of a run that is opened: by another worker than before it is run anew.

    A run that was preempted goes on from where it was, as W&B means it, and so does one that is
    resumed by whoever has no supervisor. A supervisor only sends what is left of an attempt.

    wandb client: what it said at the start it says again when its config changes, and at its end.
    """
    if opener == SUPERVISOR and run.started_at is not None:
        return {}
    is_another = opener not in (STRANGER, SUPERVISOR, run.opened_by)
    begins = is_another or run.started_at is None or run.state not in _UNDER_WAY
    changes: dict[str, Any] = {"started_at": now} if begins else {}
    if is_another:
        changes["opened_by"] = opener
        if run.state not in (RunState.PREEMPTING, RunState.PREEMPTED):
            changes |= begin_course(transaction, run)
    return changes


def _begun(transaction: Transaction, run: Run, point: BranchPoint | None) -> dict[str, Any]:
    """Return what changes of the row of a sweep's run that an attempt begins: it may be a fork."""
    if point is None:
        return {"inherited": None}
    return {} if point.run == run.name else fork(transaction, run, point)


def _of_the_sweep(transaction: Transaction, sweep_id: str | None, name: str) -> Run | None:
    """Return the run that was issued under this name, whatever entity or project the client now names.

    User code may set WANDB_ENTITY between the agent's start and wandb.init().
    """
    if sweep_id is None:
        return None
    if sweeps.find(transaction, sweep_id) is None:
        raise RefusedError(f"sweep {sweep_id} doesn't exist", status=404)
    return runs.in_sweep(transaction, sweep_id, name)


def _changes(wishes: RunUpsert) -> dict[str, Any]:
    for name in ("config", "summary"):
        if getattr(wishes, name) is not None:
            read_object(getattr(wishes, name), f"the run's {name}")
    told = {name: getattr(wishes, name) for name in (*TOLD, "config", "summary")}
    changes = {name: value for name, value in told.items() if value is not None}
    if wishes.tags is not None:
        changes["tags"] = json.dumps(list(wishes.tags))
    return changes


def _existing(run: Run | None, name: str) -> Run:
    if run is None:
        raise RefusedError(f"run {name} doesn't exist", status=404)
    return run
