"""Runs with learning curves: what ending bad ones early brings, and how a search is told about them.

Several runs advance together, one iteration at a time. The server's Hyperband stops them, Optuna's, or none.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final, Protocol

from parallel_hpo.config.checks import HyperbandSettings
from parallel_hpo.server.rules.early_stopping import Hyperband, LossHistory, advance
from parallel_hpo.server.search.engine import Trial, TrialState
from scripts.benchmarks.search.players import engine, study, suggested
from scripts.benchmarks.search.problems import PROBLEMS, Point, Problem
from scripts.benchmarks.search.tables import curve_of, problem_of
from scripts.benchmarks.search.trainings import ITERATIONS

RULE: Final = Hyperband.of(HyperbandSettings(min_iter=3, eta=3))
START: Final = 5.0

Curve = Callable[[Point], list[float]]

TEACHERS: Final[Mapping[str, Callable[[Trial], Trial]]] = {
    "as failed": lambda trial: replace(trial, state=TrialState.FAILED, value=None, stopped_at=None),
    "as ended": lambda trial: replace(trial, stopped_at=None),
    "how far": lambda trial: trial,
}
"""The ways to tell an engine about a run that was stopped early."""


def game(told: str, seed: int, runs: int = 60, at_once: int = 4) -> tuple[float, int]:
    """Return the lowest final loss, and the iterations of all runs."""
    ended = list(play(OurTuner("bayes", PROBLEMS["mixed"], seed, told=told), falling, at_once, runs=runs))
    return min(loss for loss, _ in ended), max(spent for _, spent in ended)


def falling(point: Point) -> list[float]:
    """Return losses that fall from 5 to that of `mixed`; more slowly for a lower rate, so curves cross."""
    pace = 0.08 * (point["lr"] / 1e-4) ** 0.35
    final = PROBLEMS["mixed"].loss(point)
    return [final + (START - final) * math.exp(-pace * each) for each in range(1, ITERATIONS + 1)]


@dataclass
class Running:
    """A running run."""

    index: int
    point: Point
    losses: list[float] = field(default_factory=list)
    history: LossHistory = field(default_factory=LossHistory)


class Tuner(Protocol):
    """Suggests points, and stops runs."""

    def begin(self, index: int) -> Point:
        """Return the point of a new run."""

    def must_stop(self, run: Running) -> bool:
        """Return whether a run stops after its latest loss."""

    def end(self, run: Running, *, stopped: bool) -> None:
        """Learn of an ended run."""


class OurTuner:
    """One of our engines, with the server's Hyperband unless `told` is None."""

    def __init__(self, method: str, problem: Problem, seed: int, *, told: str | None = "how far") -> None:
        self._search = engine(method, problem, seed)
        self._told = told
        self._bands: dict[int, dict[int, float]] = {band: {} for band in RULE.bands}

    def begin(self, index: int) -> Point:
        point = self._search.ask(index) or {}
        self._search.tell(Trial(index, point, TrialState.PENDING))
        return point

    def must_stop(self, run: Running) -> bool:
        result = advance(run.history, run.losses[-1:], RULE)
        run.history = result.history
        for at in result.reached:
            self._bands[at.band][run.index] = at.loss
        stopped = [RULE.must_stop(at, list(self._bands[at.band].values())) for at in result.reached]
        return self._told is not None and any(stopped)

    def end(self, run: Running, *, stopped: bool) -> None:
        trial = Trial(run.index, run.point, TrialState.FINISHED, run.losses[-1])
        if stopped and self._told is not None:
            trial = TEACHERS[self._told](replace(trial, stopped_at=len(run.losses)))
        self._search.tell(trial)


class OptunaTuner:
    """Optuna's TPE, with its Hyperband or without."""

    def __init__(self, problem: Problem, seed: int, *, stops: bool) -> None:
        from optuna.pruners import HyperbandPruner, NopPruner

        pruner = HyperbandPruner(min_resource=3, max_resource=ITERATIONS) if stops else NopPruner()
        self._study = study("TPESampler", seed, pruner=pruner)
        self._problem = problem
        self._trials: dict[int, Any] = {}

    def begin(self, index: int) -> Point:
        self._trials[index] = self._study.ask()
        return suggested(self._trials[index], self._problem)

    def must_stop(self, run: Running) -> bool:
        trial = self._trials[run.index]
        trial.report(run.losses[-1], len(run.losses))
        return bool(trial.should_prune())

    def end(self, run: Running, *, stopped: bool) -> None:
        from optuna.trial import TrialState as State

        trial = self._trials.pop(run.index)
        if stopped:
            self._study.tell(trial, state=State.PRUNED)
        else:
            self._study.tell(trial, run.losses[-1])


def play(
    tuner: Tuner, curve: Curve, at_once: int, *, runs: float = math.inf, iterations: float = math.inf
) -> Iterator[tuple[float, int]]:
    """Yield, as runs end, each one's last loss and the iterations spent by all until then.

    Each ended run is replaced at once, until enough runs have begun or enough iterations are spent.
    """
    going: list[tuple[Running, list[float]]] = []
    asked = spent = 0
    while spent < iterations and (going or asked < runs):
        while len(going) < at_once and asked < runs:
            point = tuner.begin(asked)
            going.append((Running(asked, point), curve(point)))
            asked += 1
        for run, losses in tuple(going):
            spent += 1
            run.losses.append(losses[len(run.losses)])
            ends = len(run.losses) == len(losses)
            stopped = tuner.must_stop(run) and not ends
            if stopped or ends:
                going.remove((run, losses))
                tuner.end(run, stopped=stopped)
                yield run.losses[-1], spent


TUNERS: Final[Mapping[str, Callable[[Problem, int], Tuner]]] = {
    "random": lambda problem, seed: OurTuner("random", problem, seed, told=None),
    "+ Hyperband": lambda problem, seed: OurTuner("random", problem, seed),
    "Optuna TPE": lambda problem, seed: OptunaTuner(problem, seed, stops=False),
    "+ its Hyperband": lambda problem, seed: OptunaTuner(problem, seed, stops=True),
    "bayes": lambda problem, seed: OurTuner("bayes", problem, seed, told=None),
    "bayes + Hyperband": lambda problem, seed: OurTuner("bayes", problem, seed),
}
"""Searches of tables, without and with an end of bad runs."""


def table_game(tuner: str, table: str, seed: int, iterations: int, goal: float) -> tuple[float, float]:
    """Return the lowest last loss, and the iterations spent until one reached the goal."""
    playing = TUNERS[tuner](problem_of(table), seed)
    ended = list(play(playing, curve_of(table), 4, iterations=iterations))
    reached = (spent for loss, spent in ended if loss <= goal)
    return min(loss for loss, _ in ended), next(reached, math.inf)
