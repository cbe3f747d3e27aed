"""The table of legal moves of a run, and the points where runs branch off. Pure.

The names of the states are W&B's. No other file decides a run's state: it passes an event to `move`.
A late or repeated message is a listed move to the same state; an unlisted move raises and changes nothing.

    pending ─started─▶ running ─exited─▶ finished | failed | killed
       ▲                  │ silent ─▶ crashed ─activity─▶ running
       └──reassigned── preempted ◀─exited, silent─ preempting

A run branches off from its own history (rewind) or from another run's (fork).
wandb client: a fork is in a new run's configuration; a rewind is a mutation of its own.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import Enum, StrEnum, auto
from typing import Any, Final

from parallel_hpo.server.values import RefusedError, merge_history_keys, read_object


class RunState(StrEnum):
    """A run's state; the values are what W&B's clients read."""

    PENDING = "pending"
    """Issued to an agent, or waiting to be issued again, and not started."""
    RUNNING = "running"
    FINISHED = "finished"
    FAILED = "failed"
    CRASHED = "crashed"
    KILLED = "killed"
    PREEMPTING = "preempting"
    PREEMPTED = "preempted"


class RunEvent(Enum):
    """An event of a run."""

    STARTED = auto()
    """`wandb.init()` reached the server, for a new run or to resume it."""
    ACTIVITY = auto()
    """Data or a sign of life arrived, without an end."""
    PREEMPTING = auto()
    EXITED_WELL = auto()
    EXITED_BADLY = auto()
    EXITED_BY_REQUEST = auto()
    """It failed after a stop request, or was interrupted by Ctrl-C."""
    WENT_SILENT = auto()
    WENT_SILENT_BY_REQUEST = auto()
    """It timed out after a stop request: its process ended without a message."""
    GIVEN_UP = auto()
    """It was delivered `heartbeat.DELIVERIES` times and never started."""
    REASSIGNED = auto()
    """A preempted run goes to another agent."""
    OWNER_FINISHED = auto()
    OWNER_CRASHED = auto()
    OWNER_KILLED = auto()
    OWNER_FAILED = auto()
    REQUEUED = auto()
    """Its owner requeued it (`run.update_state("pending")`)."""
    WRITTEN_OFF = auto()
    """Its owner gave it up (`run.update_state("failed")`)."""


class IllegalRunMoveError(Exception):
    """The event is illegal in the run's state; nothing was changed."""


def _row(event: RunEvent, **targets: RunState) -> dict[tuple[RunState, RunEvent], RunState]:
    return {(RunState(old), event): new for old, new in targets.items()}


_S = RunState
_E = RunEvent
REPORTED_BY_RUN: Final = frozenset({_S.FINISHED, _S.FAILED, _S.KILLED})


def _all_to(event: RunEvent, target: RunState) -> dict[tuple[RunState, RunEvent], RunState]:
    """Return the moves of an event that leads from every state to `target`."""
    return {(old, event): target for old in RunState}


def _owner_moves(event: RunEvent, target: RunState) -> dict[tuple[RunState, RunEvent], RunState]:
    """Return the moves by which an owner ends a run, unless the run has reported its own end."""
    return {(old, event): old if old in REPORTED_BY_RUN else target for old in RunState}


MOVES: Final[Mapping[tuple[RunState, RunEvent], RunState]] = {
    # wandb.init() with the id of an ended run resumes it.
    **_all_to(_E.STARTED, _S.RUNNING),
    (_S.PREEMPTING, _E.STARTED): _S.PREEMPTING,
    **_row(
        _E.ACTIVITY,
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
    **_row(_E.REASSIGNED, preempted=_S.PENDING, pending=_S.PENDING),
    **_owner_moves(_E.OWNER_FINISHED, _S.FINISHED),
    **_owner_moves(_E.OWNER_CRASHED, _S.CRASHED),
    # wandb client: `wandb sync` ends an interrupted run with exit code 1; its owner knows better.
    (_S.FAILED, _E.OWNER_CRASHED): _S.CRASHED,
    **_owner_moves(_E.OWNER_KILLED, _S.KILLED),
    **_owner_moves(_E.OWNER_FAILED, _S.FAILED),
    **_row(_E.REQUEUED, running=_S.PENDING, failed=_S.PENDING, crashed=_S.PENDING, preempted=_S.PENDING),
    **_row(_E.WRITTEN_OFF, pending=_S.FAILED, running=_S.FAILED),
}

OPEN: Final = frozenset({_S.PENDING, _S.RUNNING, _S.PREEMPTING})
"""States in which a run's agent must still report its end."""


def silence(*, stop_requested: bool) -> RunEvent:
    """Return the event of a run that has timed out."""
    return RunEvent.WENT_SILENT_BY_REQUEST if stop_requested else RunEvent.WENT_SILENT


def move(state: RunState, event: RunEvent) -> RunState:
    """Return the state that follows `state` on `event`; IllegalRunMoveError if the move is not listed."""
    try:
        return MOVES[state, event]
    except KeyError:
        raise IllegalRunMoveError(f"a run that is {state} can't be {event.name.lower()}") from None


def exit_event(exitcode: int, *, stop_requested: bool) -> RunEvent:
    """Return the event of an exit code: 0 well; 255 (wandb client: Ctrl-C) by request; else badly."""
    if exitcode == 0:
        return RunEvent.EXITED_WELL
    return RunEvent.EXITED_BY_REQUEST if stop_requested or exitcode == 255 else RunEvent.EXITED_BADLY


METRIC: Final = "_step"
_STEPS: Final = 2**63 - 1


@dataclass(frozen=True, slots=True)
class BranchPoint:
    """A step of a run's history; rows up to and including the step are kept."""

    run: str
    step: int

    @property
    def end(self) -> int:
        """The first step that is cut off."""
        return self.step + 1


@dataclass(frozen=True, slots=True)
class Past:
    """The keys of a history, and the last value of each."""

    history_keys: dict[str, Any]
    summary: dict[str, Any]


def read_branch_point(config: Mapping[str, Any]) -> BranchPoint | None:
    """Return the branch point in a run's configuration, or None; RefusedError for an invalid one."""
    internal = config.get("_wandb")
    value = internal.get("value") if isinstance(internal, Mapping) else None
    named = value.get("branch_point") if isinstance(value, Mapping) else None
    if not named:
        return None
    run = named.get("run_id") if isinstance(named, Mapping) else None
    if not isinstance(run, str):
        raise RefusedError("the configuration's branch_point must name a run_id and a step")
    return BranchPoint(run, read_step(named.get("step")))


def read_step(value: Any) -> int:
    """Return a client's step, rounded down as the client does; RefusedError for an invalid one."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or not math.isfinite(value) or not 0 <= value < _STEPS:
        raise RefusedError(f"{METRIC}={value}: a run branches off at a step of its history, 0 or more")
    return int(value)


def read_past(rows: Iterable[Mapping[str, Any]]) -> Past:
    """Return the keys and last values of history rows."""
    summary: dict[str, Any] = {}

    def noted() -> Iterator[Mapping[str, Any]]:
        for row in rows:
            summary.update(row)
            yield row

    return Past(merge_history_keys({}, noted()), summary)


def merged_summary(inherited: str | None, summary: str) -> str:
    """Return a run's summary: the client's values over those that the run inherited.

    wandb client: it begins with an empty summary after a fork or a rewind.
    """
    if inherited is None:
        return summary
    return json.dumps(read_object(inherited, "summary") | read_object(summary, "summary"))
