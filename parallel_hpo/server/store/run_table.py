"""Runs for the pages' tables: the shown columns only, and only runs that may have changed since.

An open run may change at any moment. A change of another one has a revision, or shows in the number of
runs. Each sweep numbers its revisions; the runs without a sweep share one numbering. No query reads more than
the runs that it returns, and the revisions of sweeps.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from sqlalchemy import ColumnElement, Connection, case, func, null, select

from parallel_hpo.core.values import counting, find_value, lookup
from parallel_hpo.server.rules.runs import OPEN
from parallel_hpo.server.store.tables import agents, count, runs, seen, sweeps

_OPEN = [str(state) for state in OPEN]


@dataclass(frozen=True, slots=True)
class TableRun:
    """A row of a table of runs; times in seconds since the epoch."""

    id: int
    name: str
    display_name: str | None
    state: str
    revision: int
    value: float | None
    created_at: float
    started_at: float | None
    heard_at: float
    opened_by: str | None
    agent_label: str | None
    host: str | None
    given: str
    """JSON: its assigned parameters; its config if it has none."""
    summary: str | None
    """JSON; only of an open run, which has no value yet."""
    stop_requested: bool
    sweep_id: str | None
    logged: Mapping[str, Any] = field(default_factory=dict)
    """The wanted texts and numbers of its summary."""


_COLUMNS: Sequence[ColumnElement[Any]] = (
    runs.c.id,
    runs.c.name,
    runs.c.display_name,
    runs.c.state,
    runs.c.sweep_revision,
    runs.c.value,
    runs.c.created_at,
    runs.c.started_at,
    runs.c.heard_at,
    runs.c.opened_by,
    agents.c.label,
    func.coalesce(agents.c.host, runs.c.host),
    func.coalesce(runs.c.assigned, runs.c.config),
    case((runs.c.state.in_(_OPEN), runs.c.summary)),
    runs.c.stop_requested,
    runs.c.sweep_id,
)


@dataclass(frozen=True, slots=True)
class RunScope:
    """The runs of a sweep, or of a project."""

    project_id: int
    sweep_id: str | None = None
    compared: tuple[str, str] | None = None
    """Name and goal of the value of their summaries by which runs are compared; None: the sweep's metric."""
    logged: tuple[str, ...] = ()
    """Names of values of their summaries to read."""

    @property
    def theirs(self) -> ColumnElement[bool]:
        """The SQL condition of these runs."""
        if self.sweep_id is not None:
            return runs.c.sweep_id == self.sweep_id
        return runs.c.project_id == self.project_id


def all_of(connection: Connection, which: RunScope) -> Iterator[TableRun]:
    """Yield all runs, oldest first."""
    return _those(connection, which, which.theirs & seen(connection))


def maybe_changed(
    connection: Connection,
    which: RunScope,
    known: Mapping[str | None, int],
    newest: int,
    known_open: Iterable[int],
) -> Iterator[TableRun]:
    """Yield the runs that are open, were open at the last call, are new, or have changed since.

    `known` is the newest revision read of each sweep, and of the runs without one.
    """
    here = which.theirs & seen(connection)
    conditions = [runs.c.state.in_(_OPEN), *_changed(connection, which, known)]
    if which.sweep_id is None:
        conditions.append(runs.c.id > newest)
    # One query each, so that each uses an index.
    found = [connection.scalars(select(runs.c.id).where(here, each)) for each in conditions]
    return _those(connection, which, runs.c.id.in_({*known_open, *(key for keys in found for key in keys)}))


def _changed(
    connection: Connection, which: RunScope, known: Mapping[str | None, int]
) -> Iterator[ColumnElement[bool]]:
    """Yield a condition for the changed runs of each sweep that has a newer revision, and of no sweep."""
    theirs = sweeps.c.project_id == which.project_id
    if which.sweep_id is None:
        yield runs.c.sweep_id.is_(None) & (runs.c.sweep_revision > known.get(None, 0))
    else:
        theirs = sweeps.c.id == which.sweep_id
    for sweep, revision in connection.execute(select(sweeps.c.id, sweeps.c.revision).where(theirs)):
        if revision > known.get(sweep, 0):
            yield (runs.c.sweep_id == sweep) & (runs.c.sweep_revision > known.get(sweep, 0))


def number_of(connection: Connection, which: RunScope) -> int:
    """Count the runs."""
    return count(connection, runs, which.theirs & seen(connection))


def logged_names(connection: Connection, which: RunScope, number: int) -> list[tuple[str, str]]:
    """Return the history keys and the summary of the first and the last `number` runs, as JSON."""
    query = select(runs.c.history_keys, runs.c.summary).where(which.theirs & seen(connection)).limit(number)
    orders = (runs.c.id, runs.c.id.desc())
    return [
        (keys, summary) for order in orders for keys, summary in connection.execute(query.order_by(order))
    ]


def _those(connection: Connection, which: RunScope, condition: ColumnElement[bool]) -> Iterator[TableRun]:
    join = runs.outerjoin(agents, runs.c.agent_id == agents.c.id)
    query = select(*_COLUMNS, runs.c.summary if which.compared or which.logged else null())
    for *row, text in connection.execute(query.select_from(join).where(condition).order_by(runs.c.id)):
        run = TableRun(*row)
        summary = {} if text is None else json.loads(text)
        if which.compared is not None:
            run = replace(run, value=find_value(summary, *which.compared), summary=None)
        yield replace(run, logged=_logged(summary, which)) if which.logged else run


def _logged(summary: Mapping[str, Any], which: RunScope) -> dict[str, Any]:
    goal = "minimize" if which.compared is None else which.compared[1]
    found = {name: shown_value(lookup(summary, name), goal) for name in which.logged}
    return {name: value for name, value in found.items() if value is not None}


def shown_value(value: Any, goal: str) -> str | float | None:
    """Return the text or number that tables show of a summary's entry, or None."""
    found = counting(value, goal)
    return found if isinstance(found, str | int | float) else None
