"""The lines of a run's streams (history, system events, console), one by one or joined by the database.

Charts need all lines: ten joined ones take Python as long as one row, and other threads run while the
database joins them.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum
from functools import cache
from typing import Any, Final

from sqlalchemy import Connection, Select, bindparam, delete, func, insert, literal, or_, select

from parallel_hpo.server.store.tables import lines, runs

_IN_A_PART: Final = 5000
"""Lines per part; reading one blocks other threads for some milliseconds."""


class Stream(IntEnum):
    """A run's streams."""

    HISTORY = 0
    EVENTS = 1
    CONSOLE = 2


@dataclass(frozen=True, slots=True)
class Line:
    """One line; `step` is a history line's `_step`."""

    number: int
    step: int | None
    text: str


@dataclass(frozen=True, slots=True)
class StepRange:
    """Steps from `first` to `end` (excluded); None: no bound."""

    first: int | None = None
    end: int | None = None


def put(connection: Connection, run_id: int, stream: Stream, batch: list[Line]) -> None:
    """Insert or replace lines at their numbers, so repetition is harmless."""
    rows = [
        {"run_id": run_id, "stream": int(stream), "number": line.number, "step": line.step, "text": line.text}
        for line in batch
    ]
    if rows:
        connection.execute(_upsert(connection), rows)


def known_steps(connection: Connection, run_id: int, before: int, steps: range) -> frozenset[int]:
    """Return those of the steps that have a history line with a number below `before`."""
    query = select(lines.c.step).where(
        lines.c.run_id == run_id,
        lines.c.stream == int(Stream.HISTORY),
        lines.c.number < before,
        lines.c.step >= steps.start,
        lines.c.step < steps.stop,
    )
    return frozenset(connection.scalars(query))


def copy_history(connection: Connection, source: int, target: int, end: int) -> None:
    """Copy a run's history below the step `end` to a run without history, under the same numbers."""
    kept = (
        select(literal(target), lines.c.stream, lines.c.number, lines.c.step, lines.c.text)
        .where(lines.c.run_id == source, lines.c.stream == int(Stream.HISTORY), lines.c.step < end)
        .order_by(lines.c.number)
    )
    connection.execute(insert(lines).from_select(list(lines.c.keys()), kept))


def cut_history(connection: Connection, run_id: int, end: int) -> None:
    """Delete a run's history lines from the step `end` on, and those without a step."""
    cut = or_(lines.c.step >= end, lines.c.step.is_(None))
    connection.execute(
        delete(lines).where(lines.c.run_id == run_id, lines.c.stream == int(Stream.HISTORY), cut)
    )


def clear(connection: Connection, run_id: int, streams: Iterable[Stream] = Stream) -> None:
    """Delete all lines of a run's streams."""
    wanted = lines.c.stream.in_([int(stream) for stream in streams])
    connection.execute(delete(lines).where(lines.c.run_id == run_id, wanted))


def end_of(connection: Connection, run_id: int, stream: Stream) -> int:
    """Return the number of a stream's next line."""
    query = select(func.max(lines.c.number)).where(lines.c.run_id == run_id, lines.c.stream == int(stream))
    newest: int | None = connection.scalar(query)
    return 0 if newest is None else newest + 1


def _upsert(connection: Connection) -> Any:
    upsert: Any
    if connection.dialect.name == "postgresql":
        from sqlalchemy.dialects.postgresql import insert as upsert  # slow to import, seldom needed
    else:
        from sqlalchemy.dialects.sqlite import insert as upsert
    statement = upsert(lines)
    return statement.on_conflict_do_update(
        index_elements=[lines.c.run_id, lines.c.stream, lines.c.number],
        set_={"step": statement.excluded.step, "text": statement.excluded.text},
    )


def texts(
    connection: Connection, run_id: int, stream: Stream, steps: StepRange = StepRange()
) -> Iterator[str]:
    """Yield a stream's lines in order, within a range of steps for history."""
    query = select(lines.c.text).where(lines.c.run_id == run_id, lines.c.stream == int(stream))
    if steps.first is not None:
        query = query.where(lines.c.step >= steps.first)
    if steps.end is not None:
        query = query.where(lines.c.step < steps.end)
    yield from connection.scalars(query.order_by(lines.c.number))


def spread(connection: Connection, run_id: int, stream: Stream, count: int, total: int) -> Iterable[str]:
    """Return about `count` of a stream's `total` lines, evenly spread, including the last one."""
    if total <= count:
        return list(texts(connection, run_id, stream))
    wanted = sorted({round(i * (total - 1) / max(count - 1, 1)) for i in range(count)})
    query = select(lines.c.text).where(
        lines.c.run_id == run_id, lines.c.stream == int(stream), lines.c.number.in_(wanted)
    )
    return list(connection.scalars(query.order_by(lines.c.number)))


def part(connection: Connection, run_id: int, stream: Stream, begin: int, most: int) -> list[Line]:
    """Return at most `most` of a stream's lines from number `begin`."""
    here = (lines.c.run_id == run_id) & (lines.c.stream == int(stream)) & (lines.c.number >= begin)
    query = select(lines.c.number, lines.c.step, lines.c.text).where(here)
    return [Line(*row) for row in connection.execute(query.order_by(lines.c.number).limit(most))]


def last_with(
    connection: Connection, run_id: int, stream: Stream, word: str, *, begin: int, most: int
) -> list[Line]:
    """Return the last lines from number `begin` that contain a word, at most `most`, in their order."""
    here = (lines.c.run_id == run_id) & (lines.c.stream == int(stream)) & (lines.c.number >= begin)
    query = select(lines.c.number, lines.c.step, lines.c.text).where(
        here, lines.c.text.contains(word, autoescape=True)
    )
    rows = connection.execute(query.order_by(lines.c.number.desc()).limit(most)).all()
    return [Line(*row) for row in reversed(rows)]


def last(connection: Connection, run_id: int, stream: Stream) -> str | None:
    """Return a stream's last line, or None."""
    newest = select(func.max(lines.c.number)).where(lines.c.run_id == run_id, lines.c.stream == int(stream))
    query = select(lines.c.text).where(
        lines.c.run_id == run_id, lines.c.stream == int(stream), lines.c.number == newest.scalar_subquery()
    )
    text: str | None = connection.scalar(query)
    return text


def attempt_begins(connection: Connection, run_id: int) -> str | None:
    """Return the first history line of a run's last attempt; None if it has none.

    The lines are in the order of their times, so a few of them are read.
    """
    started: float | None = connection.scalar(select(runs.c.started_at).where(runs.c.id == run_id))
    low, high = 0, end_of(connection, run_id, Stream.HISTORY)
    found = None
    while low < high and started is not None:
        middle = (low + high) // 2
        (line,) = part(connection, run_id, Stream.HISTORY, middle, 1)
        logged = json.loads(line.text).get("_timestamp")
        if isinstance(logged, int | float) and logged < started:
            low = line.number + 1
        else:
            high, found = middle, line.text
    return found


@dataclass(frozen=True, slots=True)
class Part:
    """Consecutive lines, joined by newlines in `text`."""

    text: str
    count: int
    last: int
    """The number of the last line."""


def series(
    connection: Connection, run_id: int, stream: Stream, begin: int = 0, stride: int = 1
) -> Iterator[Part]:
    """Yield a stream's lines from number `begin`, in parts; with a stride, only its multiples."""
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
    """Return the query of the next part; both databases join texts in the order of the subquery."""
    here = (lines.c.run_id == bindparam("run")) & (lines.c.stream == bindparam("stream"))
    asked = (lines.c.number >= bindparam("begin")) & (lines.c.number % bindparam("stride") == 0)
    ordered = select(lines.c.number, lines.c.text).where(here, asked).order_by(lines.c.number)
    some = ordered.limit(_IN_A_PART).subquery()
    joined = func.group_concat if dialect == "sqlite" else func.string_agg
    return select(joined(some.c.text, "\n"), func.count(), func.max(some.c.number))


def lengths(
    connection: Connection, sweep_id: str, names: Sequence[str], most: int
) -> dict[str, tuple[int, int]]:
    """Return the ids and history lengths of a sweep's runs by name: those in `names`, or the newest."""
    query = select(runs.c.name, runs.c.id, runs.c.history_lines).where(runs.c.sweep_id == sweep_id)
    query = query.where(runs.c.name.in_(names)) if names else query.where(runs.c.history_lines > 0)
    found = connection.execute(query.order_by(runs.c.id.desc()).limit(most))
    return {name: (key, length) for name, key, length in found}
