"""What pages ask again and again: a sweep's runs, cut down to what is shown, and those that may have changed.

A run that is open may change at any moment; another one's change has a revision, or shows in the number
of runs. No question reads more than the runs that it returns.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Connection, case, func, select

from parallel_hpo.server.rules.runs import OPEN
from parallel_hpo.server.store.tables import agents, count, runs, seen

_OPEN = [str(state) for state in OPEN]


@dataclass(frozen=True, slots=True)
class TableRun:
    """A run as a table shows it; times in seconds since the epoch."""

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
    """JSON: what it was assigned; of a run that nobody assigned anything, its config."""
    summary: str | None
    """JSON, of a run that is open: its value is not known yet."""
    stop_requested: bool
    sweep_id: str | None


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
    """Whose runs: a sweep's, or all of a project's."""

    project_id: int
    sweep_id: str | None = None

    @property
    def theirs(self) -> ColumnElement[bool]:
        """The condition that they meet."""
        if self.sweep_id is not None:
            return runs.c.sweep_id == self.sweep_id
        return runs.c.project_id == self.project_id


def all_of(connection: Connection, which: RunScope) -> Iterator[TableRun]:
    """Yield all of them in the order in which they were made."""
    return _those(connection, which.theirs & seen(connection))


def maybe_changed(
    connection: Connection, which: RunScope, revision: int, newest: int, known_open: Iterable[int]
) -> Iterator[TableRun]:
    """Yield those that are open, were so when it was asked last, are new, or have changed since a revision.

    Revisions are a sweep's own; of a project's runs one that is over stays as it is.
    """
    here = which.theirs & seen(connection)
    is_open = here & runs.c.state.in_(_OPEN)
    changed = runs.c.id > newest if which.sweep_id is None else runs.c.sweep_revision > revision
    # Each by its own index.
    found = [connection.scalars(select(runs.c.id).where(here, each)) for each in (is_open, changed)]
    return _those(connection, runs.c.id.in_({*known_open, *(key for keys in found for key in keys)}))


def number_of(connection: Connection, which: RunScope) -> int:
    """Count them."""
    return count(connection, runs, which.theirs & seen(connection))


def history_keys(connection: Connection, which: RunScope, number: int) -> list[str]:
    """Return what the first and the last of them know of their keys, as JSON."""
    query = select(runs.c.history_keys).where(which.theirs & seen(connection))
    first = connection.scalars(query.order_by(runs.c.id).limit(number)).all()
    last = connection.scalars(query.order_by(runs.c.id.desc()).limit(number)).all()
    return [*first, *last]


def _those(connection: Connection, condition: ColumnElement[bool]) -> Iterator[TableRun]:
    join = runs.outerjoin(agents, runs.c.agent_id == agents.c.id)
    query = select(*_COLUMNS).select_from(join).where(condition).order_by(runs.c.id)
    for row in connection.execute(query):
        yield TableRun(*row)
