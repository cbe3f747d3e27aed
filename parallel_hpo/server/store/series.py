"""Points of runs' streams: one number of each line, picked by the database where it can.

Python takes 3 µs to read a line, SQLite less than one, and lets other threads work meanwhile. A line with a
bare NaN or Infinity is no JSON to it: those words are taken for null there.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, bindparam, case, func, select

from parallel_hpo.metric import lookup
from parallel_hpo.server.store.lines import Stream
from parallel_hpo.server.store.tables import lines, runs

_PLAIN: Final = re.compile(r"[A-Za-z0-9_./: -]+")
"""Keys that a path of SQLite's names safely."""
Points = list[tuple[float, float]]


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which number of each line, and which one it stands over: both are names in the line."""

    stream: Stream
    name: str
    over: str


def points(
    connection: Connection, wanted: Wanted, run_ids: Iterable[int], stride: int = 1
) -> Iterator[Points]:
    """Yield (x, y) of each run's lines in their order; only of every `stride`-th line where it is above 1.

    Lines that lack either, or have no finite number there, are left out.
    """
    here = (lines.c.run_id == bindparam("run")) & (lines.c.stream == int(wanted.stream))
    query = select(*_columns(connection, wanted)).where(here).order_by(lines.c.number)
    if stride > 1:
        query = query.where(lines.c.number % stride == 0)
    for run_id in run_ids:
        rows = connection.execute(query, {"run": run_id}).all()  # at one go: twice as fast as one by one
        yield [(x, y) for x, y in _pairs(rows, wanted) if math.isfinite(x) and math.isfinite(y)]


def lengths(
    connection: Connection, sweep_id: str, names: Sequence[str], most: int
) -> dict[str, tuple[int, int]]:
    """Return the keys and history lines of a sweep's runs, by name: those called `names`, or the newest."""
    query = select(runs.c.name, runs.c.id, runs.c.history_lines).where(runs.c.sweep_id == sweep_id)
    query = query.where(runs.c.name.in_(names)) if names else query.where(runs.c.history_lines > 0)
    found = connection.execute(query.order_by(runs.c.id.desc()).limit(most))
    return {name: (key, length) for name, key, length in found}


def _columns(connection: Connection, wanted: Wanted) -> Iterator[ColumnElement[Any]]:
    if connection.dialect.name == "sqlite" and all(
        _PLAIN.fullmatch(key) for key in (wanted.name, wanted.over)
    ):
        yield _picked(wanted.over)
        yield _picked(wanted.name)
    else:
        yield lines.c.text


def _picked(key: str) -> ColumnElement[Any]:
    text: ColumnElement[str] = lines.c.text
    for word in ("-Infinity", "Infinity", "NaN"):
        text = func.replace(text, word, "null")
    document = case((func.json_valid(lines.c.text) == 1, lines.c.text), else_=text)
    paths = [f'$."{key}"']
    if "." in key:
        paths.append("$." + ".".join(f'"{part}"' for part in key.split(".")))
    return func.coalesce(*(func.json_extract(document, path) for path in paths), None)


def _pairs(rows: Sequence[Sequence[Any]], wanted: Wanted) -> Iterator[tuple[float, float]]:
    for row in rows:
        if len(row) == 1:
            line = json.loads(row[0])
            row = (lookup(line, wanted.over), lookup(line, wanted.name))
        x, y = row
        if isinstance(x, int | float) and isinstance(y, int | float):
            yield float(x), float(y)
