"""The one interface of all search engines, and the choice of an engine by the sweep's method.

An engine holds no truth: it is rebuilt from what it is told, in any process, at
any time, and answers the same. The caller stores what was issued.
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
    """Suggests parameters; every answer depends only on configuration, seed, index, and what was told."""

    @property
    def size(self) -> int | None:
        """How many points it has, each of them at one index whatever it is told; None: it has no end."""

    def index(self, parameters: Mapping[str, Any]) -> int | None:
        """Return the index of the point that these parameters are; None where they have none."""

    def tell(self, trial: Trial) -> None:
        """Take note of a trial; a later word on the same index replaces the earlier one."""

    def ask(self, index: int) -> dict[str, Any] | None:
        """Return the parameters of the sweep's `index`-th run (from 0); None: the space is used up."""


def make_engine(configuration: SweepConfiguration, *, seed: int) -> Engine:
    """Return the engine for the configuration's method; `seed` makes random and bayes repeatable."""
    if configuration.method is Method.CUSTOM:
        raise ValueError("method custom has no engine here: a scheduler of the user's own chooses")
    return _ENGINES[configuration.method](configuration, seed)


def takes_long(method: str) -> bool:
    """Return whether an ask takes too long to hold the database's write lock meanwhile."""
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
