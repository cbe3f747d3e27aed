"""Runs that go on from an earlier point: rewound (`resume_from` of wandb.init), or forked (`fork_from`).

History is copied, so that a fork outlives its parent; what a rewind cuts off is gone. As in W&B, console
output and system metrics begin anew, and artifacts stay with the run that logged them.
"""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

from parallel_hpo.keys import SUPERVISOR
from parallel_hpo.server.refusals import RefusedError
from parallel_hpo.server.rules.branching import METRIC, BranchPoint, past_of, read_step
from parallel_hpo.server.rules.run_states import RunEvent
from parallel_hpo.server.services.early_stopping import replay
from parallel_hpo.server.services.moves import happened, started_again
from parallel_hpo.server.store import lines, runs
from parallel_hpo.server.store.database import Transaction
from parallel_hpo.server.store.lines import Stream
from parallel_hpo.server.store.records import Run
from parallel_hpo.server.store.runs import RunPath
from parallel_hpo.server.world import STRANGER, World


def rewind(world: World, path: RunPath, metric: str, value: float, *, opener: str = STRANGER) -> Run:
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
            changes |= _begun(transaction, run, run, point)
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
    return _begun(transaction, run, parent, point)


def _begun(transaction: Transaction, run: Run, source: Run, point: BranchPoint) -> dict[str, Any]:
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
