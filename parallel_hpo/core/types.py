"""The words that all rooms share: ids, how runs end, the states of slots, what is asked of a sweep.

All are frozen; none does anything. Imports nothing of the package. See "Words" in docs/counting.md
for what each term means.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final, NewType

from parallel_hpo.core.errors import UsageError

RunId = NewType("RunId", str)
SweepId = NewType("SweepId", str)
Slot = NewType("Slot", int)
Parameters = Mapping[str, Any]

NEVER_INITIALISED = "main never called wandb.init()"
"""The reason of a run whose `main` returned without telling any server of it."""
DISABLED = "wandb was disabled in main: nothing of the run was recorded"
"""The same where it did so by a mode of wandb's."""


class Outcome(StrEnum):
    """How a run ended; "What counts" in docs/counting.md defines each."""

    FINISHED = "finished"
    FAILED = "failed"
    STOPPED = "stopped"
    CRASHED = "crashed"


OPEN = "open"
"""Said in an outcome's place of a run that is not over."""


class SlotState(StrEnum):
    """Where a worker's slot is in its life (the names are those of Supervisor)."""

    STOPPED = "stopped"
    STARTING = "starting"
    RUNNING = "running"
    BACKOFF = "backoff"
    STOPPING = "stopping"
    EXITED = "exited"
    FATAL = "fatal"


class StopKind(StrEnum):
    """What is asked of a sweep that ends early."""

    DRAIN = "drain"
    """Let the running runs finish, start none."""
    INTERRUPT = "interrupt"
    """Raise KeyboardInterrupt in each running `main`."""
    PREEMPT = "preempt"
    """Interrupt, and mark the runs as preempting."""
    KILL = "kill"
    """Kill the process trees at once."""

    def is_harder_than(self, other: StopKind | None) -> bool:
        """Whether it ends more at once than another; None is no stop at all."""
        return _HARDNESS[self] > (0 if other is None else _HARDNESS[other])


_HARDNESS: Final = {StopKind.DRAIN: 1, StopKind.INTERRUPT: 2, StopKind.PREEMPT: 2, StopKind.KILL: 3}


@dataclass(frozen=True, slots=True)
class Target:
    """A `main` given by name: `file` is a module's dotted name or a path ending in `.py`."""

    file: str
    function: str
    argv: tuple[str, ...] = ()
    """What the target finds in `sys.argv[1:]`."""

    def __str__(self) -> str:
        return f"{self.file}:{self.function}"


@dataclass(frozen=True, slots=True)
class Program:
    """A `main` that is a program of its own: a sweep's `program` and `command`, as W&B has them."""

    file: str
    command: tuple[str, ...] = ()
    """Words and macros; empty: W&B's default."""

    def __str__(self) -> str:
        return self.file or " ".join(self.command)


def sweep_id_of(named: str) -> SweepId:
    """Return a sweep's id, by which, or by whose path, folder or page's address, somebody named it.

    Raises UsageError where nothing is said, as by a script's variable that was never set.
    """
    sweep_id = named.partition("?")[0].rstrip("/").rpartition("/")[2]
    if not sweep_id.strip():
        raise UsageError(f"no sweep is named by {named!r}: its id is needed, which run has printed")
    return SweepId(sweep_id)


@dataclass(frozen=True, slots=True)
class SweepPath:
    """Where a sweep is: W&B's entity, project and sweep id."""

    entity: str
    project: str
    sweep_id: SweepId

    def __str__(self) -> str:
        return f"{self.entity}/{self.project}/{self.sweep_id}"
