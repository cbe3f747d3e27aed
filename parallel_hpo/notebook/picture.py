"""What a cell shows of a sweep, as a picture that grows with each notice: pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from parallel_hpo.notices import Message, Notice, RunBegan, RunOver
from parallel_hpo.protocol.messages import MissingMetric
from parallel_hpo.ui.tally import Tally, advance
from parallel_hpo.words import Outcome, Parameters, Slot

SHOWN_ENDS: Final = 5
SHOWN_WARNINGS: Final = 5
"""The last few of each are shown; the summary and the logs have them all."""


@dataclass(frozen=True, slots=True)
class EndedRun:
    """A run that is over, with its parameters."""

    over: RunOver
    parameters: Parameters


@dataclass(frozen=True, slots=True)
class Picture:
    """Where a sweep stands."""

    tally: Tally = field(default_factory=Tally)
    running: Mapping[Slot, RunBegan] = field(default_factory=dict)
    ended: tuple[EndedRun, ...] = ()
    """The last ones, the latest first."""
    best: EndedRun | None = None
    warnings: tuple[Notice, ...] = ()
    end: tuple[str, ...] = ()
    """What is said once the sweep is over, line by line."""


def draw(picture: Picture, notice: Notice, now: float) -> Picture:
    """Return the picture after a notice that came at `now` (monotonic seconds)."""
    drawn = replace(picture, tally=advance(picture.tally, notice, now))
    match notice:
        case RunBegan(slot=slot):
            return replace(drawn, running={**picture.running, slot: notice})
        case RunOver():
            return _after_run(drawn, notice)
        case Message(warning=True) | MissingMetric():
            return replace(drawn, warnings=(*picture.warnings, notice)[-SHOWN_WARNINGS:])
    return drawn


def _after_run(picture: Picture, over: RunOver) -> Picture:
    began = picture.running.get(over.slot)
    running = {slot: run for slot, run in picture.running.items() if slot != over.slot}
    if over.again:
        return replace(picture, running=running)
    ended = EndedRun(over, began.parameters if began else {})
    is_best = over.outcome is Outcome.FINISHED and over.value is not None and over.value == picture.tally.best
    return replace(
        picture,
        running=running,
        ended=(ended, *picture.ended)[:SHOWN_ENDS],
        best=ended if is_best else picture.best,
    )
