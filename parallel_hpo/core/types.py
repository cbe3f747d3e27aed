"""Types that all packages share: ids, outcomes, slot states, stops and targets.

"Words" in docs/counting.md defines the terms.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final, NewType, Self, TypeVar

from parallel_hpo.core.errors import UsageError

RunId = NewType("RunId", str)
SweepId = NewType("SweepId", str)
Slot = NewType("Slot", int)
Parameters = Mapping[str, Any]
RecordT = TypeVar("RecordT")

NEVER_INITIALISED = "main never called wandb.init()"
"""Reason of a run whose `main` returned without `wandb.init()`."""
DISABLED = "wandb was disabled in main: nothing of the run was recorded"
"""Reason of a run whose `main` disabled wandb by its mode."""


class Outcome(StrEnum):
    """How a run ended; "What counts" in docs/counting.md defines each."""

    FINISHED = "finished"
    FAILED = "failed"
    STOPPED = "stopped"
    CRASHED = "crashed"


OPEN = "open"
"""Stands for the outcome of a run that has not ended."""


class SlotState(StrEnum):
    """States of a worker's slot, named as in Supervisor."""

    STOPPED = "stopped"
    STARTING = "starting"
    RUNNING = "running"
    BACKOFF = "backoff"
    STOPPING = "stopping"
    EXITED = "exited"
    FATAL = "fatal"


class StopKind(StrEnum):
    """How to stop a sweep early."""

    DRAIN = "drain"
    """Let current runs finish, start no more."""
    INTERRUPT = "interrupt"
    """Raise KeyboardInterrupt in each running `main`."""
    PREEMPT = "preempt"
    """Interrupt, and mark the runs as preempting."""
    KILL = "kill"
    """Kill the process trees at once."""

    def is_harder_than(self, other: StopKind | None) -> bool:
        """Return whether it stops runs more abruptly than `other`; None is no stop."""
        return _HARDNESS[self] > (0 if other is None else _HARDNESS[other])


_HARDNESS: Final = {StopKind.DRAIN: 1, StopKind.INTERRUPT: 2, StopKind.PREEMPT: 2, StopKind.KILL: 3}


@dataclass(frozen=True, slots=True)
class Target:
    """A `main` given by name: `file` is a module's dotted name or a path ending in `.py`."""

    file: str
    function: str
    argv: tuple[str, ...] = ()
    """The target's `sys.argv[1:]`."""

    def __str__(self) -> str:
        return f"{self.file}:{self.function}"


@dataclass(frozen=True, slots=True)
class Program:
    """A `main` that is a separate program: a sweep's `program` and `command`, as in W&B."""

    file: str
    command: tuple[str, ...] = ()
    """Arguments and macros; empty: W&B's default."""

    def __str__(self) -> str:
        return self.file or " ".join(self.command)


def sweep_id_of(named: str) -> SweepId:
    """Return the sweep id in a user's text: an id, a path, a folder or the URL of a page.

    Raises UsageError if there is none, such as for a script's unset variable.
    """
    sweep_id = named.partition("?")[0].rstrip("/").rpartition("/")[2]
    if not sweep_id.strip():
        raise UsageError(f"{named!r} names no sweep: give the sweep's id, which `run` has printed")
    return SweepId(sweep_id)


@dataclass(frozen=True, slots=True)
class SweepPath:
    """A sweep's W&B entity, project and id."""

    entity: str
    project: str
    sweep_id: SweepId

    def __str__(self) -> str:
        return f"{self.entity}/{self.project}/{self.sweep_id}"

    @classmethod
    def parse(cls, path: str) -> Self:
        """Return the path written as entity/project/id; the inverse of `str`."""
        entity, project, sweep_id = path.split("/")
        return cls(entity, project, SweepId(sweep_id))


def changed(record: RecordT, **changes: Any) -> RecordT:
    """Return `dataclasses.replace(record, **changes)` of a dataclass without slots, in a tenth of its time.

    The views of decisions and counts are frozen values that each event replaces, many times a run.
    `__post_init__` is not called.
    """
    fields = vars(record)
    if not changes.keys() <= fields.keys():
        raise TypeError(f"{type(record).__name__} has no field {min(changes.keys() - fields.keys())}")
    new = object.__new__(type(record))
    vars(new).update(fields, **changes)
    return new
