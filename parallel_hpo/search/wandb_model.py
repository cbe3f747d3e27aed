"""W&B's own search engine as the model of method bayes, with what is wrong with it (0.3.0) fenced in.

- Nested parameters are dropped where it checks them; categories with probabilities that are no
  numbers, and values that a run changed, end in an error; false, 0 and null are taken for the
  first category; numpy's numbers come back. So it sees points of a cube only, one column a parameter.
- Of more than 100 results it draws 100, with repeats, and may miss the best: it is shown no more.
- It repeats itself in finite spaces: `bayes` doesn't take what was tried.
- It can hang, crash and raise: it runs in a child (`wandb_process`), and chance steps in.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Sequence
from typing import Any, Final

from parallel_hpo.search.axes import Axis, LevelAxis, Observation
from parallel_hpo.search.wandb_process import EngineFailedError, EngineStartingError, WandbProcess

_log = logging.getLogger(__name__)
_ASKS: Final = 4
"""Suggestions in a row, in case that the first was tried already."""
_SHOWN: Final = 100
"""Of more results than these, failed ones included, the engine draws as many with repeats."""
_BEST: Final = 50
"""So many of the results shown are the best; the rest are the latest."""
_PENDING: Final = 90
"""Of more pending runs than 95 the engine leaves out the latest, and prints it."""
_GIVE_UP_AFTER: Final = 3
"""Failures in a row after which the engine is not asked again: each may cost all of its time limit."""


class WandbModel:
    """Suggests places by W&B's engine; none where it fails. A Model of `bayes`."""

    results_needed = 2  # with fewer the engine itself draws at random

    def __init__(self, process: WandbProcess) -> None:
        self._process = process
        self._failures = 0

    def suggestions(
        self,
        axes: Sequence[Axis],
        results: Sequence[Observation],
        others: Sequence[Observation],
        *,
        seed: int,
    ) -> Iterator[tuple[float, ...]]:
        """Yield places on the axes to try; `others` are running, or failed."""
        question = _question(axes, results, others)
        for attempt in range(_ASKS):
            if self._failures >= _GIVE_UP_AFTER:
                return
            try:
                point = self._process.ask(question | {"seed": (seed + attempt) % 2**32})
                yield tuple(_place(axis, at) for axis, at in zip(axes, point, strict=True))
            except EngineStartingError:
                _log.warning("W&B's search engine is still starting, a random point is taken")
                return
            except (EngineFailedError, ValueError) as error:
                self._note(str(error))
                return
            self._failures = 0

    def _note(self, why: str) -> None:
        self._failures += 1
        _log.warning("W&B's search engine failed, a random point is taken instead: %s", why)
        if self._failures == _GIVE_UP_AFTER:
            _log.error(
                "W&B's search engine failed %d times in a row: the sweep goes on at random", _GIVE_UP_AFTER
            )


def _question(
    axes: Sequence[Axis], results: Sequence[Observation], others: Sequence[Observation]
) -> dict[str, Any]:
    failed = [other for other in others if other.loss is not None]
    pending = [other for other in others if other.loss is None]
    shown = _shown([*results, *failed])
    return {
        "columns": len(axes),
        "finished": [
            (_point(axes, one), one.loss) for one in shown if one.loss is not None and math.isfinite(one.loss)
        ],
        "failed": [_point(axes, one) for one in shown if one.loss is None or not math.isfinite(one.loss)],
        "pending": [_point(axes, one) for one in pending[-_PENDING:]],
    }


def _shown(ended: Sequence[Observation]) -> list[Observation]:
    """Return the ended runs that the engine is to know of: all, or the best and the latest."""
    if len(ended) <= _SHOWN:
        return list(ended)
    by_loss = sorted(ended, key=lambda one: (one.loss, one.index))
    latest = sorted(by_loss[_BEST:], key=lambda one: one.index)[_BEST - _SHOWN :]
    return [*by_loss[:_BEST], *latest]


def _point(axes: Sequence[Axis], seen: Observation) -> list[float]:
    """Return a point of the cube; a level has the middle of its share of the column."""
    return [
        (place + 0.5) / axis.levels.size if isinstance(axis, LevelAxis) else place
        for axis, place in zip(axes, seen.places, strict=True)
    ]


def _place(axis: Axis, at: float) -> float:
    """Return the place on an axis for one of the cube; ValueError for what lies outside."""
    if not 0 <= at <= 1:
        raise ValueError(f"it suggested {at}, which is not between 0 and 1")
    return min(math.floor(at * axis.levels.size), axis.levels.size - 1) if isinstance(axis, LevelAxis) else at
