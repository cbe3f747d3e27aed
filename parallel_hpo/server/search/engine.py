"""The interface of all search engines, and the choice of one by the sweep's method.

An engine is a cache: any process can rebuild it from the trials, with the same answers. The caller stores the
suggestions.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, Protocol

from parallel_hpo.config.sweep_types import Method, SweepConfiguration
from parallel_hpo.server.search.bayes import BayesEngine
from parallel_hpo.server.search.sampling import RandomEngine
from parallel_hpo.server.search.space import GridEngine, Trial, TrialState

__all__ = ["Engine", "Trial", "TrialState", "make_engine", "takes_long"]


class Engine(Protocol):
    """Suggests parameters, which depend only on configuration, seed, index and the trials told."""

    @property
    def size(self) -> int | None:
        """Number of points if each belongs to a fixed index; None if the engine has no end."""

    def index(self, parameters: Mapping[str, Any]) -> int | None:
        """Return the index of the point with these parameters, or None."""

    def tell(self, trial: Trial) -> None:
        """Record a trial; it replaces an earlier one with the same index."""

    def ask(self, index: int) -> dict[str, Any] | None:
        """Return the parameters of the sweep's `index`-th run (from 0); None after the last point."""


def make_engine(configuration: SweepConfiguration, *, seed: int) -> Engine:
    """Return the engine for the configuration's method; `seed` makes random and bayes repeatable."""
    if configuration.method is Method.CUSTOM:
        raise ValueError("method custom has no engine: the user's own scheduler chooses the parameters")
    return _ENGINES[configuration.method](configuration, seed)


def takes_long(method: str) -> bool:
    """Return whether an ask takes too long for a transaction with the write lock."""
    return method in _SLOW


def _grid(configuration: SweepConfiguration, _seed: int) -> Engine:
    return GridEngine(configuration.parameters)


def _random(configuration: SweepConfiguration, seed: int) -> Engine:
    return RandomEngine(configuration.parameters, seed=seed)


def _bayes(configuration: SweepConfiguration, seed: int) -> Engine:
    return BayesEngine(configuration, seed=seed)


_ENGINES: Final[Mapping[Method, Callable[[SweepConfiguration, int], Engine]]] = {
    Method.GRID: _grid,
    Method.RANDOM: _random,
    Method.BAYES: _bayes,
}
_SLOW: Final = frozenset({Method.BAYES})
