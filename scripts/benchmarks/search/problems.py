"""The problems on which searches are compared: losses over spaces in the form of W&B's configurations.

Docstrings give the minimum if it is known. `noise` is added to the loss that a search observes; the result is
the true loss of the run that looked best.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from random import Random
from typing import Any, Final

from parallel_hpo.server.search.space import is_number

Point = Mapping[str, Any]
Conditions = Mapping[str, tuple[str, tuple[Any, ...]]]
"""The parameters that matter only for some values of another one: its name and these values."""

HARTMANN_WEIGHTS: Final = (1.0, 1.2, 3.0, 3.2)
HARTMANN_SCALES: Final = (
    (10, 3, 17, 3.5, 1.7, 8),
    (0.05, 10, 17, 0.1, 8, 14),
    (3, 3.5, 1.7, 10, 17, 8),
    (17, 8, 0.05, 10, 0.1, 14),
)
HARTMANN_CENTRES: Final = (
    (0.1312, 0.1696, 0.5569, 0.0124, 0.8283, 0.5886),
    (0.2329, 0.4135, 0.8307, 0.3736, 0.1004, 0.9991),
    (0.2348, 0.1451, 0.3522, 0.2883, 0.3047, 0.6650),
    (0.4047, 0.8828, 0.8732, 0.5743, 0.1091, 0.0381),
)
KINDS: Final = tuple(f"kind{number:02}" for number in range(30))
KIND_LOSSES: Final = {kind: rank / 10 for rank, kind in enumerate(Random(30).sample(KINDS, 30))}


@dataclass(frozen=True)
class Problem:
    """A loss over a space, where some parameters may matter only under conditions."""

    loss: Callable[[Point], float]
    parameters: dict[str, Any]
    noise: float = 0.0
    only_if: Conditions = field(default_factory=dict)


def matters(name: str, point: Point, only_if: Conditions) -> bool:
    """Return whether a parameter matters at a point."""
    other, values = only_if.get(name, (None, ()))
    return other is None or point[other] in values


def is_ordered(values: Sequence[Any]) -> bool:
    """Return whether values are levels of a number, in order."""
    return all(is_number(value) for value in values) and list(values) == sorted(values)


def seen_loss(problem: Problem, point: Point, seed: int, index: int) -> float:
    """Return the observed loss, with the same noise for the `index`-th run of each search."""
    return problem.loss(point) + problem.noise * Random(f"{seed}/{index}").gauss(0, 1)


def branin(point: Point) -> float:
    """Minimum: 0.398, at three points."""
    x, y = point.values()
    valley = y - 5.1 / (4 * math.pi**2) * x**2 + 5 / math.pi * x - 6
    return float(valley**2 + 10 * (1 - 1 / (8 * math.pi)) * math.cos(x) + 10)


def camel(point: Point) -> float:
    """Six humps; minimum: -1.032, at two points."""
    x, y = point.values()
    return float((4 - 2.1 * x**2 + x**4 / 3) * x**2 + x * y + (4 * y**2 - 4) * y**2)


def hartmann(point: Point) -> float:
    """Minimum: -3.322; only the first six parameters matter."""

    def bump(scales: tuple[float, ...], centre: tuple[float, ...]) -> float:
        first_six = list(point.values())[:6]
        return math.exp(-sum(a * (x - c) ** 2 for a, x, c in zip(scales, first_six, centre, strict=True)))

    bumps = map(bump, HARTMANN_SCALES, HARTMANN_CENTRES)
    return -sum(weight * height for weight, height in zip(HARTMANN_WEIGHTS, bumps, strict=True))


def rosenbrock(point: Point) -> float:
    x = list(point.values())
    return float(sum(100 * (b - a**2) ** 2 + (1 - a) ** 2 for a, b in pairwise(x)))


def ackley(point: Point) -> float:
    x = list(point.values())
    size = math.sqrt(statistics.fmean(value**2 for value in x))
    waves = statistics.fmean(math.cos(2 * math.pi * value) for value in x)
    return -20 * math.exp(-0.2 * size) - math.exp(waves) + 20 + math.e


def mixed(point: Point) -> float:
    """A plausible training loss: 0 at lr 0.001, 5 layers, with norm, adam, dropout 0.3."""
    loss = math.log10(point["lr"] / 0.001) ** 2 / 2 + abs(point["layers"] - 5) / 5
    loss += 0.0 if point["norm"] else 0.6
    loss += {"sgd": 0.6, "adam": 0.0, "rmsprop": 0.4, "lion": 1.0}[point["optimizer"]]
    return float(loss + 4 * (point["dropout"] - 0.3) ** 2)


def conditional(point: Point) -> float:
    """Each model has its own parameters, and ignores the others'; minimum: 0 for the net."""
    match point["model"]:
        case "net":
            lr, width = math.log10(point["lr"] / 0.003), math.log2(point["width"] / 128)
            return float(lr**2 / 2 + (width - lr) ** 2 / 20 + 4 * (point["dropout"] - 0.2) ** 2)
        case "trees":
            return float(0.3 + (point["depth"] - 9) ** 2 / 30 + math.log10(point["eta"] / 0.1) ** 2)
        case _:
            return 0.5 + math.log10(point["C"] / 10) ** 2 / 4


def integers(point: Point) -> float:
    """Minimum: 0 at 300 units, 5000 trees, a batch of 64; integers over orders of magnitude."""
    units, trees = math.log10(point["units"] / 300), math.log10(point["trees"] / 5000)
    return units**2 + (trees - units / 2) ** 2 + math.log10(point["batch"] / 64) ** 2


def kinds(point: Point) -> float:
    """Minimum: 0 for the best of 30 kinds at its best rate and depth."""
    rate = math.log10(point["lr"] / 0.01)
    return float(KIND_LOSSES[point["kind"]] + rate**2 / 2 + (point["depth"] - 0.7) ** 2 * 4)


def cube(dimensions: int, low: float, high: float) -> dict[str, Any]:
    return {f"x{number:02}": {"min": float(low), "max": float(high)} for number in range(dimensions)}


def log_range(low: float, high: float) -> dict[str, Any]:
    return {"distribution": "log_uniform_values", "min": low, "max": high}


def log_integers(low: int, high: int) -> dict[str, Any]:
    return {"distribution": "q_log_uniform_values", "min": low, "max": high, "q": 1}


PLANE: Final = {"x": {"min": -5.0, "max": 10.0}, "y": {"min": 0.0, "max": 15.0}}
HUMPS: Final = {"x": {"min": -3.0, "max": 3.0}, "y": {"min": -2.0, "max": 2.0}}
TRAINING: Final[dict[str, Any]] = {
    "lr": log_range(1e-5, 1e-1),
    "layers": {"min": 1, "max": 8},
    "norm": {"values": [False, True]},
    "optimizer": {"values": ["sgd", "adam", "rmsprop", "lion"]},
    "dropout": {"min": 0.0, "max": 0.8},
}
MODELS: Final[dict[str, Any]] = {
    "model": {"values": ["net", "trees", "svm"]},
    "lr": log_range(1e-5, 1.0),
    "width": log_integers(8, 2048),
    "dropout": {"min": 0.0, "max": 0.9},
    "depth": {"min": 1, "max": 20},
    "eta": log_range(1e-3, 1.0),
    "C": log_range(1e-3, 1e3),
}
OF_MODELS: Final[Conditions] = {
    **dict.fromkeys(("lr", "width", "dropout"), ("model", ("net",))),
    **dict.fromkeys(("depth", "eta"), ("model", ("trees",))),
    "C": ("model", ("svm",)),
}
SIZES: Final[dict[str, Any]] = {
    "units": log_integers(1, 100_000),
    "trees": log_integers(1, 100_000),
    "batch": {"min": 1, "max": 10_000},
}
MANY: Final[dict[str, Any]] = {
    "kind": {"values": list(KINDS)},
    "lr": log_range(1e-5, 1.0),
    "depth": {"min": 0.0, "max": 1.0},
}

PROBLEMS: Final = {
    "Branin": Problem(branin, PLANE),
    "Hartmann 6": Problem(hartmann, cube(6, 0, 1)),
    "Rosenbrock 4": Problem(rosenbrock, cube(4, -2, 2)),
    "Ackley 5": Problem(ackley, cube(5, -10, 20)),
    "mixed": Problem(mixed, TRAINING),
    "Branin + N(0, 5)": Problem(branin, PLANE, noise=5.0),
    "Hartmann 6 + N(0, 0.3)": Problem(hartmann, cube(6, 0, 1), noise=0.3),
    "camel + N(0, 1)": Problem(camel, HUMPS, noise=1.0),
    "conditional": Problem(conditional, MODELS, only_if=OF_MODELS),
    "integers": Problem(integers, SIZES),
    "30 kinds": Problem(kinds, MANY),
    "Hartmann 6 of 20": Problem(hartmann, cube(20, 0, 1)),
    "Rosenbrock 10": Problem(rosenbrock, cube(10, -2, 2)),
    "Ackley 20": Problem(ackley, cube(20, -10, 20)),
}
