"""What runs logged, as curves: of many runs for comparison, of one run in full."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from starlette.datastructures import QueryParams

from parallel_hpo.server.pages.curves import Points, reduced
from parallel_hpo.server.pages.run_data import run_at
from parallel_hpo.server.pages.sweep_data import sweep_at
from parallel_hpo.server.refusals import RefusedError
from parallel_hpo.server.services.supervision import SweepAt
from parallel_hpo.server.store import series
from parallel_hpo.server.store.lines import Stream
from parallel_hpo.server.store.runs import RunPath
from parallel_hpo.server.store.series import Wanted
from parallel_hpo.server.world import World

_MOST_RUNS: Final = 200
READ_WHOLE: Final = 200_000
"""More lines than this together are read by strides, which may pass over a spike: so many take 1 s."""
_LEAST_POINTS: Final = 10
_MOST_POINTS: Final = 20_000
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
    def wanted(self) -> Wanted:
        """What is to be read of each line."""
        if self.system:
            return Wanted(Stream.EVENTS, self.name, _SYSTEM_X[self.x])
        return Wanted(Stream.HISTORY, self.name, _X[self.x])


def of_sweep(
    world: World, at: SweepAt, names: list[str], query: CurveQuery, *, read_whole: int = READ_WHOLE
) -> dict[str, Any]:
    """Return a curve of each of a sweep's runs that are named, or of its newest."""
    with world.database.read() as transaction:
        sweep = sweep_at(transaction, at)
        found = series.lengths(transaction, sweep.id, names[:_MOST_RUNS], _MOST_RUNS)
        lengths = [length for _, length in found.values()]
        stride = 1 if sum(lengths) <= read_whole else max(1, max(lengths) // query.points)
        read = series.points(transaction, query.wanted, [key for key, _ in found.values()], stride)
        curves = [
            {"id": name, **_axes(reduced(points, query.points))}
            for name, points in zip(found, read, strict=True)
        ]
    return {"key": query.name, "x": query.x, "runs": curves}


def of_run(world: World, path: RunPath, query: CurveQuery) -> dict[str, Any]:
    """Return one run's curve."""
    with world.database.read() as transaction:
        run = run_at(transaction, path)
        (points,) = series.points(transaction, query.wanted, [run.id])
    return {"key": query.name, "x": query.x, "points": _axes(reduced(points, query.points))}


def _axes(points: Points) -> dict[str, list[float]]:
    return {"x": [x for x, _ in points], "y": [y for _, y in points]}
