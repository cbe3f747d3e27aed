"""Notices of a session for its observer: `display`, or user code."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Final, get_args

from parallel_hpo.core.messages import MissingMetric, Progress
from parallel_hpo.core.pool_messages import read
from parallel_hpo.core.types import Outcome, Parameters, RunId, Slot, SlotState, SweepPath


@dataclass(frozen=True, slots=True)
class SweepOpened:
    """The sweep exists and its workers are about to start."""

    path: SweepPath
    url: str
    """URL of its page; on the embedded server a one-time login link, valid for minutes."""
    backend: str
    count: int | None
    workers: int
    shares: tuple[int, ...]
    """The planned runs of each slot; empty without a count."""
    folder: str
    metric: str | None
    goal: str
    method: str = ""
    machines: str = ""
    """The machines, in words, if it runs on many; `workers` is 0 then."""


@dataclass(frozen=True, slots=True)
class WorkerNamed:
    """The displayed name of a slot's worker on many machines, as `gpu2/w0`."""

    slot: Slot
    name: str


@dataclass(frozen=True, slots=True)
class RunBegan:
    """An attempt of a run has entered `main`."""

    slot: Slot
    run_id: RunId
    attempt: int
    parameters: Parameters = field(default_factory=dict)
    device: str = ""
    """The worker's device mask; '' for the processor."""


@dataclass(frozen=True, slots=True)
class RunProgressed:
    """A run has logged something; sent at most once a second."""

    slot: Slot
    progress: Progress


@dataclass(frozen=True, slots=True)
class MemoryUsed:
    """Memory of a worker's process tree in MB of 2**20 bytes; sent every few seconds."""

    slot: Slot
    used_mb: float


@dataclass(frozen=True, slots=True)
class RunOver:
    """An attempt has ended; `again` says whether its run is retried."""

    slot: Slot
    run_id: RunId
    attempt: int
    outcome: Outcome
    reason: str
    value: float | None
    duration_s: float
    again: bool = False


@dataclass(frozen=True, slots=True)
class WorkerChanged:
    """A worker's slot has a new state."""

    slot: Slot
    state: SlotState
    reason: str = ""


@dataclass(frozen=True, slots=True)
class OutputLine:
    """A line that a worker's process tree printed, without its line end."""

    slot: Slot
    text: str


@dataclass(frozen=True, slots=True)
class Message:
    """A sentence for the user."""

    text: str
    warning: bool = False


@dataclass(frozen=True, slots=True)
class SweepOver:
    """The sweep's summary has been written; its result is final."""

    exit_code: int


Notice = (
    SweepOpened
    | WorkerNamed
    | RunBegan
    | RunProgressed
    | MemoryUsed
    | RunOver
    | MissingMetric
    | WorkerChanged
    | OutputLine
    | Message
    | SweepOver
)
Observer = Callable[[Notice], None]

_KINDS: Final[Mapping[str, Any]] = {kind.__name__: kind for kind in get_args(Notice)}
_KIND: Final = "notice"
"""Key of a notice's class in its JSON object, beside its fields."""


def to_json(notice: Notice) -> dict[str, Any]:
    """Return a notice as JSON values."""
    return {_KIND: type(notice).__name__, **asdict(notice)}


def from_json(body: Mapping[str, Any]) -> Notice:
    """Return the notice from `to_json`'s output; ValueError if this version does not know it."""
    fields = dict(body)
    kind = _KINDS.get(str(fields.pop(_KIND, "")))
    if kind is None:
        raise ValueError(f"{str(body.get(_KIND))[:40]!r} is not a kind of notice")
    notice: Notice = read(kind, fields)
    return notice


def shows_memory(observer: Observer) -> bool:
    """Return whether to measure workers' memory: not if the observer's `shows_memory` is false."""
    return bool(getattr(observer, "shows_memory", True))
