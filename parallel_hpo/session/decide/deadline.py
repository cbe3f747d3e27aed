"""Runs that would not end before the deadline are not started: pure, a part of `decide`.

What is not started is left to `--resume`. While others run a worker without a run waits: a shorter
run than those before may make room for one more.

Each run's own seed: pure.

A server of ours says which place in its sweep a run has. W&B's says none: there what tells runs apart
is their parameters, and of those with the same ones which of them it is.
"""

from __future__ import annotations

import json
from dataclasses import replace
from hashlib import sha256
from typing import Final

from parallel_hpo.core.errors import ExitCode
from parallel_hpo.core.messages import SweepEnd
from parallel_hpo.core.notices import Message
from parallel_hpo.core.types import Outcome, Parameters, StopKind
from parallel_hpo.count.policy import note_duration, runs_within, why_too_late
from parallel_hpo.session.decide.draft import Draft
from parallel_hpo.session.decide.state import SlotView, SweepView

TOO_LATE: Final = "replaced: its next run would not end before the deadline"


def longest_lease(view: SweepView, now: float) -> int | None:
    """Return how many runs, one after the other, would end before the deadline; None: there is none."""
    return None if view.deadline_at is None else runs_within(view.took, view.deadline_at - now)


def is_too_late(view: SweepView, now: float) -> bool:
    """Whether a run that starts now would not end before the deadline."""
    return longest_lease(view, now) == 0


def note_run(draft: Draft, outcome: Outcome, took_s: float) -> None:
    """Let a run that has ended by itself, or by the sweep's wish, say how long one takes."""
    if draft.view.deadline_at is not None:
        draft.view = replace(draft.view, took=note_duration(draft.view.took, took_s, outcome))


def say_once(draft: Draft) -> None:
    """Say that no run starts any more, where there are some."""
    if not draft.view.told_too_late:
        draft.view = replace(draft.view, told_too_late=True)
        draft.tell(Message(_why(draft)))


def send_back(draft: Draft, slot: SlotView) -> None:
    """Let a leased run go back to its server, which takes that from a worker that leaves."""
    say_once(draft)
    draft.replace_worker(slot, TOO_LATE)


def end(draft: Draft) -> None:
    """End a sweep of which nothing is on, and nothing more may start."""
    draft.leave(SweepEnd(_why(draft), ExitCode.SWEEP_TIMEOUT, StopKind.DRAIN))


def _why(draft: Draft) -> str:
    assert draft.view.deadline_at is not None
    left_s = draft.view.deadline_at - draft.now
    return why_too_late(draft.view.took, left_s, str(draft.view.limits.deadline))


SEEDS: Final = 2**31
"""What every library takes for a seed: some know no larger number, some no negative one."""
_STEP: Final = 0x9E3779B1
"""Odd, so that no two of 2**31 places come to the same seed; large, so that neighbours are far apart."""


def seed_of(sweep_seed: int, place: int) -> int:
    """Return the seed of the run at a place of a sweep, a whole number from 0 and below 2**31."""
    return (_number(f"{sweep_seed}") + place * _STEP) % SEEDS


def place_by(parameters: Parameters, before: int) -> int:
    """Return a place for a run with these parameters, of which `before` others have begun."""
    return _number(f"{before}/{json.dumps(parameters, sort_keys=True)}")


def _number(text: str) -> int:
    return int.from_bytes(sha256(text.encode()).digest()[:8])
