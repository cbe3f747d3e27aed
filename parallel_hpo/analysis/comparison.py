"""Comparison of sweeps: their best values, when each reached a given value, and the cost until then.

The cost until a run's end includes the hours of all attempts up to that moment, also of concurrent ones.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from parallel_hpo.analysis.table import AnalysedSweep
from parallel_hpo.core.types import Outcome
from parallel_hpo.records.reader import Attempt

HOUR_S: Final = 3600.0


@dataclass(frozen=True, slots=True)
class ComparedSweep:
    """A sweep to compare with others."""

    sweep: AnalysedSweep
    attempts: Sequence[Attempt]
    """The attempts of all runs, from all shares and launches."""
    now: float | None = None
    """Time until which running attempts count, in seconds since the epoch; None if the sweep has ended."""


@dataclass(frozen=True, slots=True)
class Cost:
    """The cost of a sweep up to some moment."""

    runs: int
    """Number of ended runs, with any outcome."""
    run_hours: float
    """Sum over all attempts; concurrent ones count separately."""
    wall_hours: float
    """Hours with at least one running attempt."""


@dataclass(frozen=True, slots=True)
class Reached:
    """The first run that ended with a value at least as good as the target."""

    run_id: str
    value: float
    cost: Cost


@dataclass(frozen=True, slots=True)
class Standing:
    """A sweep's row in the comparison."""

    sweep: AnalysedSweep
    cost: Cost
    rank: int | None
    """Rank from 1, the same for equal best values; None without a best value or a ranking."""
    reached: Reached | None


@dataclass(frozen=True, slots=True)
class Comparison:
    """The compared sweeps, in the given order."""

    standings: tuple[Standing, ...]
    reach: float | None
    """The target value; None without any best value or a ranking."""
    not_ranked: str | None
    """Why the sweeps can't be ranked; None if they can."""


def compare(contenders: Sequence[ComparedSweep], reach: float | None) -> Comparison:
    """Compare sweeps; `reach` defaults to the worst of their best values, which all have reached."""
    sweeps = [contender.sweep for contender in contenders]
    not_ranked = _ranking_problem(sweeps)
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


def _ranking_problem(sweeps: Sequence[AnalysedSweep]) -> str | None:
    objectives = [
        f"{sweep.sweep_id} {'has none' if sweep.metric is None else f'{sweep.goal}s {sweep.metric}'}"
        for sweep in sweeps
    ]
    if any(sweep.metric is None for sweep in sweeps):
        return f"not every sweep has a metric: {', '.join(objectives)}"
    if len({(sweep.metric, sweep.goal) for sweep in sweeps}) > 1:
        return f"the sweeps don't have the same metric and goal: {', '.join(objectives)}"
    return None


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
    """Return the cost of a sweep until a time in seconds since the epoch."""
    spells = sorted((begin, min(end, until)) for begin, end in _spells(contender) if begin < until)
    wall_s, covered = 0.0, float("-inf")
    for begin, end in spells:
        wall_s += max(0.0, end - max(begin, covered))
        covered = max(covered, end)
    runs = sum(end <= until for end in _ends(contender.attempts).values())
    return Cost(runs, sum(end - begin for begin, end in spells) / HOUR_S, wall_s / HOUR_S)


def _spells(contender: ComparedSweep) -> Iterator[tuple[float, float]]:
    """Yield start and end of each attempt, except those cut off with their supervisor at an unknown time."""
    last = _last(contender.attempts)
    for attempt in contender.attempts:
        if attempt.ended_at is not None:
            yield attempt.started_at, attempt.ended_at
        elif contender.now is not None and attempt is last[attempt.run_id]:
            yield attempt.started_at, max(attempt.started_at, contender.now)


def _ends(attempts: Sequence[Attempt]) -> dict[str, float]:
    """Return the end of each ended run by id."""
    return {run: last.ended_at for run, last in _last(attempts).items() if last.ended_at is not None}


def _last(attempts: Sequence[Attempt]) -> Mapping[str, Attempt]:
    """Return the last attempt of each run."""
    return {each.run_id: each for each in sorted(attempts, key=lambda each: each.attempt)}
