"""What runs logged, as curves: of many runs for comparison, of one run in full."""

from __future__ import annotations

from array import array
from collections.abc import Mapping
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
READ_WHOLE: Final = 200_000
"""More lines than this together are read by strides, which may pass over a spike: so many take 0.4 s."""
_LEAST_POINTS: Final = 10
_MOST_POINTS: Final = 20_000
_POINTS_IN_ALL: Final = 60_000
_LEAST_OF_MANY: Final = 200
_MOST_OF_MANY: Final = 2000
"""What a sweep's page asks for: `static/charts/history_cache.js`."""
_WHOLE: Final = 2.0**53
_X: Final = {"step": "_step", "time": "_runtime"}
"""Time: seconds since the run's start, by its own clock."""
_SYSTEM_X: Final = {"step": "_runtime", "time": "_runtime"}


@dataclass(frozen=True, slots=True)
class CurveQuery:
    """Which curve is asked for."""

    name: str
    x: str
    points: int
    system: bool = False

    @classmethod
    def read(cls, query: QueryParams, points: int) -> CurveQuery:
        """Read an address's query; `points` where it says nothing of them; RefusedError (400): it is none."""
        key, x, number = query.get("key", ""), query.get("x", "step"), query.get("points", str(points))
        if not key or x not in _X or not (number.isascii() and number.isdigit() and len(number) < 7):
            raise RefusedError('key is needed, x is "step" or "time", points a number', status=400)
        most = min(max(int(number), _LEAST_POINTS), _MOST_POINTS)
        return cls(key, x, most, query.get("system") == "1")

    @property
    def wanted(self) -> SeriesKey:
        """What is to be read of each line."""
        if self.system:
            return SeriesKey(Stream.EVENTS, self.name, _SYSTEM_X[self.x])
        return SeriesKey(Stream.HISTORY, self.name, _X[self.x])


class Histories:
    """Curves as JSON; any thread may ask."""

    def __init__(self, *, read_whole: int = READ_WHOLE) -> None:
        self._read_whole = read_whole
        self._courses = MetricSeriesCache()

    def close(self) -> None:
        """Have what is being read end soon, with whatever was found."""
        self._courses.close()

    def of_sweep(self, world: AppContext, at: SweepAt, names: list[str], query: CurveQuery) -> bytes:
        """Return a curve of each of a sweep's runs that are named, or of its newest."""
        curves = (
            object_of({"id": dump(name)} | _axes(curve))
            for name, curve in self.curves(world, at, names, query).items()
        )
        runs = b"[" + b",".join(curves) + b"]"
        return object_of({"key": dump(query.name), "x": dump(query.x), "runs": runs})

    def curves(self, world: AppContext, at: SweepAt, names: list[str], query: CurveQuery) -> dict[str, Curve]:
        """Return the same as curves, by the runs' names; of MOST_RUNS of them at most."""
        with world.database.read() as transaction:
            sweep = sweep_at(transaction, at)
            found = lines.lengths(transaction, sweep.id, names[:MOST_RUNS], MOST_RUNS)
            read = self._courses.read(
                transaction, self._strides(dict(found.values()), query.points), query.wanted
            )
        return {name: reduced(curve, query.points) for name, curve in zip(found, read, strict=True)}

    def of_run(self, world: AppContext, path: RunPath, query: CurveQuery) -> bytes:
        """Return one run's curve."""
        with world.database.read() as transaction:
            run = run_at(transaction, path)
            (curve,) = self._courses.read(transaction, {run.id: 1}, query.wanted)
        points = object_of(_axes(reduced(curve, query.points)))
        return object_of({"key": dump(query.name), "x": dump(query.x), "points": points})

    def expect_sweep(self, world: AppContext, at: SweepAt, name: str) -> None:
        """Read what a sweep's page is going to ask for first."""
        with world.database.read() as transaction:
            found = lines.lengths(transaction, at.sweep, [], MOST_RUNS)
            points = min(max(_POINTS_IN_ALL // max(len(found), 1), _LEAST_OF_MANY), _MOST_OF_MANY)
            wanted = CurveQuery(name, "step", points).wanted
            self._courses.read(transaction, self._strides(dict(found.values()), points), wanted)

    def expect_run(self, world: AppContext, path: RunPath) -> None:
        """Read what a run's page is going to ask for first."""
        with world.database.read() as transaction:
            run = run_at(transaction, path)
            for name in drawable(run.history_keys)[:1]:
                wanted = CurveQuery(name, "step", _MOST_OF_MANY).wanted
                self._courses.read(transaction, {run.id: 1}, wanted)

    def _strides(self, lengths: Mapping[int, int], points: int) -> dict[int, int]:
        """Return the stride by which each run's lines are read: one that stays for long as the run grows."""
        if sum(lengths.values()) <= self._read_whole:
            return dict.fromkeys(lengths, 1)
        return {key: _round(-(-length // points)) for key, length in lengths.items()}


def _round(stride: int) -> int:
    """Return the next greater number of which there are four for each power of two."""
    unit = 1 << max(0, stride.bit_length() - 3)
    return max(1, -(-stride // unit) * unit)


def _axes(curve: Curve) -> dict[str, bytes]:
    return {"x": _numbers(curve.x), "y": _numbers(curve.y)}


def _numbers(values: array[float]) -> bytes:
    """Put numbers into JSON: whole ones as they are, others with as many digits as any picture can show."""
    if all(map(float.is_integer, values)) and max(map(abs, values), default=0) < _WHOLE:
        return dump([*map(int, values)])
    return ("[" + ",".join(map("%.9g".__mod__, values)) + "]").encode()
