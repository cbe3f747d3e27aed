"""The resolvers' common ground: the request's context, pages of connections, and clients' ids.

Ids of artifacts and collections are Base64, as the client expects in URLs.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, Generic, TypeVar

from graphql import GraphQLResolveInfo

from parallel_hpo.server.context import AppContext, Caller
from parallel_hpo.server.files.storage import FileRef
from parallel_hpo.server.store.database import Transaction
from parallel_hpo.server.store.listing import CachedListing
from parallel_hpo.server.values import RefusedError

Resolver = Callable[..., Any]
Node = TypeVar("Node")
Info = GraphQLResolveInfo
_MAX_PER_PAGE = 10_000
_MAX_ROWS_PER_PAGE = 1_000
"""Maximum rows of a page that may be kilobytes each: writing an answer as JSON blocks all other requests."""


@dataclass(frozen=True, slots=True)
class Deadline:
    """The time limit of a request."""

    clock: Callable[[], float]
    at: float

    def check(self) -> None:
        """Raise RefusedError if it has passed."""
        if self.clock() > self.at:
            raise RefusedError("the query takes too long: request less at once, by filters or smaller pages")


@dataclass(slots=True)
class Context:
    """One request: its caller, and a transaction for reading that begins with the first read.

    So a mutation's answer is read after its own transaction was committed.
    """

    app: AppContext
    caller: Caller
    begin: Callable[[], Transaction]
    deadline: Deadline
    variables: Mapping[str, Any]
    """The variables of the request."""
    begun: Transaction | None = None
    listing: CachedListing | None = None
    """The listing that was made for this request."""
    must_last: bool = False
    """Whether the request's changes must be on the disk before the answer is sent."""

    def transaction(self) -> Transaction:
        """Return the transaction, begun if needed."""
        if self.begun is None:
            self.begun = self.begin()
        return self.begun


@dataclass(frozen=True, slots=True)
class Edge(Generic[Node]):
    """An entry of a page."""

    node: Node
    cursor: str


@dataclass(frozen=True, slots=True)
class PageInfo:
    """The cursor of the next page."""

    end_cursor: str | None
    has_next_page: bool


@dataclass(frozen=True, slots=True)
class Page(Generic[Node]):
    """A page of a connection."""

    edges: tuple[Edge[Node], ...]
    page_info: PageInfo
    total_count: int | None = None


@dataclass(frozen=True, slots=True)
class Span:
    """Which part of a list a page is to show; `listing` is the name of the kept list that it is a part of."""

    begin: int
    number: int
    listing: str | None = None

    @classmethod
    def of(cls, after: str | None, first: int | None) -> Span:
        """Return the `first` rows after a cursor; RefusedError for a foreign cursor."""
        offset, _, listing = (after or "0").partition(".")
        number = _MAX_ROWS_PER_PAGE if first is None else max(0, min(first, _MAX_ROWS_PER_PAGE))
        return cls(_cursor(offset), number, listing or None)

    def page(self, nodes: Sequence[Node | None], listing: str | None = None) -> Page[Node]:
        """Return a page of nodes, of which one more than `number` was queried; None: a deleted one."""
        suffix = "" if listing is None else f".{listing}"
        placed = [(node, f"{self.begin + i + 1}{suffix}") for i, node in enumerate(nodes[: self.number])]
        edges = tuple(Edge(node, cursor) for node, cursor in placed if node is not None)
        return Page(edges, PageInfo(placed[-1][1] if placed else None, len(nodes) > self.number))


def page(nodes: list[Node], after: str | None, first: int | None) -> Page[Node]:
    """Return the `first` nodes, or all, after the cursor `after`, which counts nodes."""
    begin = 0 if not after else _cursor(after)
    end = len(nodes) if first is None else begin + max(0, min(first, _MAX_PER_PAGE))
    edges = tuple(Edge(node, str(begin + i + 1)) for i, node in enumerate(nodes[begin:end]))
    return Page(edges, PageInfo(edges[-1].cursor if edges else None, end < len(nodes)), len(nodes))


def _cursor(text: str) -> int:
    if not text.isascii() or not text.isdigit() or len(text) > 9:
        raise RefusedError(f"cursor {text[:40]!r} is not from this server")
    return int(text)


def reading(info: Info) -> Transaction:
    """Return the transaction in which this request reads."""
    return context(info).transaction()


def context(info: Info) -> Context:
    """Return the request's context."""
    value: Context = info.context
    return value


def iso(seconds: float | None) -> str | None:
    """Return a time in the format of W&B's clients."""
    if seconds is None:
        return None
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def renamed(attribute: str) -> Callable[[Any, Info], Any]:
    """Return a resolver of an attribute with another name in the schema."""
    return lambda source, _info: getattr(source, attribute)


def timed(attribute: str) -> Callable[[Any, Info], str | None]:
    """Return a resolver of a time."""
    return lambda source, _info: iso(getattr(source, attribute))


def constant(value: Any) -> Callable[[Any, Info], Any]:
    """Return a resolver of a constant."""
    return lambda _source, _info: value


def only(items: Iterable[Node]) -> list[dict[str, Node]]:
    """Return edges without cursors."""
    return [{"node": item} for item in items]


ARTIFACT: Final = "Artifact"
COLLECTION: Final = "ArtifactCollection"
_RUN: Final = "run:"
_FILE: Final = "file:"


def make_id(kind: str, key: int) -> str:
    """Return the client's id of an artifact or collection."""
    return base64.b64encode(f"{kind}:{key}".encode()).decode()


def key_of(kind: str, text: str) -> int:
    """Return the key in a client's id; RefusedError for a foreign id."""
    try:
        named, _, digits = base64.b64decode(text, validate=True).decode("ascii").partition(":")
    except (binascii.Error, ValueError):
        named = digits = ""
    if named != kind or not digits.isdigit() or len(digits) > 9:
        raise _foreign(f"{kind} id", text)
    return int(digits)


def make_run_id(key: int) -> str:
    """Return the client's id of a run."""
    return f"{_RUN}{key}"


def key_of_run(text: str) -> int:
    """Return the key in a run's id; RefusedError for a foreign id."""
    digits = text.removeprefix(_RUN)
    if not text.startswith(_RUN) or not digits.isascii() or not digits.isdigit() or len(digits) > 18:
        raise _foreign("run id", text)
    return int(digits)


def make_file_id(run_key: int, name: str) -> str:
    """Return the client's id of a run's file."""
    return f"{_FILE}{run_key}:{name}"


def file_of_id(text: str) -> FileRef:
    """Return the file of an id; RefusedError for a foreign id."""
    digits, colon, name = text.removeprefix(_FILE).partition(":")
    known = text.startswith(_FILE) and colon and digits.isascii() and digits.isdigit()
    if not known or len(digits) > 9:
        raise _foreign("file id", text)
    return FileRef(digits, name)


def _foreign(what: str, text: str) -> RefusedError:
    return RefusedError(f"{what} {text[:40]!r} is not from this server")
