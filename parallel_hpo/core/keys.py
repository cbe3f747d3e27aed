"""Keys of the embedded sweep server, all derived from one master key: for workers, nodes and browsers.

A worker key is `<label>.<sweep>-<hex HMAC-SHA256(master, text before the dash)>`, so the server knows its
holder and sweep without storing anything. A key without a sweep is valid for all; the session has one.

    master ─▶ sweep key: supervisor.<sweep> ─ for a machine that joins, or the sweep's coordinator
           ─▶ node key: n<epoch>.<sweep> ─▶ node's workers: <label>.<sweep>.n<epoch>, by the node itself
           ─▶ ticket key ─▶ ticket: a one-time login token in a printed URL, valid for minutes
           ─▶ pass: a session cookie of a browser, which may read pages only

`client` derives keys and prints URLs, `server` checks them. A holder of the ticket key (the session,
`parallel-hpo open`) can issue tickets only.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlencode

SUPERVISOR: Final = "supervisor"
"""Label of a session's own calls; labels of workers begin with a number."""
_WORD: Final = r"[A-Za-z0-9_]{1,64}"
_NAME: Final = re.compile(rf"({_WORD})(?:\.({_WORD})(?:\.n([0-9]{{1,9}}))?)?")
_NODE: Final = re.compile("n([0-9]{1,9})")
_MASTER_BYTES: Final = 20  # 40 hex digits: wandb's client refuses keys shorter than 40 characters


def new_master_key() -> str:
    """Return a fresh random master key of 40 hexadecimal digits."""
    return secrets.token_hex(_MASTER_BYTES)


@dataclass(frozen=True, slots=True)
class Holder:
    """The holder of a worker key."""

    label: str
    sweep: str | None
    """The sweep that the key is valid for; None: all."""
    node: int | None = None
    """Epoch of the holder's node; None: not on a node."""

    @property
    def is_node(self) -> bool:
        """Return whether the holder is a node itself."""
        return self.node is not None and self.label == _label_of(self.node)


def worker_key(master: str, label: str, sweep: str | None = None) -> str:
    """Return the key of the worker `label` for a sweep; ValueError if either is not a plain word."""
    for what, word in (("worker label", label), ("sweep", sweep)):
        if word is not None and not re.fullmatch(_WORD, word):
            raise ValueError(f"{what} {word!r}: 1 to 64 letters, digits or underscores")
    name = label if sweep is None else f"{label}.{sweep}"
    return f"{name}-{sign(master, name)}"


def node_key(master: str, sweep: str, epoch: int) -> str:
    """Return the key of the node with this epoch in a sweep's pool."""
    return worker_key(master, _label_of(epoch), sweep)


def node_worker_key(node_key: str, label: str) -> str:
    """Return the key of a node's worker, derived from the node's key; ValueError if that is not one."""
    node, _, sweep = node_key.partition("-")[0].partition(".")
    if not _NODE.fullmatch(node) or not re.fullmatch(_WORD, sweep):
        raise ValueError("this is not a node's key: a node gets its key when it joins a pool")
    if not re.fullmatch(_WORD, label):
        raise ValueError(f"worker label {label!r}: 1 to 64 letters, digits or underscores")
    name = f"{label}.{sweep}.{node}"
    return f"{name}-{sign(node_key, name)}"


def may_be_master_key(key: str) -> bool:
    """Return whether `key` looks like a master key."""
    return "-" not in key


def key_below(key: str, label: str, sweep: str | None = None) -> str:
    """Return the key that a holder of `key` gives to its worker; `key` itself if none can be derived."""
    if may_be_master_key(key):
        return worker_key(key, label, sweep)
    return node_worker_key(key, label) if _NODE.fullmatch(key.partition(".")[0]) else key


def is_master_key(master: str, key: str) -> bool:
    """Return whether `key` is the master key, compared in constant time."""
    return hmac.compare_digest(master.encode(), key.encode(errors="replace"))


def holder_of(master: str, key: str) -> Holder | None:
    """Return the holder of a key derived from `master`, or None."""
    name, dash, mac = key.partition("-")
    words = _NAME.fullmatch(name)
    if not dash or words is None:
        return None
    label, sweep, epoch = words.groups()
    maker = master if epoch is None else node_key(master, sweep, int(epoch))
    if not hmac.compare_digest(sign(maker, name).encode(), mac.encode(errors="replace")):
        return None
    own = _NODE.fullmatch(label) if sweep is not None and epoch is None else None
    node = epoch if own is None else own[1]
    return Holder(label, sweep, None if node is None else int(node))


def slot_of(label: str) -> int | None:
    """Return the slot in a label of the form `<mark>_<slot>_<number>`, which supervisors give, or None."""
    words = label.rsplit("_", 2)
    return int(words[1]) if len(words) == 3 and words[1].isdigit() and words[2].isdigit() else None


def _label_of(epoch: int) -> str:
    return f"n{epoch}"


def sign(key: str, words: str) -> str:
    """Return the signature of a text, in hexadecimal."""
    return hmac.new(key.encode(), words.encode(errors="replace"), hashlib.sha256).hexdigest()


PARAMETER: Final = "ticket"
"""Query parameter of a URL that holds a ticket."""
TICKET_VALID_S: Final = 600.0
"""Lifetime of a ticket in seconds, enough to see a URL and click on it."""
PASS_VALID_S: Final = 30 * 86400.0
_SIGNATURE: Final = 32
"""Length of a ticket's signature in hexadecimal digits: safe for minutes, short enough for people."""
_TICKET: Final = re.compile(r"(\d{1,15})-([0-9a-f]{16})-([0-9a-f]{32})", re.ASCII)
_PASS: Final = re.compile(r"(\d{1,12})-([0-9a-f]{64})", re.ASCII)


@dataclass(frozen=True, slots=True)
class Ticket:
    """A ticket whose signature is valid."""

    issued_at: float
    """Seconds since the epoch."""
    name: str
    """Unique name."""


def ticket_key(master: str) -> str:
    """Return the key that signs a server's tickets."""
    return sign(master, "tickets")


def issue(key: str, now: float) -> str:
    """Return a new ticket, issued at `now` (seconds since the epoch)."""
    head = f"{int(now * 1000)}-{secrets.token_hex(8)}"
    return f"{head}-{sign(key, head)[:_SIGNATURE]}"


def with_ticket(address: str, key: str, now: float) -> str:
    """Return `address`, which must have no query, with a new ticket."""
    return f"{address}?{urlencode({PARAMETER: issue(key, now)})}"


def read(key: str, text: str) -> Ticket | None:
    """Return the ticket if it was signed with this key, of any age; else None."""
    parts = _TICKET.fullmatch(text)
    if parts is None or not hmac.compare_digest(sign(key, f"{parts[1]}-{parts[2]}")[:_SIGNATURE], parts[3]):
        return None
    return Ticket(int(parts[1]) / 1000, parts[2])


def viewing_pass(master: str, now: float) -> str:
    """Return a pass for a browser's cookie, valid from `now` on."""
    until = str(int(now + PASS_VALID_S))
    return f"{until}-{sign(sign(master, 'viewing'), until)}"


def may_view(master: str, given: str, now: float) -> bool:
    """Return whether `given` is a valid pass of this server."""
    parts = _PASS.fullmatch(given)
    if parts is None or not hmac.compare_digest(sign(sign(master, "viewing"), parts[1]), parts[2]):
        return False
    return int(parts[1]) > now
