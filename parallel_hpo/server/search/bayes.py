"""Method bayes: random runs first, then points that a model of the results suggests.

The model is a Gaussian process, and TPE once there are too many results for it. A suggestion depends on seed,
index and the trials told. The caller tells each suggestion as pending, so that simultaneous asks get
different points. A point of a finite space is repeated only after all were tried, as in W&B.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, Protocol

from parallel_hpo.config.sweep_types import Goal, ParameterPath, SweepConfiguration
from parallel_hpo.server.search.axes import Axis, Observation, axes_of, coordinates_of, size_of
from parallel_hpo.server.search.sampling import draw, stream
from parallel_hpo.server.search.space import Trial, TrialState, identity, look_up, nest, point

_RANDOM_TRIES: Final = 4
"""Number of random draws before an already tried one is replaced."""
_MAX_EFFORT: Final = 100_000
"""Maximum results² × columns for a Gaussian process, fitted within 0.1 s: 100 results for 10 columns."""
_CHEAP_COLUMNS: Final = 10
"""Number of columns below which a fit gets hardly faster, because other parts of it dominate."""
_MAX_BEST: Final = 25
"""Maximum number of results in TPE's set of best ones."""
_RECENT: Final = 200
"""Number of latest other results that a model gets, which limits the time of an ask."""


class Model(Protocol):
    """Suggests the next points from the results; a lower loss is better."""

    @property
    def results_needed(self) -> int:
        """Minimum number of results; with fewer, random points are as good."""

    def suggestions(
        self,
        axes: Sequence[Axis],
        results: Sequence[Observation],
        others: Sequence[Observation],
        *,
        seed: int,
    ) -> Iterator[tuple[float, ...]]:
        """Yield the coordinates of points to try, best first; `others` are running or failed."""


class OwnModel:
    """A Gaussian process for few results, then TPE; imported on first use, which takes up to 1 s."""

    results_needed = 10

    def suggestions(
        self,
        axes: Sequence[Axis],
        results: Sequence[Observation],
        others: Sequence[Observation],
        *,
        seed: int,
    ) -> Iterator[tuple[float, ...]]:
        """Yield the coordinates of points to try, best first."""
        columns = sum(axis.columns for axis in axes)
        if len(results) ** 2 * max(columns, _CHEAP_COLUMNS) <= _MAX_EFFORT:
            from parallel_hpo.server.search import gp

            return gp.suggestions(axes, results, others[-_RECENT:], seed=seed)
        from parallel_hpo.server.search import tpe

        by_loss = sorted(results, key=lambda result: (result.loss, result.index))
        rest = sorted([*by_loss[_MAX_BEST:], *others], key=lambda seen: seen.index)[-_RECENT:]
        shown = sorted([*by_loss[:_MAX_BEST], *rest], key=lambda seen: seen.index)
        return tpe.suggestions(axes, shown, seed=seed)


class BayesEngine:
    """Model-based optimization of the configuration's metric, without end."""

    size = None

    def __init__(self, configuration: SweepConfiguration, *, seed: int, model: Model | None = None) -> None:
        self._model = model or OwnModel()
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
        if len(results) >= self._model.results_needed and self._axes:
            others = [one for one in seen if one.loss is None or not math.isfinite(one.loss)]
            values = draw(self._parameters, source)
            suggested = self._model.suggestions(self._axes, results, others, seed=source.getrandbits(32))
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
