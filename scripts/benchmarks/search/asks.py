"""The time of an ask of bayes, by the number of earlier results."""

from __future__ import annotations

import statistics
import time
from typing import Final

from parallel_hpo.server.search.engine import Trial, TrialState
from scripts.benchmarks.search.players import engine, seen_loss
from scripts.benchmarks.search.problems import PROBLEMS

PROBLEMS_TIMED: Final = ("mixed", "Hartmann 6 + N(0, 0.3)", "Ackley 20")
RESULTS: Final = (20, 60, 100, 300, 1000)
LIMIT_MS: Final = 50.0
_ASKS: Final = 11


def ask_ms(name: str, results: int) -> float:
    """Return the median time of an ask in milliseconds, each after one more result."""
    problem = PROBLEMS[name]
    chance, search = engine("random", problem, 0), engine("bayes", problem, 0)
    took = []
    for index in range(results + _ASKS):
        if index >= results:
            began = time.perf_counter()
            search.ask(index)
            took.append((time.perf_counter() - began) * 1000)
        point = chance.ask(index) or {}
        search.tell(Trial(index, point, TrialState.FINISHED, seen_loss(problem, point, 0, index)))
    return statistics.median(took[1:])  # the first one may include imports
