"""Method bayes: random runs first, then those that Optuna's TPE expects most of.

An answer depends on seed, index and what was told, so processes that know the same
still differ by index. A finite space is not repeated until it is used up; after
that it is, as W&B does. What this suggests is told back as pending by the caller.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Final

from parallel_hpo.config.sweep_words import Goal, Path, SweepConfiguration
from parallel_hpo.search.axes import Observation, axes_of, places_of, size_of
from parallel_hpo.search.sampling import draw, stream
from parallel_hpo.search.space import identity, look_up, nest, point
from parallel_hpo.search.trial import Trial, TrialState

_RANDOM_RUNS: Final = 10
"""So many results are needed before a model of them says more than chance (Optuna's default too)."""
_BEST: Final = 25
"""TPE never takes more than so many results for the best ones."""
_RECENT: Final = 200
"""Of all others the latest so many are shown to TPE, which bounds the time of an ask."""
_TRIES: Final = 4
"""Suggestions that are drawn before one that was tried already is replaced."""


class BayesEngine:
    """Model-based search towards the configuration's metric; never used up."""

    def __init__(self, configuration: SweepConfiguration, *, seed: int) -> None:
        self._parameters = configuration.parameters
        self._axes = axes_of(configuration.parameters)
        self._size = size_of(self._axes)
        self._sign = -1 if configuration.metric and configuration.metric.goal is Goal.MAXIMIZE else 1
        self._seed = seed
        self._observed: dict[int, Observation] = {}
        self._tried: dict[int, tuple[str, ...]] = {}

    def tell(self, trial: Trial) -> None:
        """Take note of a trial; parameters that are none of the space's are left out."""
        self._observed.pop(trial.index, None)
        self._tried.pop(trial.index, None)
        try:
            values = {axis.path: look_up(trial.parameters, axis.path) for axis in self._axes}
            places = places_of(self._axes, values)
        except KeyError:
            return
        self._observed[trial.index] = Observation(trial.index, places, self._loss(trial))
        self._tried[trial.index] = self._point(values)

    def ask(self, index: int) -> dict[str, Any]:
        """Return the parameters of the `index`-th run."""
        tried = set(self._tried.values())
        used_up = self._size is not None and len(tried) >= self._size
        for attempt in range(_TRIES):
            values = self._suggest(index, attempt)
            if used_up or self._point(values) not in tried:
                return nest(values)
        return nest(values if self._size is None else self._untried(index, tried, self._size))

    def _loss(self, trial: Trial) -> float | None:
        if trial.state is not TrialState.FINISHED or trial.value is None or not math.isfinite(trial.value):
            return None
        return self._sign * trial.value

    def _point(self, values: Mapping[Path, Any]) -> tuple[str, ...]:
        """Return what is the same for values that a run can't tell apart, 0.3 and 0.1 * 3 among them."""
        return tuple(identity(axis.value(axis.place(values[axis.path]))) for axis in self._axes)

    def _suggest(self, index: int, attempt: int) -> dict[Path, Any]:
        source = stream(self._seed, index, use=f"try {attempt}")
        values = draw(self._parameters, source)
        if sum(seen.loss is not None for seen in self._observed.values()) < _RANDOM_RUNS:
            return values
        from parallel_hpo.search import tpe  # here, for optuna takes a quarter of a second to import

        places = tpe.suggest(self._axes, self._shown(), seed=source.getrandbits(32))
        return values | {axis.path: axis.value(place) for axis, place in zip(self._axes, places, strict=True)}

    def _shown(self) -> list[Observation]:
        """Return the best results and the latest others, in the order of the runs."""
        by_loss = sorted(
            self._observed.values(),
            key=lambda seen: (math.inf if seen.loss is None else seen.loss, seen.index),
        )
        others = sorted(by_loss[_BEST:], key=lambda seen: seen.index)
        return sorted(by_loss[:_BEST] + others[-_RECENT:], key=lambda seen: seen.index)

    def _untried(self, index: int, tried: set[tuple[str, ...]], size: int) -> dict[Path, Any]:
        """Return the first untried point from a random one on; there is one."""
        levels = [axis.reachable for axis in self._axes if axis.reachable is not None]
        start = stream(self._seed, index, use="untried").randrange(size)
        for step in range(len(tried) + 1):
            chosen = point(levels, (start + step) % size)
            values = {axis.path: value for axis, value in zip(self._axes, chosen, strict=True)}
            if self._point(values) not in tried:
                break
        return draw(self._parameters, stream(self._seed, index)) | values
