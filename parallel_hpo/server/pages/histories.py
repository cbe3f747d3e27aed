"""Curves of logged metrics as JSON: of many runs in one chart, or of a single run in full."""

from __future__ import annotations

import json
from array import array
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from starlette.datastructures import QueryParams

from parallel_hpo.server.context import AppContext
from parallel_hpo.server.pages.answers import dump, object_of
from parallel_hpo.server.pages.metric_series import Curve, MetricSeriesCache, SeriesKey, reduced
from parallel_hpo.server.pages.run_data import drawable, run_at
from parallel_hpo.server.pages.sweep_data import sweep_at
from parallel_hpo.server.services.supervision import SweepAt
from parallel_hpo.server.store import lines
from parallel_hpo.server.store.lines import Stream
from parallel_hpo.server.store.runs import RunPath
from parallel_hpo.server.values import RefusedError

MOST_RUNS: Final = 200
READ_MAX_EXACT: Final = 200_000
"""Maximum lines that are all read (0.4 s); of more, every n-th line is read, which may miss a spike."""
_MIN_POINTS: Final = 10
_MAX_POINTS: Final = 20_000
_MAX_POINTS_IN_ALL: Final = 60_000
_MIN_OF_MANY: Final = 200
_MAX_OF_MANY: Final = 2000
"""Limits of what a sweep's page requests, as in `static/charts/history_cache.js`."""
_MAX_EXACT: Final = 2.0**53
_X: Final = {"step": "_step", "time": "_runtime"}
"""Keys of the x axes; time is in seconds since the run's start, by its own clock."""
_OWN: Final = "key."
"""Prefix of a logged key that is the x axis."""
_SYSTEM_X: Final = {"step": "_runtime", "time": "_runtime"}


@dataclass(frozen=True, slots=True)
class CurveQuery:
    """The requested curve."""

    name: str
    x: str
    points: int
    system: bool = False

    @classmethod
    def read(cls, query: QueryParams, points: int) -> CurveQuery:
        """Parse a URL's query, with `points` as the default; RefusedError (400) if it is invalid."""
        key, x, number = query.get("key", ""), query.get("x", "step"), query.get("points", str(points))
        over = _X.get(x, x.removeprefix(_OWN) if x.startswith(_OWN) else "")
        if not key or not over or not (number.isascii() and number.isdigit() and len(number) < 7):
            raise RefusedError(
                'key is required, x must be "step", "time" or "key.NAME", points must be a number', status=400
            )
        most = min(max(int(number), _MIN_POINTS), _MAX_POINTS)
        return cls(key, x, most, query.get("system") == "1")

    @property
    def wanted(self) -> SeriesKey:
        """The series to read."""
        if self.system:
            return SeriesKey(Stream.EVENTS, self.name, _SYSTEM_X[self.x])
        return SeriesKey(Stream.HISTORY, self.name, _X.get(self.x, self.x.removeprefix(_OWN)))

    def drawn(self, curve: Curve) -> Curve:
        """Return the points to draw, with rising x."""
        points = reduced(curve, self.points)
        if self.x in _X:
            return points
        pairs = sorted(zip(points.x, points.y, strict=True), key=lambda pair: pair[0])
        return Curve(array("d", [x for x, _ in pairs]), array("d", [y for _, y in pairs]))


class Histories:
    """Curves as JSON; thread-safe."""

    def __init__(
        self,
        *,
        read_whole: int = READ_MAX_EXACT,
        repeated: Callable[[AppContext, SweepAt], Collection[str]] = lambda _world, _at: (),
    ) -> None:
        """Read the curves of runs; `repeated` returns the names of runs that had several attempts."""
        self._read_whole = read_whole
        self._repeated = repeated
        self._series = MetricSeriesCache()

    def close(self) -> None:
        """Make current reads end soon, with the points found so far."""
        self._series.close()

    def of_sweep(self, world: AppContext, at: SweepAt, names: list[str], query: CurveQuery) -> bytes:
        """Return a curve of each named run of a sweep, or of its newest runs, as JSON.

        `since` of a run with several attempts: where on the x axis the last one begins.
        """
        curves = self.curves(world, at, names, query)
        since = self._since(world, at, curves, query)
        told = (
            object_of({"id": dump(name)} | _axes(curve, since.get(name))) for name, curve in curves.items()
        )
        runs = b"[" + b",".join(told) + b"]"
        return object_of({"key": dump(query.name), "x": dump(query.x), "runs": runs})

    def curves(self, world: AppContext, at: SweepAt, names: list[str], query: CurveQuery) -> dict[str, Curve]:
        """Return the curves of at most MOST_RUNS runs, by the runs' names."""
        with world.database.read() as transaction:
            sweep = sweep_at(transaction, at)
            found = lines.lengths(transaction, sweep.id, names[:MOST_RUNS], MOST_RUNS)
            read = self._series.read(
                transaction, self._strides(dict(found.values()), query.points), query.wanted
            )
        return {name: query.drawn(curve) for name, curve in zip(found, read, strict=True)}

    def of_run(self, world: AppContext, path: RunPath, query: CurveQuery) -> bytes:
        """Return one run's curve, as JSON."""
        with world.database.read() as transaction:
            run = run_at(transaction, path)
            (curve,) = self._series.read(transaction, {run.id: 1}, query.wanted)
        since = None
        if run.sweep_id is not None:
            at = SweepAt(path.entity, path.project, run.sweep_id)
            since = self._since(world, at, [run.name], query).get(run.name)
        points = object_of(_axes(query.drawn(curve), since))
        return object_of({"key": dump(query.name), "x": dump(query.x), "points": points})

    def _since(
        self, world: AppContext, at: SweepAt, names: Iterable[str], query: CurveQuery
    ) -> dict[str, float | None]:
        """Return where on the x axis the last attempt of repeated runs begins."""
        if query.x not in _X or query.system:
            return {}
        wanted = sorted({*names} & {*self._repeated(world, at)})
        if not wanted:
            return {}
        with world.database.read() as transaction:
            found = lines.lengths(transaction, at.sweep, wanted, MOST_RUNS)
            begins = {name: lines.attempt_begins(transaction, key) for name, (key, _) in found.items()}
        return {name: json.loads(text).get(_X[query.x]) for name, text in begins.items() if text}

    def expect_sweep(self, world: AppContext, at: SweepAt, name: str) -> None:
        """Read ahead what a sweep's page requests first."""
        with world.database.read() as transaction:
            found = lines.lengths(transaction, at.sweep, [], MOST_RUNS)
            points = min(max(_MAX_POINTS_IN_ALL // max(len(found), 1), _MIN_OF_MANY), _MAX_OF_MANY)
            wanted = CurveQuery(name, "step", points).wanted
            self._series.read(transaction, self._strides(dict(found.values()), points), wanted)

    def expect_run(self, world: AppContext, path: RunPath) -> None:
        """Read ahead what a run's page requests first."""
        with world.database.read() as transaction:
            run = run_at(transaction, path)
            for name in drawable(run.history_keys)[:1]:
                wanted = CurveQuery(name, "step", _MAX_OF_MANY).wanted
                self._series.read(transaction, {run.id: 1}, wanted)

    def _strides(self, lengths: Mapping[int, int], points: int) -> dict[int, int]:
        """Return the stride of each run's lines; it rarely changes while the run grows."""
        if sum(lengths.values()) <= self._read_whole:
            return dict.fromkeys(lengths, 1)
        return {key: _round(-(-length // points)) for key, length in lengths.items()}


def _round(stride: int) -> int:
    """Round up to one of four values per power of two."""
    unit = 1 << max(0, stride.bit_length() - 3)
    return max(1, -(-stride // unit) * unit)


def _axes(curve: Curve, since: float | None) -> dict[str, bytes]:
    last_attempt = {} if since is None else {"since": dump(since)}
    return {"x": _numbers(curve.x), "y": _numbers(curve.y)} | last_attempt


def _numbers(values: array[float]) -> bytes:
    """Encode numbers as JSON: integers exactly, others with the nine digits that a picture can show."""
    if all(map(float.is_integer, values)) and max(map(abs, values), default=0) < _MAX_EXACT:
        return dump([*map(int, values)])
    return ("[" + ",".join(map("%.9g".__mod__, values)) + "]").encode()
