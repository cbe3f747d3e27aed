"""The lines of a run's streams: history, system events, console output."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

from sqlalchemy import Connection, delete, func, insert, literal, or_, select

from parallel_hpo.server.store.tables import lines


class Stream(IntEnum):
    """Which of a run's streams."""

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
    """Steps from `first` on, up to and without `end`; None: no bound."""

    first: int | None = None
    end: int | None = None


def put(connection: Connection, run_id: int, stream: Stream, batch: list[Line]) -> None:
    """Write lines at their numbers; a line that is there already is replaced, so repeating is harmless."""
    rows = [
        {"run_id": run_id, "stream": int(stream), "number": line.number, "step": line.step, "text": line.text}
        for line in batch
    ]
    if rows:
        connection.execute(_upsert(connection), rows)


def steps_told(connection: Connection, run_id: int, before: int, steps: range) -> frozenset[int]:
    """Return those of the steps that history lines with a number below `before` have."""
    query = select(lines.c.step).where(
        lines.c.run_id == run_id,
        lines.c.stream == int(Stream.HISTORY),
        lines.c.number < before,
        lines.c.step >= steps.start,
        lines.c.step < steps.stop,
    )
    return frozenset(connection.scalars(query))


def copy_history(connection: Connection, source: int, target: int, end: int) -> None:
    """Give a run without history another one's lines whose steps are below `end`, under the same numbers."""
    kept = (
        select(literal(target), lines.c.stream, lines.c.number, lines.c.step, lines.c.text)
        .where(lines.c.run_id == source, lines.c.stream == int(Stream.HISTORY), lines.c.step < end)
        .order_by(lines.c.number)
    )
    connection.execute(insert(lines).from_select(list(lines.c.keys()), kept))


def cut_history(connection: Connection, run_id: int, end: int) -> None:
    """Delete a run's history lines from the step `end` on; one without a step can't be said to be before."""
    cut = or_(lines.c.step >= end, lines.c.step.is_(None))
    connection.execute(
        delete(lines).where(lines.c.run_id == run_id, lines.c.stream == int(Stream.HISTORY), cut)
    )


def clear(connection: Connection, run_id: int, streams: Iterable[Stream] = Stream) -> None:
    """Delete all lines of a run's streams."""
    wanted = lines.c.stream.in_([int(stream) for stream in streams])
    connection.execute(delete(lines).where(lines.c.run_id == run_id, wanted))


def end_of(connection: Connection, run_id: int, stream: Stream) -> int:
    """Return the number that a stream's next line has."""
    query = select(func.max(lines.c.number)).where(lines.c.run_id == run_id, lines.c.stream == int(stream))
    newest: int | None = connection.scalar(query)
    return 0 if newest is None else newest + 1


def _upsert(connection: Connection) -> Any:
    upsert: Any
    if connection.dialect.name == "postgresql":
        from sqlalchemy.dialects.postgresql import insert as upsert  # slow to import, and seldom needed
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
    """Yield a stream's lines in order, for history within a range of steps."""
    query = select(lines.c.text).where(lines.c.run_id == run_id, lines.c.stream == int(stream))
    if steps.first is not None:
        query = query.where(lines.c.step >= steps.first)
    if steps.end is not None:
        query = query.where(lines.c.step < steps.end)
    yield from connection.scalars(query.order_by(lines.c.number))


def spread(connection: Connection, run_id: int, stream: Stream, count: int, total: int) -> Iterable[str]:
    """Return about `count` of a stream's `total` lines, evenly spread, the last one among them."""
    if total <= count:
        return list(texts(connection, run_id, stream))
    wanted = sorted({round(i * (total - 1) / max(count - 1, 1)) for i in range(count)})
    query = select(lines.c.text).where(
        lines.c.run_id == run_id, lines.c.stream == int(stream), lines.c.number.in_(wanted)
    )
    return list(connection.scalars(query.order_by(lines.c.number)))


def part(connection: Connection, run_id: int, stream: Stream, begin: int, most: int) -> list[Line]:
    """Return at most `most` of a stream's lines from number `begin` on."""
    here = (lines.c.run_id == run_id) & (lines.c.stream == int(stream)) & (lines.c.number >= begin)
    query = select(lines.c.number, lines.c.step, lines.c.text).where(here)
    return [Line(*row) for row in connection.execute(query.order_by(lines.c.number).limit(most))]


def last(connection: Connection, run_id: int, stream: Stream) -> str | None:
    """Return a stream's last line, or None."""
    newest = select(func.max(lines.c.number)).where(lines.c.run_id == run_id, lines.c.stream == int(stream))
    query = select(lines.c.text).where(
        lines.c.run_id == run_id, lines.c.stream == int(stream), lines.c.number == newest.scalar_subquery()
    )
    text: str | None = connection.scalar(query)
    return text
