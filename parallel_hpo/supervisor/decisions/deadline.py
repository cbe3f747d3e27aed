"""Runs that would not end before the deadline are not started: pure, a part of `decide`.

What is not started is left to `--resume`. While others run a worker without a run waits: a shorter
run than those before may make room for one more.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from parallel_hpo.errors import ExitCode
from parallel_hpo.notices import Message
from parallel_hpo.policy import note_duration, runs_within, why_too_late
from parallel_hpo.protocol.ends import Ending
from parallel_hpo.supervisor.decisions.draft import Draft
from parallel_hpo.supervisor.decisions.view import SlotView, SweepView
from parallel_hpo.words import Outcome, StopKind

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
    draft.leave(Ending(_why(draft), ExitCode.SWEEP_TIMEOUT, StopKind.DRAIN))


def _why(draft: Draft) -> str:
    assert draft.view.deadline_at is not None
    left_s = draft.view.deadline_at - draft.now
    return why_too_late(draft.view.took, left_s, str(draft.view.limits.deadline))
