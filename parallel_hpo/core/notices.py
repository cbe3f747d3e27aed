"""What the supervisor tells whoever watches it (`ui`, or user code): an `Observer` takes each notice."""

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
    """Where a browser sees it; of the embedded server it lets in one browser, within minutes."""
    backend: str
    count: int | None
    workers: int
    shares: tuple[int, ...]
    """The planned runs of each slot; empty where the count has no limit."""
    folder: str
    metric: str | None
    goal: str
    method: str = ""
    machines: str = ""
    """Which machines it runs on, in words, where they are many; its workers are not counted then."""


@dataclass(frozen=True, slots=True)
class WorkerNamed:
    """What people call the worker of a slot, of a sweep on many machines: `gpu2/w0`."""

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
    """What its worker computes on, as its mask has it; '' where that is the processor."""


@dataclass(frozen=True, slots=True)
class RunProgressed:
    """A run has logged something; told once a second at the most."""

    slot: Slot
    progress: Progress


@dataclass(frozen=True, slots=True)
class MemoryUsed:
    """A worker's process tree holds so much memory, in MB of 2**20 bytes; told every few seconds."""

    slot: Slot
    used_mb: float


@dataclass(frozen=True, slots=True)
class RunOver:
    """An attempt is over; `again` says whether the run will be run again."""

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
    """A line that a worker's process tree printed; the line end is cut off."""

    slot: Slot
    text: str


@dataclass(frozen=True, slots=True)
class Message:
    """A sentence for the user; `warning` where something is not as they asked."""

    text: str
    warning: bool = False


@dataclass(frozen=True, slots=True)
class SweepOver:
    """The sweep's summary has been written: nothing changes what became of it."""

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
"""Under this name JSON has a notice's class; its fields stand beside it."""


def to_json(notice: Notice) -> dict[str, Any]:
    """Return a notice as what JSON can hold."""
    return {_KIND: type(notice).__name__, **asdict(notice)}


def from_json(body: Mapping[str, Any]) -> Notice:
    """Return the notice that `to_json` made this of; ValueError where it is none that this version knows."""
    fields = dict(body)
    kind = _KINDS.get(str(fields.pop(_KIND, "")))
    if kind is None:
        raise ValueError(f"{str(body.get(_KIND))[:40]!r} is no kind of notice")
    notice: Notice = read(kind, fields)
    return notice


def shows_memory(observer: Observer) -> bool:
    """Say whether to look at what workers hold in memory: not where an observer's `shows_memory` is false."""
    return bool(getattr(observer, "shows_memory", True))
