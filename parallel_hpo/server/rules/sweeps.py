"""The table of legal moves of a sweep; the names of the states are W&B's. Pure.

PENDING ─agent joined─▶ RUNNING ◀─▶ PAUSED
                           │ exhausted, finish ─▶ FINISHED
                           └ cancel ───────────▶ CANCELED   (both may be resumed)
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum, StrEnum, auto
from typing import Final


class SweepState(StrEnum):
    """A sweep's state; the values are what W&B's clients read."""

    PENDING = "PENDING"
    RUNNING = "RUNNING"
    PAUSED = "PAUSED"
    FINISHED = "FINISHED"
    CANCELED = "CANCELED"


class SweepEvent(Enum):
    """An event of a sweep."""

    AGENT_JOINED = auto()
    EXHAUSTED = auto()
    """Its search space or its run_cap is used up."""
    TARGET_REACHED = auto()
    """A run's metric reached the sweep's target: no more runs are issued."""
    RUN = auto()
    PAUSE = auto()
    FINISH = auto()
    CANCEL = auto()


class IllegalSweepMoveError(Exception):
    """The event is illegal in the sweep's state; nothing was changed."""


_S = SweepState
_E = SweepEvent

MOVES: Final[Mapping[tuple[SweepState, SweepEvent], SweepState]] = {
    (_S.PENDING, _E.AGENT_JOINED): _S.RUNNING,
    (_S.RUNNING, _E.AGENT_JOINED): _S.RUNNING,
    # A worker that is replaced while its sweep is paused waits like the others.
    (_S.PAUSED, _E.AGENT_JOINED): _S.PAUSED,
    (_S.RUNNING, _E.EXHAUSTED): _S.FINISHED,
    (_S.FINISHED, _E.EXHAUSTED): _S.FINISHED,
    **{(state, _E.TARGET_REACHED): _S.FINISHED for state in SweepState},
    (_S.CANCELED, _E.TARGET_REACHED): _S.CANCELED,
    **{(state, _E.RUN): _S.RUNNING for state in SweepState},
    (_S.PENDING, _E.PAUSE): _S.PAUSED,
    (_S.RUNNING, _E.PAUSE): _S.PAUSED,
    (_S.PAUSED, _E.PAUSE): _S.PAUSED,
    (_S.PENDING, _E.FINISH): _S.FINISHED,
    (_S.RUNNING, _E.FINISH): _S.FINISHED,
    (_S.PAUSED, _E.FINISH): _S.FINISHED,
    (_S.FINISHED, _E.FINISH): _S.FINISHED,
    (_S.CANCELED, _E.FINISH): _S.CANCELED,
    **{(state, _E.CANCEL): _S.CANCELED for state in SweepState},
}

EVENTS_BY_STATE: Final[Mapping[str, SweepEvent]] = {
    "RUNNING": _E.RUN,
    "PENDING": _E.RUN,
    "PAUSED": _E.PAUSE,
    "FINISHED": _E.FINISH,
    "CANCELED": _E.CANCEL,
}
"""The events that clients request by a state's name."""


def move(state: SweepState, event: SweepEvent) -> SweepState:
    """Return the state that follows `state` on `event`; IllegalSweepMoveError if the move is not listed."""
    try:
        return MOVES[state, event]
    except KeyError:
        raise IllegalSweepMoveError(f"a sweep that is {state} can't take {event.name.lower()}") from None
