"""What a report holds of a sweep, in the form in which pages get it; read from a server's database."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from parallel_hpo.server.pages import timeline as timelines
from parallel_hpo.server.pages.curves import Curve
from parallel_hpo.server.pages.histories import MOST_RUNS, CurveQuery, Histories
from parallel_hpo.server.pages.sweep_data import Sweeps
from parallel_hpo.server.services.supervision import SweepAt
from parallel_hpo.server.store import sweeps
from parallel_hpo.server.world import World

_POINTS_IN_ALL: Final = 250_000
"""So many points of histories are 1 to 1.7 MB, packed."""
_MOST_KEYS: Final = 12
_LEAST_POINTS: Final = 20
_MOST_POINTS: Final = 1000
_AXES: Final = ("step", "time")
_DIGITS: Final = 5


@dataclass(frozen=True, slots=True)
class Contents:
    """A sweep, as pages get it."""

    sweep: dict[str, Any]
    histories: list[dict[str, Any]]
    timeline: dict[str, Any]
    note: str = ""
    """What is not in it, and why; '' where all is."""


def read(world: World, sweep_id: str) -> Contents | None:
    """Return what the database has of a sweep now; None: it has no such sweep."""
    with world.database.read() as transaction:
        found = sweeps.find(transaction, sweep_id)
    if found is None:
        return None
    at = SweepAt(found.entity, found.project, found.id)
    sweep = json.loads(Sweeps(fresh_s=0).sweep_json(world, at, ""))
    return Contents(sweep, list(_histories(world, at, sweep)), timelines.timeline(world, at))


def _histories(world: World, at: SweepAt, sweep: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield curves of each key over each axis, with as many points as there is room for."""
    names = best_first(sweep)[:MOST_RUNS]
    metric = (sweep["sweep"]["metric"] or {}).get("name")
    keys = sorted(sweep["keys"], key=lambda key: key != metric)[:_MOST_KEYS]
    points = _points_of(len(names) * len(keys) * len(_AXES))
    curves = Histories()
    for key in keys:
        for axis in _AXES:
            yield _rounded(json.loads(curves.of_sweep(world, at, names, CurveQuery(key, axis, points))))


def courses(world: World, sweep_id: str, names: list[str], key: str) -> dict[str, Curve]:
    """Return what runs of a sweep have logged under a key, over their steps, by the runs' names.

    Each with as many points as there is room for. A run without any is left out.
    """
    with world.database.read() as transaction:
        found = sweeps.find(transaction, sweep_id)
    if found is None:
        return {}
    at = SweepAt(found.entity, found.project, found.id)
    histories, query = Histories(), CurveQuery(key, "step", _points_of(len(names)))
    read: dict[str, Curve] = {}
    for place in range(0, len(names), MOST_RUNS):
        read |= histories.curves(world, at, names[place : place + MOST_RUNS], query)
    return {name: curve for name, curve in read.items() if len(curve.x)}


def _points_of(curves: int) -> int:
    """Return how many points each of so many curves has room for."""
    return max(_LEAST_POINTS, min(_MOST_POINTS, _POINTS_IN_ALL // max(1, curves)))


def best_first(sweep: dict[str, Any]) -> list[str]:
    """Return the ids of a sweep's runs, the best one first, those without a value last."""
    sign = -1.0 if (sweep["sweep"]["metric"] or {}).get("goal") == "maximize" else 1.0
    ids, values = sweep["runs"]["id"], sweep["runs"]["value"]
    places = [float("inf") if value is None else sign * value for value in values]
    return [name for _, name in sorted(zip(places, ids, strict=True))]


def _rounded(answer: dict[str, Any]) -> dict[str, Any]:
    """Return curves with as many digits as a picture can show."""
    return answer | {
        "runs": [
            {
                name: values if name == "id" else [_short(value) for value in values]
                for name, values in run.items()
            }
            for run in answer["runs"]
        ]
    }


def _short(value: float | int) -> float | int:
    if isinstance(value, int):
        return value
    rounded = float(f"{value:.{_DIGITS}g}")
    return int(rounded) if rounded.is_integer() else rounded
