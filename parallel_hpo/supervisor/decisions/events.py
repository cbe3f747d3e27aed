"""What can happen to a sweep: the loop makes these, `decide` takes them."""

from __future__ import annotations

from dataclasses import dataclass

from parallel_hpo.protocol.messages import Report, RunStarted
from parallel_hpo.protocol.pool import Granted
from parallel_hpo.supervisor.devices.handover import DeviceClear
from parallel_hpo.supervisor.devices.occupancy import DeviceMemorySeen
from parallel_hpo.supervisor.devices.presence import OwnersSeen
from parallel_hpo.words import Outcome, RunId, Slot, StopKind


@dataclass(frozen=True, slots=True)
class Opened:
    """The sweep exists: let the workers start."""


@dataclass(frozen=True, slots=True)
class Reported:
    """A worker said something."""

    slot: Slot
    report: Report


@dataclass(frozen=True, slots=True)
class Delivered:
    """A slot's agent was given a run that the ledger knows: the server has not heard of its end, or wants
    another attempt of it. None of the new runs of a count."""

    slot: Slot
    report: RunStarted
    attempts: int
    """Those that the ledger has of it."""
    outcome: Outcome | None
    """How it ended; None: it has not, or is to be resumed."""
    seed: int | None = None
    """That which it had."""


@dataclass(frozen=True, slots=True)
class Died:
    """A worker's process tree is gone; `cause` names the death: SIGKILL, exit 3."""

    slot: Slot
    cause: str
    jitter: float = 0.0


@dataclass(frozen=True, slots=True)
class SpawnDenied:
    """The system had no process, descriptor or room for the slot's worker; `why` in words."""

    slot: Slot
    why: str


@dataclass(frozen=True, slots=True)
class StopAsked:
    """A signal or the user's code asks the sweep to end."""

    kind: StopKind
    reason: str
    exit_code: int


@dataclass(frozen=True, slots=True)
class SweepSeen:
    """The server's answer to what became of the sweep: `over` is empty while it goes on."""

    over: str


@dataclass(frozen=True, slots=True)
class PoolAnswered:
    """The sweep's pool has said what this machine may do."""

    answer: Granted


@dataclass(frozen=True, slots=True)
class StartGranted:
    """The pool has counted the attempt that waits in a slot: it may start."""

    slot: Slot
    run_id: RunId


@dataclass(frozen=True, slots=True)
class StartDelayed:
    """The record of a slot's start had to wait for room on the disk: the run enters `main` only now."""

    slot: Slot


@dataclass(frozen=True, slots=True)
class StartRefused:
    """The pool does not let the run start that the slot's worker was about to; `why` in its words."""

    slot: Slot
    run_id: RunId
    why: str


@dataclass(frozen=True, slots=True)
class OutputSeen:
    """The slot's process tree printed something."""

    slot: Slot


@dataclass(frozen=True, slots=True)
class MemorySeen:
    """The slot's process tree holds so much memory."""

    slot: Slot
    used_mb: float


@dataclass(frozen=True, slots=True)
class ScaleAsked:
    """Another terminal wants so many workers from now on."""

    workers: int


@dataclass(frozen=True, slots=True)
class DrainAsked:
    """Another terminal wants the slot's worker to finish its run and leave for good."""

    slot: Slot


@dataclass(frozen=True, slots=True)
class TimePassed:
    """A deadline of the view has come."""


Event = (
    Opened
    | Reported
    | Delivered
    | Died
    | SpawnDenied
    | StopAsked
    | SweepSeen
    | PoolAnswered
    | StartGranted
    | StartRefused
    | StartDelayed
    | OutputSeen
    | MemorySeen
    | DeviceMemorySeen
    | DeviceClear
    | OwnersSeen
    | ScaleAsked
    | DrainAsked
    | TimePassed
)
