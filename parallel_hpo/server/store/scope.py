"""Which sweep a transaction may see, where it is not to see all: the finders of `store` ask here.

Runs that belong to no sweep are everybody's. What was found may be followed freely: a run
leads to its own sweep and lines only.
"""

from __future__ import annotations

from typing import Final

from sqlalchemy import ColumnElement, Connection, or_, true

from parallel_hpo.server.store.tables import runs

OPTION: Final = "only_sweep"


def only_sweep(connection: Connection) -> str | None:
    """Return the only sweep that this transaction may see; None: it may see all."""
    sweep_id: str | None = connection.get_execution_options().get(OPTION)
    return sweep_id


def may_see(connection: Connection, sweep_id: str | None) -> bool:
    """Say whether it may see what belongs to this sweep, or to none."""
    own = only_sweep(connection)
    return own is None or sweep_id in (None, own)


def seen(connection: Connection) -> ColumnElement[bool]:
    """Return the condition that the runs meet which it may see."""
    own = only_sweep(connection)
    return true() if own is None else or_(runs.c.sweep_id.is_(None), runs.c.sweep_id == own)
