"""Counts what a sweep's notices tell: how many runs are done, which run, the best value so far.

Pure: `advance` takes a tally and a notice and returns the next tally. Imports
`words` only.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from parallel_hpo.notices import Notice, RunBegan, RunOver, SweepOpened, WorkerNamed
from parallel_hpo.words import Outcome, RunId, Slot


@dataclass(frozen=True, slots=True)
class Tally:
    """Where a sweep stands; `began_s` is on the clock of `advance`'s `now`."""

    opened: SweepOpened | None = None
    began_s: float = 0.0
    running: Mapping[Slot, RunId] = field(default_factory=dict)
    done: Mapping[Outcome, int] = field(default_factory=dict)
    """Runs that are over for good, by how they ended."""
    best: float | None = None
    names: Mapping[Slot, str] = field(default_factory=dict)
    """What workers on many machines are called."""

    def name_of(self, slot: Slot) -> str:
        """Return what people call a slot's worker: `w0`, or `gpu2/w0`."""
        return self.names.get(slot, f"w{slot}")

    @property
    def over(self) -> int:
        """Runs that are over for good."""
        return sum(self.done.values())


def advance(tally: Tally, notice: Notice, now: float) -> Tally:
    """Return the tally after a notice that came at `now` (seconds)."""
    match notice:
        case SweepOpened():
            return replace(tally, opened=notice, began_s=now)
        case RunBegan(slot=slot, run_id=run_id):
            return replace(tally, running={**tally.running, slot: run_id})
        case RunOver():
            return _after_run(tally, notice)
        case WorkerNamed(slot=slot, name=name):
            return replace(tally, names={**tally.names, slot: name})
        case _:
            return tally


def time_left_s(tally: Tally, now: float) -> float | None:
    """Return the seconds that the rest takes at the speed so far; None while nothing can be said."""
    count = tally.opened.count if tally.opened else None
    if count is None or tally.over == 0:
        return None
    return (now - tally.began_s) / tally.over * max(count - tally.over, 0)


def _after_run(tally: Tally, notice: RunOver) -> Tally:
    running = {slot: run_id for slot, run_id in tally.running.items() if slot != notice.slot}
    if notice.again:
        return replace(tally, running=running)
    done = {**tally.done, notice.outcome: tally.done.get(notice.outcome, 0) + 1}
    return replace(tally, running=running, done=done, best=_better(tally, notice))


def _better(tally: Tally, notice: RunOver) -> float | None:
    value = notice.value
    if notice.outcome is not Outcome.FINISHED or value is None or not math.isfinite(value):
        return tally.best
    if tally.best is None:
        return value
    maximize = tally.opened is not None and tally.opened.goal == "maximize"
    return max(tally.best, value) if maximize else min(tally.best, value)
