"""Tables of trainings: the losses of every point of a grid, computed once and kept in a file.

As in HPOBench (Eggensperger et al. 2021), searches choose among the points of the table and nothing stands
between them and the trainings: neither a surrogate nor the nearest point. So the best point is known. Numbers
are ordered levels for each search.

Losses are relative: 0 is the final loss of the table's best point, 1 that of its median point.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any, Final
from zlib import crc32

import numpy as np
from threadpoolctl import threadpool_limits

from scripts.benchmarks.search.problems import Point, Problem, matters
from scripts.benchmarks.search.trainings import TRAININGS, Array, Training

FOLDER: Final = Path(__file__).resolve().parents[3] / ".tables"

Key = tuple[Any, ...]


def make(name: str) -> None:
    """Make a table's file, unless it is there."""
    path = _path(name)
    if path.exists():
        return
    training = TRAININGS[name]
    with warnings.catch_warnings(action="ignore"), threadpool_limits(1):  # some trainings don't converge
        curves = [training.curve(dict(key)) for key in _keys(training)]
    FOLDER.mkdir(exist_ok=True)
    unfinished = path.with_suffix(".part")
    with unfinished.open("wb") as file:
        np.save(file, np.array(curves))
    unfinished.rename(path)


def has_curves(name: str) -> bool:
    """Return whether a table's trainings have more than one iteration."""
    return bool(_table(name)[1].shape[1] > 1)


def curve_of(name: str) -> Callable[[Point], list[float]]:
    """Return the function that looks a point's relative losses up, one for each iteration."""
    training, (rows, curves) = TRAININGS[name], _table(name)
    return lambda point: curves[rows[_key(training, point)]].tolist()


def problem_of(name: str) -> Problem:
    """Return the problem of finding the lowest final loss."""
    training, curve = TRAININGS[name], curve_of(name)
    return Problem(lambda point: curve(point)[-1], dict(training.parameters), only_if=training.only_if)


@cache
def _table(name: str) -> tuple[dict[Key, int], Array]:
    """Return the row of each point, and a row of relative losses for each."""
    curves = np.load(_path(name))
    final = curves[:, -1]
    relative = (curves - final.min()) / (np.median(final) - final.min())
    return {key: row for row, key in enumerate(_keys(TRAININGS[name]))}, relative


def _keys(training: Training) -> list[Key]:
    levels = [spec["values"] for spec in training.parameters.values()]
    grid = (dict(zip(training.parameters, values, strict=True)) for values in product(*levels))
    return list(dict.fromkeys(_key(training, point) for point in grid))


def _key(training: Training, point: Point) -> Key:
    """Return a point's parameters that matter, with their names."""
    return tuple(
        (name, point[name]) for name in training.parameters if matters(name, point, training.only_if)
    )


def _path(name: str) -> Path:
    """Return the file of a table; another one if its parameters change."""
    parameters = repr(TRAININGS[name].parameters).encode()
    return FOLDER / f"{name.replace(', ', '-').replace(' ', '-')}-{crc32(parameters):08x}.npy"
