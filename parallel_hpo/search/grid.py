"""Every combination of the parameters' values, once: the n-th is computed, never listed.

W&B's order: names sorted, the last one changing fastest.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

from parallel_hpo.config.sweep_words import (
    Categorical,
    Constant,
    Distribution,
    IntUniform,
    Parameter,
    Uniform,
)
from parallel_hpo.search.space import Levels, Listed, Stepped, identity, look_up, nest, point, possible
from parallel_hpo.search.trial import Trial


class GridEngine:
    """The grid over some parameters; raises ValueError for one that can't be enumerated."""

    def __init__(self, parameters: Iterable[Parameter]) -> None:
        ordered = sorted(parameters, key=lambda parameter: parameter.path)
        self._paths = [parameter.path for parameter in ordered]
        self._levels = [_levels(parameter.distribution) for parameter in ordered]
        self.size = math.prod(levels.size for levels in self._levels)
        """How many points there are, each once."""

    def tell(self, trial: Trial) -> None:
        """Nothing that becomes of a run changes the grid."""

    def ask(self, index: int) -> dict[str, Any] | None:
        """Return the grid's `index`-th point; None past its end."""
        if index >= self.size:
            return None
        return nest(dict(zip(self._paths, point(self._levels, index), strict=True)))

    def index(self, parameters: Mapping[str, Any]) -> int | None:
        """Return the index of the point that these parameters are; None where they are none of the grid's."""
        index = 0
        for path, levels in zip(self._paths, self._levels, strict=True):
            try:
                value = look_up(parameters, path)
                level = levels.index(value)
            except KeyError:
                return None
            if identity(levels[level]) != identity(value):
                return None
            index = index * levels.size + level
        return index


def _levels(distribution: Distribution) -> Levels:
    match distribution:
        case Constant(value):
            return Listed((value,))
        case Categorical():
            return Listed(possible(distribution))
        case IntUniform(low, high):
            return Stepped(high - low + 1, offset=low)
        case Uniform(low, high, q) if q is not None:
            # As W&B's engine enumerates it: numpy's arange, which starts at min and leaves max out.
            return Stepped(math.ceil((high - low) / q), step=q, offset=low)
        case _:
            raise ValueError(f"a grid can't enumerate {distribution}")
