"""What the machines of a sweep say to its pool, as JSON over HTTP: nodes join, draw runs, start and end them.

    head ─ create, stop, lost, news ─▶ pool ◀─ join, exchange, leave ─ node, one on each machine

The pool is in the database of a sweep server of ours, and is what is counted: a run has started once the pool
has answered so, and ended once the pool has heard it from the node that owns it. All that a node tells may
be told again, after an answer that was lost, and changes nothing then.

Words: a *node* is the supervisor of one machine; its *epoch* is its number in the pool, a new one each time
it joins; its *lease* lasts for `node_timeout_s` after each exchange. A node without a lease is *gone*: its
started runs are run again elsewhere. All are frozen; none does anything.

How a message becomes JSON, and comes back as what it was.
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
"""Where a sweep's pool is; below it are /join, /exchange, /leave, /stop, /lost, /news and /events."""
FENCE: Final = 0.9
"""A node without an answer for this part of its lease kills all that it runs, by its own monotonic clock."""
OVER_WORD: Final = "over: "
"""A start is refused so that is a run's which has ended; how it ended follows."""
ELSEWHERE: Final = "on elsewhere"
WAITING: Final = "it waits, and is not this machine's"
KNOWN_TO_POOL: Final = (OVER_WORD, ELSEWHERE, WAITING)
"""Refusals of runs that the pool knows begin so; all others mean that a new run may not start now."""
AT_ONCE: Final = 500
"""Events in one answer, at the most: some hundred KB. Fewer say that there are no others."""
NODE_TOKEN: Final = "PARALLEL_HPO_NODE"
"""The variable by which a head knows again the node that it starts: eight hexadecimal digits for its mark."""
POOL_URL: Final = "PARALLEL_HPO_POOL_URL"
POOL_KEY: Final = "PARALLEL_HPO_POOL_KEY"
"""The variables that say where the pool is and its key, where it is elsewhere than the sweep."""
OF_A_NODE: Final = (NODE_TOKEN, POOL_URL, POOL_KEY)
"""The variables that are a node's own: neither keys of the section, nor for its workers."""
_NO_PART_OF_A_NAME: Final = re.compile(r"[^\w.-]")


@dataclass(frozen=True, slots=True)
class Versions:
    """What must be the same on all machines of a sweep."""

    python: str
    """Its minor version, as 3.11."""
    wandb: str
    parallel_hpo: str


@dataclass(frozen=True, slots=True, kw_only=True)
class NewPool:
    """A sweep for many machines; told again, it is opened again with this count, and keeps its runs."""

    path: str
    """The sweep's, `entity/project/id`."""
    backend: str
    """Where the sweep itself is: `local`, on the server that the pool is on, or `wandb`."""
    url: str
    """The sweep's page."""
    count: int | None
    """Runs over all machines; None: for as long as the sweep gives any."""
    node_timeout_s: float
    section: Mapping[str, Any]
    """The `hpo` section of the nodes, as a configuration file has it."""
    configuration: Mapping[str, Any] = field(default_factory=dict)
    """The sweep's own, as its server has it."""
    main: str = field(default="", repr=False)
    """A pickled PickledMain, Target or Program in Base64; '': each node brings its own."""
    versions: Versions
    headed: bool
    """A head stands behind it: where that is not heard for `node_timeout_s`, the sweep is interrupted."""


@dataclass(frozen=True, slots=True)
class PoolState:
    """How far a pool is that was opened."""

    started: int
    ended: int
    events: int
    """The last event's number."""
    living: int
    """Nodes that have a lease."""


@dataclass(frozen=True, slots=True)
class Join:
    """A machine wants to take part."""

    name: str
    """What people call the machine; no two living nodes have one name: the pool adds -2, -3, …"""
    versions: Versions
    workers: int
    mark: str = ""
    """The supervisor's; the labels of its workers begin with it. It ends with what NODE_TOKEN gave it."""
    directory: str = ""
    """Where it keeps its logs, on that machine."""
    previous: int = 0
    """The epoch that this supervisor had before: nothing of it runs any more, so that its runs may go on
    at once. 0: none, or not known; such an epoch ends with its lease."""
    share: str = ""
    """Which share of the count is performed here, as 2/4; '': whatever is left."""
    share_count: int = 0
    """How many runs that share has."""


@dataclass(frozen=True, slots=True)
class Joined:
    """It does, with a lease that begins now."""

    epoch: int
    name: str
    key: str = field(repr=False)
    """The node's own, of which it derives those of its workers; refused once its epoch is gone."""


@dataclass(frozen=True, slots=True)
class PooledRun:
    """A run as it travels from machine to machine: what an attempt needs, and what was before it."""

    run_id: RunId
    parameters: Parameters
    attempt: int
    spent_s: float = 0.0
    """What its earlier attempts took, where that is known."""
    deaths: int = 0
    """Attempts that its workers' deaths have cost; a machine's end is none."""
    preemptions: int = 0
    seed: int | None = None
    """Its own; None: the sweep has none."""


@dataclass(frozen=True, slots=True)
class PooledStart:
    """An attempt is about to enter `main`; it may once the pool has answered so."""

    run: PooledRun
    slot: int
    device: str | None = None


@dataclass(frozen=True, slots=True)
class PooledEnd(AttemptEnd):
    """An attempt is over, and the run with it where it is final.

    One that is final and resumable was stopped by its machine, and is handed on.
    """

    run_id: RunId
    attempt: int | None
    """None: no attempt was under way."""
    final: bool = True
    slot: int | None = None


@dataclass(frozen=True, slots=True)
class Exchange:
    """What a node says at least ten times within its lease, and at once where it has something to tell."""

    epoch: int
    number: int
    """Counts the node's exchanges, also those that tell the same again: of one that is no newer than the
    pool has seen, only `ends` are heeded. What no answer has settled is told again in the next one."""
    wants: int
    """Runs that it would like to hold and not have started, those that it holds included; after
    `over` only new ones."""
    wants_again: int = 0
    """So many may be runs that were on before: those that it holds, and one for each worker that has nothing
    to do. A second one would wait there behind the first, while another machine is idle."""
    starts: tuple[PooledStart, ...] = ()
    ends: tuple[PooledEnd, ...] = ()
    over: str = ""
    """Why the sweep's own server gives no more runs, in words."""
    notices: tuple[Mapping[str, Any], ...] = ()
    """For whoever watches at the head; nothing is decided by them, and they may be lost."""


@dataclass(frozen=True, slots=True)
class Granted:
    """What the pool answers: all of it as it is now, so that a lost answer is made good by the next."""

    gone: bool = False
    """The epoch is over: kill all, and join anew."""
    granted: int = 0
    """New runs that the node may have started in all, since it joined."""
    again: tuple[PooledRun, ...] = ()
    """Runs that are the node's to run again, and that it has not started."""
    started: tuple[RunId, ...] = ()
    """Those of the exchange's `starts` that may enter `main`."""
    refused: Mapping[RunId, str] = field(default_factory=dict)
    """Those that may not, and why: over, or on elsewhere."""
    each: int = 1
    """So many runs an idle worker is to be given at a time, at most."""
    ends: SweepEnd | None = None
    """The node is to leave."""


@dataclass(frozen=True, slots=True)
class PoolEvent:
    """Something that happened in a pool: events, in their order, are all that a head must know."""

    number: int
    at: float
    """Seconds since the epoch."""
    epoch: int | None
    """Whose node's; None: the pool's own."""
    kind: str
    """joined, started, attempt_ended, ended, handed_on, left, refused, stopped, complete, opened."""
    body: Mapping[str, Any]
    """joined: name, workers, mark, directory, share; started: a PooledStart; attempt_ended, ended,
    handed_on: a PooledEnd (of a gone node's runs with outcome `stopped`); left, refused: name and reason;
    stopped, complete: an Ending and name ''; opened: name '', reason and count."""


@dataclass(frozen=True, slots=True)
class PoolNews:
    """What a head has not heard of yet."""

    events: tuple[PoolEvent, ...]
    notices: tuple[tuple[int, int, Mapping[str, Any]], ...]
    """(number, epoch, notice)."""
    notice_number: int
    """To ask from the next time."""
    ends: SweepEnd | None
    living: int
    """Nodes that have a lease."""
    running: int
    """Attempts that have started and not ended."""


@dataclass(frozen=True, slots=True)
class NodeLost:
    """What an engine says of a node's task: `returned` proves that nothing of it runs, else it is a hint."""

    name: str
    returned: bool
    reason: str = ""
    epoch: int | None = None
    """Which node of that name, where that is known: a word that comes late is then none of its successor."""


def machine_folder(name: str, epoch: int) -> str:
    """Return the name of the folder, within the sweep's on that machine, that a node's epoch keeps."""
    return f"machine-{_NO_PART_OF_A_NAME.sub('_', name)}-{epoch}"


def why_unlike(head: Versions, node: Versions, name: str) -> str:
    """Return what of a machine's software differs from the head's, naming both; '' where nothing does."""
    unlike = [
        f"{what} {theirs} there and {ours} at the head"
        for what, ours, theirs in _differences(asdict(head), asdict(node))
    ]
    return f"machine {name} can't join: {', '.join(unlike)}" if unlike else ""


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


Told = TypeVar("Told")


def as_json(told: Any) -> Any:
    """Return a message as what JSON can hold: what `main` has printed or raised may be anything."""
    return _plain(asdict(told))


def _plain(value: Any) -> Any:
    """Return a value without what JSON or a database can't hold: half characters, numbers that are none."""
    match value:
        case str():
            return value.encode(errors="replace").decode().replace("\0", "\N{REPLACEMENT CHARACTER}")
        case float():
            return value if isfinite(value) else None
        case Mapping():
            return {_plain(key): _plain(inner) for key, inner in value.items()}
        case list() | tuple():
            return [_plain(inner) for inner in value]
    return value


def read(kind: type[Told], body: object) -> Told:
    """Return the message of that kind; ValueError names the field that is wrong."""
    from pydantic import ValidationError

    try:
        told: Told = _adapter(cast(Any, kind)).validate_python(body)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise ValueError(f"{kind.__name__}.{where}: {first['msg']}") from None
    return told


@cache
def _adapter(kind: Any) -> TypeAdapter[Any]:
    from pydantic import TypeAdapter  # slow to import, and most servers are told of no pool

    return TypeAdapter(kind)
