"""Method bayes: random runs first, then points that a model of the results suggests.

A suggestion depends on seed, index and the trials told. The caller tells each suggestion as pending, so that
simultaneous asks get different points. A point of a finite space is repeated only after all were tried, as in
W&B.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any, Final

from parallel_hpo.config.sweep_types import Goal, ParameterPath, SweepConfiguration
from parallel_hpo.server.search.axes import Observation, axes_of, coordinates_of, size_of
from parallel_hpo.server.search.sampling import draw, stream
from parallel_hpo.server.search.space import Trial, TrialState, identity, look_up, nest, point

RESULTS_NEEDED: Final = 10
"""Minimum number of results for the model; with fewer, random points are as good."""
_RANDOM_TRIES: Final = 4
"""Number of random draws before an already tried one is replaced."""
_RECENT: Final = 100
"""Number of latest running and failed runs that the model gets, which limits the time of an ask."""


class BayesEngine:
    """Model-based optimization of the configuration's metric, without end."""

    size = None

    def __init__(self, configuration: SweepConfiguration, *, seed: int) -> None:
        self._parameters = configuration.parameters
        self._axes = axes_of(configuration.parameters)
        self._size = size_of(self._axes)
        self._sign = -1 if configuration.metric and configuration.metric.goal is Goal.MAXIMIZE else 1
        self._seed = seed
        self._observed: dict[int, Observation] = {}
        self._tried: dict[int, tuple[str, ...]] = {}

    def tell(self, trial: Trial) -> None:
        """Record a trial; one with parameters outside the space is ignored."""
        self._observed.pop(trial.index, None)
        self._tried.pop(trial.index, None)
        try:
            values = {axis.path: look_up(trial.parameters, axis.path) for axis in self._axes}
            coordinates = coordinates_of(self._axes, values)
        except KeyError:
            return
        self._observed[trial.index] = Observation(
            trial.index, coordinates, self._loss(trial), trial.stopped_at
        )
        self._tried[trial.index] = self._point(values)

    def ask(self, index: int) -> dict[str, Any]:
        """Return the parameters of the `index`-th run."""
        tried = set(self._tried.values())
        used_up = self._size is not None and len(tried) >= self._size
        values: dict[ParameterPath, Any] = {}
        for values in self._suggestions(index):
            if used_up or self._point(values) not in tried:
                return nest(values)
        return nest(values if self._size is None else self._untried(index, tried, self._size))

    def index(self, parameters: Mapping[str, Any]) -> None:
        """Return None: no point belongs to one index only."""

    def _loss(self, trial: Trial) -> float | None:
        if trial.state is TrialState.PENDING:
            return None
        if trial.state is TrialState.FAILED or trial.value is None or not math.isfinite(trial.value):
            return math.inf
        return self._sign * trial.value

    def _point(self, values: Mapping[ParameterPath, Any]) -> tuple[str, ...]:
        """Return a key that is the same for equal values, such as 3 and 3.0, or 0.3 and 0.1 * 3."""
        return tuple(identity(axis.canonical(values[axis.path])) for axis in self._axes)

    def _suggestions(self, index: int) -> Iterator[dict[ParameterPath, Any]]:
        """Yield the values to try for the `index`-th run, best first."""
        source = stream(self._seed, index)
        seen = sorted(self._observed.values(), key=lambda seen: seen.index)
        results = [one for one in seen if one.loss is not None and math.isfinite(one.loss)]
        if len(results) >= RESULTS_NEEDED and self._axes:
            from parallel_hpo.server.search import gp  # takes up to 1 s

            others = [one for one in seen if one.loss is None or not math.isfinite(one.loss)]
            values = draw(self._parameters, source)
            seed = source.getrandbits(32)
            suggested = gp.suggestions(self._axes, results, others[-_RECENT:], seed=seed)
            coordinates: tuple[float, ...] | None = None
            for coordinates in suggested:
                yield values | {
                    axis.path: axis.value(at) for axis, at in zip(self._axes, coordinates, strict=True)
                }
            if coordinates is not None:
                return
        yield from (draw(self._parameters, source) for _ in range(_RANDOM_TRIES))

    def _untried(self, index: int, tried: set[tuple[str, ...]], size: int) -> dict[ParameterPath, Any]:
        """Return the first untried point after a random one; there must be one."""
        levels = [axis.reachable for axis in self._axes if axis.reachable is not None]
        start = stream(self._seed, index, use="untried").randrange(size)
        for step in range(len(tried) + 1):
            chosen = point(levels, (start + step) % size)
            values = {axis.path: value for axis, value in zip(self._axes, chosen, strict=True)}
            if self._point(values) not in tried:
                break
        return draw(self._parameters, stream(self._seed, index)) | values
