"""The rows of scripts/bench_search: a problem for all searches, with a goal for ours."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from scripts.benchmarks.search.players import ABLATED, PLAYERS, RIVALS, seen_loss
from scripts.benchmarks.search.problems import PROBLEMS


@dataclass(frozen=True)
class Row:
    """A problem and its settings; `noted`: the median of W&B's engine (sweeps 0.3.0), measured once.

    Our search must be as good as the best of `rivals`, or as `goal` if it is set.
    """

    problem: str
    noted: float | None = None
    goal: float | None = None
    rivals: tuple[str, ...] = ("random", "Optuna TPE", "W&B")
    runs: int = 60
    seeds: int = 20

    def to_reach(self, losses: Mapping[str, float]) -> float:
        """Return the goal of this row, given the losses of the others."""
        if self.goal is not None:
            return self.goal
        noted = {} if self.noted is None else {"W&B": self.noted}
        return min(loss for name, loss in {**noted, **losses}.items() if name in self.rivals)


_TPE: Final = ("Optuna TPE",)
GROUPS: Final[Mapping[str, tuple[Row, ...]]] = {
    "plain": (
        Row("Branin", goal=0.402),
        Row("Hartmann 6", goal=-3.00),
        Row("Rosenbrock 4", goal=6.1),
        Row("Ackley 5", goal=5.8),
        Row("mixed", goal=0.05),
    ),
    "noise": (
        Row("Branin + N(0, 5)", noted=2.66, rivals=_TPE),
        Row("Hartmann 6 + N(0, 0.3)", noted=-2.75, rivals=_TPE),
        Row("camel + N(0, 1)", rivals=_TPE),
    ),
    "shape": (
        Row("conditional", noted=0.45),
        Row("integers"),
        Row("30 kinds"),
        Row("Hartmann 6 of 20"),
        Row("Ackley 20"),
    ),
    "long": (
        Row("Ackley 5", runs=500, seeds=6),
        Row("mixed", runs=500, seeds=6),
        Row("Rosenbrock 10", runs=300, seeds=6),
    ),
}


def best(player: str, problem: str, seed: int, runs: int, at_once: int) -> float:
    """Return the true loss of the run with the best observed loss."""
    played = PROBLEMS[problem]
    points = list({**PLAYERS, **RIVALS, **ABLATED}[player](played, seed, runs, at_once))
    looks = [seen_loss(played, point, seed, index) for index, point in enumerate(points)]
    return played.loss(points[looks.index(min(looks))])
