"""The compared searches: our engines, bayes without one of its parts, and Optuna's default sampler.

All work the same way: they are asked for a batch of points, which are all pending until the last one is told.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from functools import partial
from typing import Any, Final
from unittest.mock import patch

from parallel_hpo.config.sweep import parse_sweep_configuration
from parallel_hpo.server.search.engine import Engine, Trial, TrialState, make_engine
from scripts.benchmarks.search.problems import Point, Problem, is_ordered, matters, seen_loss
from scripts.benchmarks.search.smac import play_smac

Player = Callable[[Problem, int, int, int], Iterator[Point]]
"""Yields the points for a problem, a seed, a number of runs and a batch size."""


def engine(method: str, problem: Problem, seed: int) -> Engine:
    configuration = {"method": method, "metric": {"name": "loss"}, "parameters": problem.parameters}
    return make_engine(parse_sweep_configuration(configuration, where="sweep"), seed=seed)


def play(method: str, problem: Problem, seed: int, runs: int, at_once: int) -> Iterator[Point]:
    """Yield the points of one of our engines."""
    yield from played(engine(method, problem, seed), problem, seed, runs, at_once)


def played(search: Engine, problem: Problem, seed: int, runs: int, at_once: int) -> Iterator[Point]:
    for first in range(0, runs, at_once):
        batch: dict[int, dict[str, Any]] = {}
        for index in range(first, min(first + at_once, runs)):
            batch[index] = search.ask(index) or {}
            search.tell(Trial(index, batch[index], TrialState.PENDING))
        for index, point in batch.items():
            yield point
            loss = seen_loss(problem, point, seed, index)
            search.tell(Trial(index, point, TrialState.FINISHED, loss))


_SEARCH: Final = "parallel_hpo.server.search"
WITHOUT: Final[Mapping[str, Mapping[str, Any]]] = {
    "parts": {"gp._parted": lambda *_: iter(())},
    "logarithms": {"axes.LevelAxis.span": None, "axes.IntervalAxis.span": None},
    "power": {"gp._YeoJohnson.likeliest": lambda _: 1.0},
    "pending": {"gp._with_others": lambda _others, surface, _columns: surface},
    "noise": {"gp.NOISY": math.inf, "gaussian.NOISY": math.inf},
    "one length": {"gaussian._PREFERENCE": -math.inf},
    "region": {"gp.narrow_axes": lambda axes, *_: axes},
}
"""The parts of bayes that can be switched off, and what then stands in their places."""


def play_without(part: str, problem: Problem, seed: int, runs: int, at_once: int) -> Iterator[Point]:
    """Yield the points of bayes without one of its parts."""
    from parallel_hpo.server.search.gp import _surface

    with ExitStack() as patched:
        _surface.cache_clear()  # surfaces of the whole bayes; and in the end, those of this one
        patched.callback(_surface.cache_clear)
        for place, other in WITHOUT[part].items():
            patched.enter_context(patch(f"{_SEARCH}.{place}", other))
        yield from list(play("bayes", problem, seed, runs, at_once))


def play_optuna(
    problem: Problem, seed: int, runs: int, at_once: int, *, sampler: str = "TPESampler"
) -> Iterator[Point]:
    """Yield the points of one of Optuna's samplers, asked only for parameters that matter in a run."""
    searched = study(sampler, seed)
    for first in range(0, runs, at_once):
        trials = [searched.ask() for _ in range(min(at_once, runs - first))]
        points = [suggested(trial, problem) for trial in trials]
        for trial, point in zip(trials, points, strict=True):
            yield point
            searched.tell(trial, seen_loss(problem, point, seed, trial.number))


def study(sampler: str, seed: int, *, pruner: Any = None) -> Any:
    """Return a study of Optuna's."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    with warnings.catch_warnings(action="ignore"):  # the GPSampler is experimental
        return optuna.create_study(sampler=getattr(optuna.samplers, sampler)(seed=seed), pruner=pruner)


def suggested(trial: Any, problem: Problem) -> dict[str, Any]:
    point: dict[str, Any] = {}
    for name, spec in problem.parameters.items():
        if matters(name, point, problem.only_if):
            point[name] = suggest(trial, name, spec)
    return point


def suggest(trial: Any, name: str, spec: Mapping[str, Any]) -> Any:
    if "values" in spec:
        values = spec["values"]
        if not is_ordered(values):
            return trial.suggest_categorical(name, values)
        return values[trial.suggest_int(name, 0, len(values) - 1)]
    if isinstance(spec["min"], int):
        return trial.suggest_int(name, spec["min"], spec["max"], log="distribution" in spec)
    return trial.suggest_float(name, spec["min"], spec["max"], log="distribution" in spec)


PLAYERS: Final[Mapping[str, Player]] = {
    "random": lambda *game: play("random", *game),
    "Optuna TPE": play_optuna,
    "bayes": lambda *game: play("bayes", *game),
}
RIVALS: Final[Mapping[str, Player]] = {
    "Optuna GP": partial(play_optuna, sampler="GPSampler"),
    "Optuna CMA": partial(play_optuna, sampler="CmaEsSampler"),
    "SMAC3": play_smac,
}
"""Searches that need more libraries (torch, cmaes, smac)."""
ABLATED: Final[Mapping[str, Player]] = {f"no {part}": partial(play_without, part) for part in WITHOUT}
