"""The table of a worker slot's legal moves; no other file assigns a slot's state.

A missing pair is illegal: `move` raises and nothing changes. A late message is a listed move to the same
state. The states have Supervisor's names.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Final

from parallel_hpo.core.types import SlotState as State


class Move(StrEnum):
    """What can happen to a slot."""

    SPAWN = "spawn"
    """A worker process starts in it."""
    DENIED = "be denied a process"
    """The system had no process or descriptor for its worker."""
    READY = "ready"
    """Its worker has loaded `main` and waits for orders."""
    LEAVE = "leave"
    """Its worker got the order to leave, or the sweep needs no worker here."""
    DIED = "died"
    """Its worker's process tree has ended."""
    REPLACED = "be replaced"
    """Its process tree has ended as intended, and another process follows."""
    GIVE_UP = "give up"
    """Its restart budget is spent."""


class IllegalMove(Exception):
    """A move that the table does not list: a bug of this package."""


MOVES: Final[Mapping[tuple[State, Move], State]] = {
    (State.STOPPED, Move.SPAWN): State.STARTING,
    (State.STOPPED, Move.LEAVE): State.EXITED,
    (State.STARTING, Move.DENIED): State.STOPPED,
    (State.STARTING, Move.READY): State.RUNNING,
    (State.STARTING, Move.LEAVE): State.STOPPING,
    (State.STARTING, Move.DIED): State.BACKOFF,
    (State.RUNNING, Move.LEAVE): State.STOPPING,
    (State.RUNNING, Move.DIED): State.BACKOFF,
    (State.BACKOFF, Move.SPAWN): State.STARTING,
    (State.BACKOFF, Move.LEAVE): State.EXITED,
    (State.BACKOFF, Move.GIVE_UP): State.FATAL,
    (State.STOPPING, Move.DENIED): State.EXITED,
    (State.STOPPING, Move.READY): State.STOPPING,
    (State.STOPPING, Move.LEAVE): State.STOPPING,
    (State.STOPPING, Move.DIED): State.EXITED,
    (State.STOPPING, Move.REPLACED): State.STOPPED,
    (State.EXITED, Move.LEAVE): State.EXITED,
    (State.FATAL, Move.LEAVE): State.FATAL,
}

TERMINAL: Final = frozenset(State) - {old for (old, _), new in MOVES.items() if new is not old}
"""States that a slot never leaves."""

ALIVE: Final = frozenset({State.STARTING, State.RUNNING, State.STOPPING})
"""States in which the slot has a process."""


def move(state: State, what: Move) -> State:
    """Return the state after a move.

    Raises:
        IllegalMove: the table has no such move.
    """
    try:
        return MOVES[state, what]
    except KeyError:
        raise IllegalMove(f"a slot that is {state.value} can't {what.value}") from None
