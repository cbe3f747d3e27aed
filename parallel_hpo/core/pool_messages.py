"""Messages between the machines of a sweep and its pool, as JSON over HTTP.

    coordinator ─ create, stop, lost, news ─▶ pool ◀─ join, exchange, leave ─ node, one on each machine

The pool is in the database of a parallel_hpo server, and does the counting: a run has started once the pool
has confirmed it, and ended once its node has told the pool. A node may repeat a message whose answer was
lost; repetitions change nothing.

A *node* is the session of one machine. It gets a new number, its *epoch*, each time it joins. Its *lease*
lasts for `node_timeout_s` after each exchange; without a lease the node is *gone*, and its started runs are
requeued.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from functools import cache
from math import isfinite
from typing import TYPE_CHECKING, Any, Final, TypeVar, cast

from parallel_hpo.core.messages import AttemptEnd, SweepEnd
from parallel_hpo.core.types import Parameters, RunId

if TYPE_CHECKING:
    from pydantic import TypeAdapter

POOL: Final = "/hpo/pools/{sweep}"
"""Path of a sweep's pool; below it are /join, /exchange, /leave, /stop, /lost, /news and /events."""
FENCE: Final = 0.9
"""Part of the lease after which a node without an answer kills all its runs, by its own monotonic clock."""
OVER_WORD: Final = "over: "
"""Refusal of a start of a run that has ended; its outcome follows."""
ELSEWHERE: Final = "on elsewhere"
WAITING: Final = "it waits, and is not this machine's"
KNOWN_TO_POOL: Final = (OVER_WORD, ELSEWHERE, WAITING)
"""Starts of refusals of runs that the pool knows; all other refusals mean that no new run may start now."""
AT_ONCE: Final = 500
"""Maximum events in one answer, some hundred KB; fewer mean that there are no more."""
NODE_TOKEN: Final = "PARALLEL_HPO_NODE"
"""Variable by which a coordinator recognizes a node that it started: eight hexadecimal digits for `mark`."""
POOL_URL: Final = "PARALLEL_HPO_POOL_URL"
POOL_KEY: Final = "PARALLEL_HPO_POOL_KEY"
"""Variables with the pool's address and key, if it is on another server than the sweep."""
OF_A_NODE: Final = (NODE_TOKEN, POOL_URL, POOL_KEY)
"""Variables of a node itself: neither keys of the section, nor for its workers."""
_NO_PART_OF_A_NAME: Final = re.compile(r"[^\w.-]")


@dataclass(frozen=True, slots=True)
class Versions:
    """Versions that must be the same on all machines of a sweep."""

    python: str
    """Minor version, as 3.11."""
    wandb: str
    parallel_hpo: str


@dataclass(frozen=True, slots=True, kw_only=True)
class NewPool:
    """Open the pool of a sweep; if it exists, give it this count and keep its runs."""

    path: str
    """Path of the sweep, `entity/project/id`."""
    backend: str
    """Server of the sweep: `local` (the pool's own server) or `wandb`."""
    url: str
    """URL of the sweep's page."""
    count: int | None
    """Number of runs over all machines; None: as many as the sweep gives."""
    node_timeout_s: float
    section: Mapping[str, Any]
    """The nodes' `hpo` section, as in a configuration file."""
    configuration: Mapping[str, Any] = field(default_factory=dict)
    """The sweep configuration on its server."""
    main: str = field(default="", repr=False)
    """A pickled PickledMain, Target or Program in Base64; '': each node has its own."""
    versions: Versions
    has_coordinator: bool
    """Whether there is a coordinator, without which for `node_timeout_s` the sweep is interrupted."""


@dataclass(frozen=True, slots=True)
class PoolState:
    """Progress of a pool that was opened."""

    started: int
    ended: int
    events: int
    """The last event's number."""
    living: int
    """Number of nodes with a lease."""


@dataclass(frozen=True, slots=True)
class Join:
    """A machine's request to take part."""

    name: str
    """Name of the machine; the pool adds -2, -3, … if another living node has it."""
    versions: Versions
    workers: int
    mark: str = ""
    """The session's owner id, with which its workers' labels begin; it ends with NODE_TOKEN's value."""
    directory: str = ""
    """Folder of its logs on that machine."""
    previous: int = 0
    """The session's previous epoch, of which nothing runs any more: its runs may be requeued at once.
    0: none, or unknown; such an epoch ends with its lease."""
    deadline_s: float | None = None
    """Seconds until this machine's own deadline; None: the pool's holds."""


@dataclass(frozen=True, slots=True)
class Joined:
    """The machine takes part; its lease begins now."""

    epoch: int
    name: str
    key: str = field(repr=False)
    """The node's key, from which it derives its workers' keys; refused once its epoch is gone."""


@dataclass(frozen=True)
class PooledRun:
    """A run with its next attempt, as it moves between machines, and a summary of earlier attempts."""

    run_id: RunId
    parameters: Parameters
    attempt: int
    spent_s: float = 0.0
    """Duration of its earlier attempts in seconds, as far as known."""
    deaths: int = 0
    """Number of attempts ended by a worker's death; the loss of a machine does not count."""
    preemptions: int = 0
    """Number of attempts that marked themselves as preempting and left."""
    seed: int | None = None
    """The same for all its attempts; None: the sweep has none."""

    def pooled(self) -> PooledRun:
        """Return what moves between machines of a run that also has a place on one."""
        return PooledRun(
            run_id=self.run_id,
            parameters=self.parameters,
            attempt=self.attempt,
            spent_s=self.spent_s,
            deaths=self.deaths,
            preemptions=self.preemptions,
            seed=self.seed,
        )


@dataclass(frozen=True, slots=True)
class PooledStart:
    """An attempt waits to enter `main` until the pool confirms its start."""

    run: PooledRun
    slot: int
    device: str | None = None


@dataclass(frozen=True, slots=True)
class PooledEnd(AttemptEnd):
    """An attempt has ended; if it is final, so has its run.

    One that is final and resumable was stopped by its machine, and is requeued.
    """

    run_id: RunId
    attempt: int | None
    """None: no attempt was running."""
    final: bool = True
    slot: int | None = None

    @property
    def kind(self) -> str:
        """Kind of the event that logs it."""
        if not self.final:
            return "attempt_ended"
        return "handed_on" if self.resumable else "ended"


@dataclass(frozen=True, slots=True)
class Exchange:
    """A node's regular request, at least ten per lease, and at once if there is something new."""

    epoch: int
    number: int
    """Number of the exchange, repetitions included; if it is not the newest, the pool reads only `ends`.
    Unconfirmed starts and ends are repeated in the next exchange."""
    wants: int
    """Number of unstarted runs that it would like to hold, those that it holds included; after `over` only
    new ones."""
    wants_again: int = 0
    """Number of these that may be requeued runs: those that it holds, and one for each idle worker.
    A second one would wait behind the first, while another machine is idle."""
    starts: tuple[PooledStart, ...] = ()
    ends: tuple[PooledEnd, ...] = ()
    over: str = ""
    """Why the sweep's own server gives no more runs, in words."""
    notices: tuple[Mapping[str, Any], ...] = ()
    """Notices for the coordinator's display, which may be lost."""
    workers: int = 0
    """Number of workers that take part now; 0: as many as when it joined."""


@dataclass(frozen=True, slots=True)
class Granted:
    """The pool's answer: the whole present state, so that the next answer replaces a lost one."""

    gone: bool = False
    """The epoch has ended: kill all runs, and join again."""
    granted: int = 0
    """Number of new runs that the node may start in total since it joined."""
    again: tuple[PooledRun, ...] = ()
    """Requeued runs that are assigned to the node and not started."""
    started: tuple[RunId, ...] = ()
    """Those of the exchange's `starts` that may enter `main`."""
    refused: Mapping[RunId, str] = field(default_factory=dict)
    """Those that may not, and why: ended, or running elsewhere."""
    each: int = 1
    """Maximum number of runs to lease to an idle worker at a time."""
    held: str = ""
    """Why no new run may start though the node need not leave, such as a deadline; '' if runs may start."""
    ends: SweepEnd | None = None
    """Why the node must leave; None: it need not."""


@dataclass(frozen=True, slots=True)
class PoolEvent:
    """An event in a pool; all events in order are all that a coordinator needs."""

    number: int
    at: float
    """Seconds since the epoch."""
    epoch: int | None
    """Epoch of the node; None: the pool itself."""
    kind: str
    """joined, started, attempt_ended, ended, handed_on, left, refused, stopped, complete, opened."""
    body: Mapping[str, Any]
    """joined: name, workers, mark, directory; started: a PooledStart; attempt_ended, ended,
    handed_on: a PooledEnd (of a gone node's runs with outcome `stopped`); left, refused: name and reason;
    stopped, complete: an Ending and name ''; opened: name '', reason and count."""


@dataclass(frozen=True, slots=True)
class PoolNews:
    """Events and notices that are new to the coordinator."""

    events: tuple[PoolEvent, ...]
    notices: tuple[tuple[int, int, Mapping[str, Any]], ...]
    """(number, epoch, notice)."""
    notice_number: int
    """Number to ask from the next time."""
    ends: SweepEnd | None
    living: int
    """Number of nodes with a lease."""
    running: int
    """Number of attempts that have started and not ended."""


@dataclass(frozen=True, slots=True)
class NodeLost:
    """An engine's report on a node's task: `returned` proves that nothing of it runs, else it is a hint."""

    name: str
    returned: bool
    reason: str = ""
    epoch: int | None = None
    """Epoch of the node, if known, so that a late report does not concern its successor."""


def machine_folder(name: str, epoch: int) -> str:
    """Return the name of a node's folder within the sweep's, on its machine."""
    return f"machine-{_NO_PART_OF_A_NAME.sub('_', name)}-{epoch}"


def version_problem(head: Versions, node: Versions, name: str) -> str | None:
    """Return how a machine's software differs from the coordinator's, or None."""
    unlike = [
        f"{what} {theirs} there and {ours} at the coordinator"
        for what, ours, theirs in _differences(asdict(head), asdict(node))
    ]
    return f"machine {name} can't join: {', '.join(unlike)}" if unlike else None


def version_differences(kept: Mapping[str, str] | None, here: Versions) -> str:
    """Return how the versions that a sweep was made with differ from those here; '' if they don't.

    `kept` has the fields of `Versions`; None: the sweep was made before versions were kept.
    """
    if kept is None:
        return f"a version of parallel_hpo that kept none ({here.parallel_hpo} here)"
    unlike = _differences(kept, asdict(here))
    return ", ".join(f"{what} {made} ({ours} here)" for what, made, ours in unlike)


def _differences(one: Mapping[str, str], other: Mapping[str, str]) -> Iterator[tuple[str, str, str]]:
    """Yield the programs whose versions differ, with both versions."""
    for name, title in (("python", "Python"), ("wandb", "wandb"), ("parallel_hpo", "parallel_hpo")):
        if one.get(name) != other.get(name):
            yield title, one.get(name, "unknown"), other.get(name, "unknown")


MessageT = TypeVar("MessageT")


def as_json(message: Any) -> Any:
    """Return a message as JSON values; texts and numbers of `main`'s may be anything."""
    return _plain(asdict(message))


def start_as_json(start: PooledStart) -> dict[str, Any]:
    """Return `as_json(start)`, in a fifth of its time: there is one for each run."""
    run = start.run
    return {
        "run": {
            "run_id": run.run_id,
            "parameters": _plain(run.parameters),
            "attempt": run.attempt,
            "spent_s": run.spent_s,
            "deaths": run.deaths,
            "preemptions": run.preemptions,
            "seed": run.seed,
        },
        "slot": start.slot,
        "device": start.device,
    }


def end_as_json(end: PooledEnd) -> dict[str, Any]:
    """Return `as_json(end)`, in a fifth of its time."""
    used = end.consumption
    return {
        "outcome": end.outcome,
        "reason": _plain(end.reason),
        "value": _plain(end.value),
        "duration_s": end.duration_s,
        "resumable": end.resumable,
        "traceback": _plain(end.traceback),
        "consumption": {
            "device_hours": used.device_hours,
            "device_kwh": used.device_kwh,
            "cpu_kwh": used.cpu_kwh,
        },
        "run_id": end.run_id,
        "attempt": end.attempt,
        "final": end.final,
        "slot": end.slot,
    }


def _plain(value: Any) -> Any:
    """Replace what JSON or a database can't hold: lone surrogates, NUL, NaN and infinities."""
    if isinstance(value, str):
        if value.isprintable():
            return value
        return value.encode(errors="replace").decode().replace("\0", "\N{REPLACEMENT CHARACTER}")
    if isinstance(value, float):
        return value if isfinite(value) else None
    if isinstance(value, Mapping):
        return {_plain(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    return value


def read(kind: type[MessageT], body: object) -> MessageT:
    """Return the message of that kind; ValueError names the wrong field."""
    from pydantic import ValidationError

    try:
        message: MessageT = _adapter(cast(Any, kind)).validate_python(body)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise ValueError(f"{kind.__name__}.{where}: {first['msg']}") from None
    return message


@cache
def _adapter(kind: Any) -> TypeAdapter[Any]:
    from pydantic import TypeAdapter  # slow to import, and most servers have no pool

    return TypeAdapter(kind)
