"""The time of an ask of bayes, by the number of earlier results."""

from __future__ import annotations

import statistics
import time
from typing import Final

from parallel_hpo.server.search.engine import Trial, TrialState
from scripts.benchmarks.search.players import engine
from scripts.benchmarks.search.problems import PROBLEMS, seen_loss

PROBLEMS_TIMED: Final = ("mixed", "Hartmann 6 + N(0, 0.3)", "Ackley 20")
RESULTS: Final = (20, 60, 100, 300, 1000)
LIMIT_MS: Final = 50.0
_ASKS: Final = 22


def ask_ms(name: str, results: int) -> float:
    """Return the 95th percentile of an ask's processor time in milliseconds, each after one more result."""
    problem = PROBLEMS[name]
    chance, search = engine("random", problem, 0), engine("bayes", problem, 0)
    took = []
    for index in range(results + _ASKS):
        if index >= results:
            began = time.thread_time()  # an ask has one thread; other processes don't count
            search.ask(index)
            took.append((time.thread_time() - began) * 1000)
        point = chance.ask(index) or {}
        search.tell(Trial(index, point, TrialState.FINISHED, seen_loss(problem, point, 0, index)))
    return statistics.quantiles(took[1:], n=20)[-1]  # the first one may include imports
