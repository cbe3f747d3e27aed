"""Lines of runs' streams in the order of their numbers, many of them in one text: curves need all of them.

A row of the database takes as long to come to Python as ten lines in a text do, and other threads work
while the database puts lines together.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

from sqlalchemy import Connection, Select, bindparam, func, select

from parallel_hpo.server.store.lines import Stream
from parallel_hpo.server.store.tables import lines, runs

_IN_A_PART: Final = 5000
"""Lines; what reads a part lets no other thread work meanwhile, for some milliseconds."""


@dataclass(frozen=True, slots=True)
class Part:
    """Lines that follow each other: `text` has them with a newline between each two."""

    text: str
    count: int
    last: int
    """The number of the last one."""


def parts(
    connection: Connection, run_id: int, stream: Stream, begin: int = 0, stride: int = 1
) -> Iterator[Part]:
    """Yield a stream's lines from the number `begin` on; above a stride of 1 only those it divides."""
    query = _next(connection.dialect.name)
    asked = {"run": run_id, "stream": int(stream), "stride": stride}
    count = _IN_A_PART
    while count == _IN_A_PART:
        text, count, last = connection.execute(query, {**asked, "begin": begin}).one()
        if count:
            yield Part(text, count, last)
            begin = last + 1


@cache
def _next(dialect: str) -> Select[Any]:
    """Return the question for the next lines; both databases join texts in the order of what they read."""
    here = (lines.c.run_id == bindparam("run")) & (lines.c.stream == bindparam("stream"))
    asked = (lines.c.number >= bindparam("begin")) & (lines.c.number % bindparam("stride") == 0)
    ordered = select(lines.c.number, lines.c.text).where(here, asked).order_by(lines.c.number)
    some = ordered.limit(_IN_A_PART).subquery()
    joined = func.group_concat if dialect == "sqlite" else func.string_agg
    return select(joined(some.c.text, "\n"), func.count(), func.max(some.c.number))


def lengths(
    connection: Connection, sweep_id: str, names: Sequence[str], most: int
) -> dict[str, tuple[int, int]]:
    """Return the keys and history lines of a sweep's runs, by name: those called `names`, or the newest."""
    query = select(runs.c.name, runs.c.id, runs.c.history_lines).where(runs.c.sweep_id == sweep_id)
    query = query.where(runs.c.name.in_(names)) if names else query.where(runs.c.history_lines > 0)
    found = connection.execute(query.order_by(runs.c.id.desc()).limit(most))
    return {name: (key, length) for name, key, length in found}
