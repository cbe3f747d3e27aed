"""Runs with learning curves under Hyperband's `early_terminate`: the use of runs that were stopped early.

A run's loss falls from 5 towards its final value, more slowly for a lower learning rate, so curves cross.
Several runs advance together, one iteration at a time, and the server's own rule stops them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from parallel_hpo.config.checks import HyperbandSettings
from parallel_hpo.server.rules.early_stopping import Hyperband, LossHistory, advance
from parallel_hpo.server.search.engine import Engine, Trial, TrialState
from scripts.benchmarks.search.players import engine
from scripts.benchmarks.search.problems import PROBLEMS, Point

ITERATIONS: Final = 27
RULE: Final = Hyperband.of(HyperbandSettings(min_iter=3, eta=3))
START: Final = 5.0

TEACHERS: Final[Mapping[str, Callable[[Trial], Trial]]] = {
    "as failed": lambda trial: replace(trial, state=TrialState.FAILED, value=None, stopped_at=None),
    "as ended": lambda trial: replace(trial, stopped_at=None),
    "how far": lambda trial: trial,
}
"""The ways to tell an engine about a run that was stopped early."""


def game(told: str, seed: int, runs: int = 60, at_once: int = 4) -> tuple[float, int]:
    """Return the lowest final loss, and the iterations of all runs."""
    ended = list(play(told, seed, runs, at_once))
    return min(loss for loss, _ in ended), sum(iterations for _, iterations in ended)


def loss_at(point: Point, iteration: int) -> float:
    """Return the loss of `mixed` after some iterations; a low rate converges more slowly."""
    pace = 0.08 * (point["lr"] / 1e-4) ** 0.35
    final = PROBLEMS["mixed"].loss(point)
    return final + (START - final) * math.exp(-pace * iteration)


@dataclass
class Running:
    """A running run."""

    index: int
    point: Point
    history: LossHistory = field(default_factory=LossHistory)
    losses: list[float] = field(default_factory=list)


def play(told: str, seed: int, runs: int, at_once: int) -> Iterator[tuple[float, int]]:
    """Yield each run's last loss and iterations as runs end; each ended run is replaced at once."""
    search = engine("bayes", PROBLEMS["mixed"], seed)
    bands: dict[int, dict[int, float]] = {band: {} for band in RULE.bands}
    going: list[Running] = []
    asked = 0
    while going or asked < runs:
        while len(going) < at_once and asked < runs:
            going.append(_begun(search, asked))
            asked += 1
        for run in tuple(going):
            stopped = _step(run, RULE, bands)
            if stopped or len(run.losses) == ITERATIONS:
                going.remove(run)
                trial = Trial(run.index, run.point, TrialState.FINISHED, run.losses[-1])
                search.tell(TEACHERS[told](replace(trial, stopped_at=len(run.losses))) if stopped else trial)
                yield run.losses[-1], len(run.losses)


def _begun(search: Engine, index: int) -> Running:
    point = search.ask(index) or {}
    search.tell(Trial(index, point, TrialState.PENDING))
    return Running(index, point)


def _step(run: Running, rule: Hyperband, bands: dict[int, dict[int, float]]) -> bool:
    """Advance a run by one iteration; return whether it must stop."""
    run.losses.append(loss_at(run.point, len(run.losses) + 1))
    result = advance(run.history, run.losses[-1:], rule)
    run.history = result.history
    for at in result.reached:
        bands[at.band][run.index] = at.loss
    return any(rule.must_stop(at, list(bands[at.band].values())) for at in result.reached)
