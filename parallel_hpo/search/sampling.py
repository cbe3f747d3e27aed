"""Random parameters: each distribution as W&B documents it, and the engine of method random.

A run's parameters follow from seed and index alone, so any process can draw them,
in any order. The random source comes in by parameter; it is the standard
library's Mersenne Twister, seeded by SHA-512 of a text.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from random import Random
from typing import Any

from parallel_hpo.config.sweep_words import (
    Categorical,
    Constant,
    Distribution,
    IntUniform,
    Parameter,
    Path,
)
from parallel_hpo.search.quantiles import value_at
from parallel_hpo.search.space import nest
from parallel_hpo.search.trial import Trial


class RandomEngine:
    """Draws each run's parameters anew, and so may repeat itself; never used up."""

    size = None

    def __init__(self, parameters: Iterable[Parameter], *, seed: int) -> None:
        self._parameters = sorted(parameters, key=lambda parameter: parameter.path)
        self._seed = seed

    def tell(self, trial: Trial) -> None:
        """Nothing that becomes of a run changes the draw."""

    def ask(self, index: int) -> dict[str, Any]:
        """Return the draw for the `index`-th run."""
        return nest(draw(self._parameters, stream(self._seed, index)))

    def index(self, parameters: Mapping[str, Any]) -> None:
        """Nothing is drawn at one index only."""


def stream(seed: int, index: int, *, use: str = "draw") -> Random:
    """Return the random source of one run for one use; different ones are independent."""
    return Random(f"{seed}/{index}/{use}")


def draw(parameters: Iterable[Parameter], source: Random) -> dict[Path, Any]:
    """Return a value for each parameter, drawn in the order given."""
    return {parameter.path: _draw(parameter.distribution, source) for parameter in parameters}


def _draw(distribution: Distribution, source: Random) -> Any:
    match distribution:
        case Constant(value):
            return value
        case Categorical(values, probabilities):
            return source.choices(values, probabilities)[0]
        case IntUniform(low, high):
            return source.randint(low, high)
        case _:
            return value_at(distribution, source.random())
