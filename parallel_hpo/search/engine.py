"""The one interface of all search engines, and the choice of an engine by the sweep's method.

An engine holds no truth: it is rebuilt from what it is told, in any process, at
any time, and answers the same. The caller stores what was issued.
"""

from __future__ import annotations

from typing import Any, Protocol, assert_never

from parallel_hpo.config.sweep_words import Method, SweepConfiguration
from parallel_hpo.search.bayes import BayesEngine
from parallel_hpo.search.grid import GridEngine
from parallel_hpo.search.sampling import RandomEngine
from parallel_hpo.search.trial import Trial, TrialState

__all__ = ["Engine", "Trial", "TrialState", "make_engine"]


class Engine(Protocol):
    """Suggests parameters; every answer depends only on configuration, seed, index, and what was told."""

    def tell(self, trial: Trial) -> None:
        """Take note of a trial; a later word on the same index replaces the earlier one."""

    def ask(self, index: int) -> dict[str, Any] | None:
        """Return the parameters of the sweep's `index`-th run (from 0); None: the space is used up."""


def make_engine(configuration: SweepConfiguration, *, seed: int) -> Engine:
    """Return the engine for the configuration's method; `seed` makes random and bayes repeatable."""
    match configuration.method:
        case Method.GRID:
            return GridEngine(configuration.parameters)
        case Method.RANDOM:
            return RandomEngine(configuration.parameters, seed=seed)
        case Method.BAYES:
            return BayesEngine(configuration, seed=seed)
        case _ as unknown:
            assert_never(unknown)
