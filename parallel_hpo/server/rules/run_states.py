"""The one table of legal moves of a run, as the server sees it.

The names of the states are W&B's. No other file decides a run's state: it names
what happened and asks `move`. A late or repeated message is a listed move to the
same state; what is not listed raises and changes nothing.

    pending ─started─▶ running ─exited─▶ finished | failed | killed
       ▲                  │ silent ─▶ crashed ─heard─▶ running
       └──handed on─── preempted ◀─exited, silent─ preempting
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum, StrEnum, auto
from typing import Final


class RunState(StrEnum):
    """Where a run is; the values are what W&B's clients read."""

    PENDING = "pending"
    """Issued to an agent (or waiting to be issued again), and never heard of."""
    RUNNING = "running"
    FINISHED = "finished"
    FAILED = "failed"
    CRASHED = "crashed"
    KILLED = "killed"
    PREEMPTING = "preempting"
    PREEMPTED = "preempted"


class RunEvent(Enum):
    """What can happen to a run."""

    STARTED = auto()
    """`wandb.init()` reached the server, for the first time or to go on with the run."""
    HEARD = auto()
    """Data or a sign of life came, without an ending."""
    PREEMPTING = auto()
    EXITED_WELL = auto()
    EXITED_BADLY = auto()
    EXITED_BY_REQUEST = auto()
    """It left with an error after it was asked to stop, or by Ctrl-C."""
    WENT_SILENT = auto()
    WENT_SILENT_BY_REQUEST = auto()
    """It was asked to stop, and nothing was heard of it since: its process ended without a word."""
    GIVEN_UP = auto()
    """It was delivered twice and never started."""
    HANDED_ON = auto()
    """A preempted run goes to another agent."""
    OWNER_SAYS_FINISHED = auto()
    OWNER_SAYS_CRASHED = auto()
    OWNER_SAYS_KILLED = auto()
    OWNER_SAYS_FAILED = auto()
    REQUEUED = auto()
    """Its owner wants it to wait for another start (`run.update_state("pending")`)."""
    WRITTEN_OFF = auto()
    """Its owner expects no more of it (`run.update_state("failed")`)."""


class IllegalRunMoveError(Exception):
    """The event cannot happen to a run in this state; nothing was changed."""


def _row(event: RunEvent, **targets: RunState) -> dict[tuple[RunState, RunEvent], RunState]:
    return {(RunState(old), event): new for old, new in targets.items()}


_S = RunState
_E = RunEvent
SAID_BY_THE_RUN_ITSELF: Final = frozenset({_S.FINISHED, _S.FAILED, _S.KILLED})


def _all_to(event: RunEvent, target: RunState) -> dict[tuple[RunState, RunEvent], RunState]:
    """Return the moves of an ending that is believed in every state."""
    return {(old, event): target for old in RunState}


def _owner_says(event: RunEvent, target: RunState) -> dict[tuple[RunState, RunEvent], RunState]:
    """Return the moves by which an owner ends a run: never against the run's own word."""
    return {(old, event): old if old in SAID_BY_THE_RUN_ITSELF else target for old in RunState}


MOVES: Final[Mapping[tuple[RunState, RunEvent], RunState]] = {
    # wandb.init() with the id of an ended run resumes it.
    **_all_to(_E.STARTED, _S.RUNNING),
    (_S.PREEMPTING, _E.STARTED): _S.PREEMPTING,
    **_row(
        _E.HEARD,
        pending=_S.RUNNING,
        running=_S.RUNNING,
        finished=_S.FINISHED,
        failed=_S.FAILED,
        crashed=_S.RUNNING,
        killed=_S.KILLED,
        preempting=_S.PREEMPTING,
        preempted=_S.PREEMPTED,
    ),
    **_row(
        _E.PREEMPTING,
        pending=_S.PREEMPTING,
        running=_S.PREEMPTING,
        finished=_S.FINISHED,
        failed=_S.FAILED,
        crashed=_S.PREEMPTING,
        killed=_S.KILLED,
        preempting=_S.PREEMPTING,
        preempted=_S.PREEMPTED,
    ),
    **_all_to(_E.EXITED_WELL, _S.FINISHED),
    **_all_to(_E.EXITED_BADLY, _S.FAILED),
    (_S.PREEMPTING, _E.EXITED_BADLY): _S.PREEMPTED,
    (_S.PREEMPTED, _E.EXITED_BADLY): _S.PREEMPTED,
    **_all_to(_E.EXITED_BY_REQUEST, _S.KILLED),
    (_S.PREEMPTING, _E.EXITED_BY_REQUEST): _S.PREEMPTED,
    (_S.PREEMPTED, _E.EXITED_BY_REQUEST): _S.PREEMPTED,
    **_row(_E.WENT_SILENT, running=_S.CRASHED, preempting=_S.PREEMPTED, crashed=_S.CRASHED),
    **_row(
        _E.WENT_SILENT_BY_REQUEST,
        pending=_S.KILLED,
        running=_S.KILLED,
        preempting=_S.PREEMPTED,
        killed=_S.KILLED,
    ),
    **_row(_E.GIVEN_UP, pending=_S.FAILED, failed=_S.FAILED),
    **_row(_E.HANDED_ON, preempted=_S.PENDING, pending=_S.PENDING),
    **_owner_says(_E.OWNER_SAYS_FINISHED, _S.FINISHED),
    **_owner_says(_E.OWNER_SAYS_CRASHED, _S.CRASHED),
    # wandb client: `wandb sync` ends a run that was cut short with exit code 1; its owner knows better.
    (_S.FAILED, _E.OWNER_SAYS_CRASHED): _S.CRASHED,
    **_owner_says(_E.OWNER_SAYS_KILLED, _S.KILLED),
    **_owner_says(_E.OWNER_SAYS_FAILED, _S.FAILED),
    **_row(_E.REQUEUED, running=_S.PENDING, failed=_S.PENDING, crashed=_S.PENDING, preempted=_S.PENDING),
    **_row(_E.WRITTEN_OFF, pending=_S.FAILED, running=_S.FAILED),
}

OPEN: Final = frozenset({_S.PENDING, _S.RUNNING, _S.PREEMPTING})
"""States in which an agent still owes us the run's end."""


def silence(*, stop_requested: bool) -> RunEvent:
    """Return what it means that nothing is heard of a run any more."""
    return RunEvent.WENT_SILENT_BY_REQUEST if stop_requested else RunEvent.WENT_SILENT


def move(state: RunState, event: RunEvent) -> RunState:
    """Return the state that follows `state` on `event`; IllegalRunMoveError where the move is not listed."""
    try:
        return MOVES[state, event]
    except KeyError:
        raise IllegalRunMoveError(f"a run that is {state} can't be {event.name.lower()}") from None


def exit_event(exitcode: int, *, stop_requested: bool) -> RunEvent:
    """Say what an exit code means: 0 well; 255 (wandb client: Ctrl-C) by request; else badly."""
    if exitcode == 0:
        return RunEvent.EXITED_WELL
    return RunEvent.EXITED_BY_REQUEST if stop_requested or exitcode == 255 else RunEvent.EXITED_BADLY
