"""Sweeps side by side: the best of each, how soon it had reached a value, and what it cost. Pure.

A run counts when it is over; what it had cost by then are the hours of all attempts up to that moment, also
of those that were under way beside it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from parallel_hpo.analysis.table import AnalysedSweep
from parallel_hpo.core.types import Outcome
from parallel_hpo.records.ledger_views import Attempt

HOUR_S: Final = 3600.0


@dataclass(frozen=True, slots=True)
class ComparedSweep:
    """A sweep that is compared with others."""

    sweep: AnalysedSweep
    attempts: Sequence[Attempt]
    """Those of all its runs, over all its shares and launches."""
    now: float | None = None
    """Of a sweep that runs: up to when what is under way counts, in seconds since the epoch."""


@dataclass(frozen=True, slots=True)
class Cost:
    """What a sweep had cost at some moment."""

    runs: int
    """Those that were over, however they ended."""
    run_hours: float
    """Of all attempts together: two at once count twice."""
    wall_hours: float
    """In which at least one attempt was under way."""


@dataclass(frozen=True, slots=True)
class Reached:
    """The first run that ended with a value at least as good as the one to be reached."""

    run_id: str
    value: float
    cost: Cost


@dataclass(frozen=True, slots=True)
class Standing:
    """How a sweep stands among the others."""

    sweep: AnalysedSweep
    cost: Cost
    rank: int | None
    """From 1, the same for equal bests; None: it has no best, or there is no ranking."""
    reached: Reached | None


@dataclass(frozen=True, slots=True)
class Comparison:
    """Sweeps side by side, in the order in which they were named."""

    standings: tuple[Standing, ...]
    reach: float | None
    """The value to be reached; None where no sweep has any, or there is no ranking."""
    not_ranked: str
    """Why they can't be ranked, in words; '' where they can."""


def compare(contenders: Sequence[ComparedSweep], reach: float | None) -> Comparison:
    """Compare sweeps; `reach` missing: the worst of their bests, which each of them has reached."""
    sweeps = [contender.sweep for contender in contenders]
    not_ranked = _why_not_ranked(sweeps)
    bests = [] if not_ranked else [sweep.best.value for sweep in sweeps if sweep.best is not None]
    sign = -1 if sweeps[0].goal == "maximize" else 1
    ordered = sorted(sign * value for value in bests)
    if reach is None and bests:
        reach = sign * ordered[-1]
    aim = None if not_ranked else reach
    standings = []
    for each in contenders:
        best = each.sweep.best
        rank = None if not_ranked or best is None else 1 + ordered.index(sign * best.value)
        reached = None if aim is None else _first_to_reach(each, aim)
        standings.append(Standing(each.sweep, _cost(each, float("inf")), rank, reached))
    return Comparison(tuple(standings), aim, not_ranked)


def _why_not_ranked(sweeps: Sequence[AnalysedSweep]) -> str:
    asked = [f"{sweep.sweep_id} {_aim_in_words(sweep)}" for sweep in sweeps]
    if any(sweep.metric is None for sweep in sweeps):
        return f"not every sweep has a metric: {', '.join(asked)}"
    if len({(sweep.metric, sweep.goal) for sweep in sweeps}) > 1:
        return f"they don't have the same metric and goal: {', '.join(asked)}"
    return ""


def _aim_in_words(sweep: AnalysedSweep) -> str:
    return "has none" if sweep.metric is None else f"is to {sweep.goal} {sweep.metric}"


def _first_to_reach(contender: ComparedSweep, value: float) -> Reached | None:
    ends = _ends(contender.attempts)
    good = [
        (ends[run.run_id], run.run_id, run.value)
        for run in contender.sweep.runs
        if run.run_id in ends and run.value is not None and run.outcome == Outcome.FINISHED
        if _is_as_good(run.value, value, contender.sweep.goal)
    ]
    if not good:
        return None
    at, run_id, found = min(good)
    return Reached(run_id, found, _cost(contender, at))


def _is_as_good(value: float, as_other: float, goal: str) -> bool:
    return value >= as_other if goal == "maximize" else value <= as_other


def _cost(contender: ComparedSweep, until: float) -> Cost:
    """Return what a sweep had cost at a moment, in seconds since the epoch."""
    spells = sorted((begin, min(end, until)) for begin, end in _spells(contender) if begin < until)
    wall_s, covered = 0.0, float("-inf")
    for begin, end in spells:
        wall_s += max(0.0, end - max(begin, covered))
        covered = max(covered, end)
    runs = sum(end <= until for end in _ends(contender.attempts).values())
    return Cost(runs, sum(end - begin for begin, end in spells) / HOUR_S, wall_s / HOUR_S)


def _spells(contender: ComparedSweep) -> Iterator[tuple[float, float]]:
    """Yield when each attempt began and ended; of one that was cut with its supervisor nobody knows."""
    last = _last(contender.attempts)
    for attempt in contender.attempts:
        if attempt.ended_at is not None:
            yield attempt.started_at, attempt.ended_at
        elif contender.now is not None and attempt is last[attempt.run_id]:
            yield attempt.started_at, max(attempt.started_at, contender.now)


def _ends(attempts: Sequence[Attempt]) -> dict[str, float]:
    """Return when each run was over that is, by its id."""
    return {run: last.ended_at for run, last in _last(attempts).items() if last.ended_at is not None}


def _last(attempts: Sequence[Attempt]) -> Mapping[str, Attempt]:
    """Return the last attempt of each run."""
    return {each.run_id: each for each in sorted(attempts, key=lambda each: each.attempt)}
