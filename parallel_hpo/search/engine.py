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
from parallel_hpo.search.wandb_model import WandbModel
from parallel_hpo.search.wandb_process import WandbProcess

__all__ = ["Engine", "Trial", "TrialState", "make_engine"]


class Engine(Protocol):
    """Suggests parameters; every answer depends only on configuration, seed, index, and what was told."""

    def tell(self, trial: Trial) -> None:
        """Take note of a trial; a later word on the same index replaces the earlier one."""

    def ask(self, index: int) -> dict[str, Any] | None:
        """Return the parameters of the sweep's `index`-th run (from 0); None: the space is used up."""


def make_engine(configuration: SweepConfiguration, *, seed: int, wandb: WandbProcess | None = None) -> Engine:
    """Return the engine for the configuration's method; `seed` makes random and bayes repeatable.

    With `wandb`, bayes is by W&B's own engine. Its grid and random are no others than ours: the same
    points, of which it would make and compare all that there are at each ask.
    """
    match configuration.method:
        case Method.GRID:
            return GridEngine(configuration.parameters)
        case Method.RANDOM:
            return RandomEngine(configuration.parameters, seed=seed)
        case Method.BAYES:
            model = None if wandb is None else WandbModel(wandb)
            return BayesEngine(configuration, seed=seed, model=model)
        case Method.CUSTOM:
            raise ValueError("method custom has no engine here: a scheduler of the user's own chooses")
        case _ as unknown:
            assert_never(unknown)
