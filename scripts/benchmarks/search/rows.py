"""The rows of scripts/bench_search: a problem for all searches, with a goal for ours."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Final

from scripts.benchmarks.search.players import ABLATED, PLAYERS, RIVALS
from scripts.benchmarks.search.problems import PROBLEMS, Problem, seen_loss
from scripts.benchmarks.search.tables import problem_of
from scripts.benchmarks.search.trainings import TRAININGS

Losses = Mapping[str, Sequence[float]]
"""The losses of each search, one for each seed."""

_CHANCE: Final = 0.05
"""A difference that is likelier by chance is noise (Mann and Whitney, both sides)."""


@dataclass(frozen=True)
class Row:
    """A problem and its settings; `noted`: the median of W&B's engine (sweeps 0.3.0), measured once.

    Our search must be as good as the best of `rivals`, or as `goal` if it is set. Losses are those after
    `counts` runs.
    """

    problem: str
    noted: float | None = None
    goal: float | None = None
    rivals: tuple[str, ...] = ("random", "Optuna TPE", "W&B")
    counts: tuple[int, ...] = (60,)
    seeds: int = 20

    def to_reach(self, losses: Losses) -> float:
        """Return the goal of this row, given the losses of the others."""
        if self.goal is not None:
            return self.goal
        noted = {} if self.noted is None else {"W&B": self.noted}
        medians = {name: statistics.median(those) for name, those in losses.items()}
        return min(loss for name, loss in {**noted, **medians}.items() if name in self.rivals)


def is_best(ours: Sequence[float], others: Losses) -> bool:
    """Return whether our losses are the lowest ones, or differ from the lowest by chance."""
    from scipy.stats import mannwhitneyu

    lowest = min(others.values(), key=statistics.median)
    if statistics.median(ours) <= statistics.median(lowest):
        return True
    return bool(mannwhitneyu(ours, lowest).pvalue > _CHANCE)


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
        Row("Ackley 5", counts=(500,), seeds=6),
        Row("mixed", counts=(500,), seeds=6),
        Row("Rosenbrock 10", counts=(300,), seeds=6),
    ),
    "tables": tuple(Row(name, counts=(50, 100)) for name in TRAININGS),
}


def best(player: str, problem: str, seed: int, runs: int, at_once: int) -> list[float]:
    """Return the true loss of the run that looks best after 1, 2, … runs."""
    played = find_problem(problem)
    points = {**PLAYERS, **RIVALS, **ABLATED}[player](played, seed, runs, at_once)
    seen = [(seen_loss(played, point, seed, index), played.loss(point)) for index, point in enumerate(points)]
    return [loss for _, loss in accumulate(seen, _better)]


def find_problem(name: str) -> Problem:
    return PROBLEMS[name] if name in PROBLEMS else problem_of(name)


def _better(first: tuple[float, float], second: tuple[float, float]) -> tuple[float, float]:
    return second if second[0] < first[0] else first
