"""Keys of the embedded sweep server: one master key, and keys derived from it for workers.

A worker key is `<label>.<sweep>-<hex HMAC-SHA256(master, what stands before)>`, so the
server can tell whose a request is, and for which sweep it is good, without storing anything.
One without a sweep is good for all: a supervisor's calls have it. Both sides derive:
`backend` to hand keys out, `server` to check them. Imports nothing of the package.

    master ─▶ sweep key: supervisor.<sweep> ─ its holder joins, or is the sweep's head
           ─▶ node key: n<epoch>.<sweep> ─▶ node's workers: <label>.<sweep>.n<epoch>, by the node itself

How a person's browser is let in to look: tickets and passes, both derived from a server's master key.

    master key ─▶ ticket key ─▶ a ticket, in a printed address: for one use, within minutes
             └──▶ pass ─────── in the browser's cookie: to look at pages, and nothing else

Whoever has the ticket key (the supervisor, `parallel-hpo open`) may let people in, and can't do
anything else with it. Both sides derive: `backend` to print addresses, `server` to check. Imports nothing of
the package.
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
"""The label of a supervisor's own calls; those of workers begin with a number."""
_WORD: Final = r"[A-Za-z0-9_]{1,64}"
_NAME: Final = re.compile(rf"({_WORD})(?:\.({_WORD})(?:\.n([0-9]{{1,9}}))?)?")
_NODE: Final = re.compile("n([0-9]{1,9})")
_MASTER_BYTES: Final = 20  # 40 hex digits: wandb's client refuses keys shorter than 40 characters


def new_master_key() -> str:
    """Return a fresh random master key of 40 hexadecimal digits."""
    return secrets.token_hex(_MASTER_BYTES)


@dataclass(frozen=True, slots=True)
class Holder:
    """Whose a worker key is."""

    label: str
    sweep: str | None
    """The sweep that it is good for; None: all."""
    node: int | None = None
    """The epoch of the node whose it is, or whose worker's; None: no node's."""

    @property
    def is_node(self) -> bool:
        """Whether it is a node's own key."""
        return self.node is not None and self.label == _label_of(self.node)


def worker_key(master: str, label: str, sweep: str | None = None) -> str:
    """Return the key of the worker called `label` for a sweep; ValueError where either isn't a plain word."""
    for what, word in (("worker label", label), ("sweep", sweep)):
        if word is not None and not re.fullmatch(_WORD, word):
            raise ValueError(f"{what} {word!r}: 1 to 64 letters, digits or underscores")
    name = label if sweep is None else f"{label}.{sweep}"
    return f"{name}-{_mac(master, name)}"


def node_key(master: str, sweep: str, epoch: int) -> str:
    """Return the key of the node that has an epoch of a sweep's pool."""
    return worker_key(master, _label_of(epoch), sweep)


def node_worker_key(node_key: str, label: str) -> str:
    """Return the key of a node's worker, derived from the node's own; ValueError where that is none."""
    node, _, sweep = node_key.partition("-")[0].partition(".")
    if not _NODE.fullmatch(node) or not re.fullmatch(_WORD, sweep):
        raise ValueError("this is no node's key: a node's own is given to it when it joins a pool")
    if not re.fullmatch(_WORD, label):
        raise ValueError(f"worker label {label!r}: 1 to 64 letters, digits or underscores")
    name = f"{label}.{sweep}.{node}"
    return f"{name}-{_mac(node_key, name)}"


def may_be_master_key(key: str) -> bool:
    """Say whether `key` was derived from no other, by its form."""
    return "-" not in key


def key_below(key: str, label: str, sweep: str | None = None) -> str:
    """Return the key that a holder of `key` gives to its worker; the same where none can be derived of it."""
    if may_be_master_key(key):
        return worker_key(key, label, sweep)
    return node_worker_key(key, label) if _NODE.fullmatch(key.partition(".")[0]) else key


def is_master_key(master: str, key: str) -> bool:
    """Say, in constant time, whether `key` is the master key itself."""
    return hmac.compare_digest(master.encode(), key.encode(errors="replace"))


def holder_of(master: str, key: str) -> Holder | None:
    """Return for whom `key` was derived from `master`, or None where it was not."""
    name, dash, mac = key.partition("-")
    words = _NAME.fullmatch(name)
    if not dash or words is None:
        return None
    label, sweep, epoch = words.groups()
    maker = master if epoch is None else node_key(master, sweep, int(epoch))
    if not hmac.compare_digest(_mac(maker, name).encode(), mac.encode(errors="replace")):
        return None
    own = _NODE.fullmatch(label) if sweep is not None and epoch is None else None
    node = epoch if own is None else own[1]
    return Holder(label, sweep, None if node is None else int(node))


def _label_of(epoch: int) -> str:
    return f"n{epoch}"


def _mac(master: str, name: str) -> str:
    return hmac.new(master.encode(), name.encode(), hashlib.sha256).hexdigest()


PARAMETER: Final = "ticket"
"""Under which name an address has a ticket in its query."""
TICKET_VALID_S: Final = 600.0
"""Time enough to see the address and to click on it."""
PASS_VALID_S: Final = 30 * 86400.0
_SIGNATURE: Final = 32
"""Hexadecimal digits of a ticket's: nobody guesses them within minutes, and addresses are read by people."""
_TICKET: Final = re.compile(r"(\d{1,15})-([0-9a-f]{16})-([0-9a-f]{32})", re.ASCII)
_PASS: Final = re.compile(r"(\d{1,12})-([0-9a-f]{64})", re.ASCII)


@dataclass(frozen=True, slots=True)
class Ticket:
    """A genuine ticket."""

    issued_at: float
    """Seconds since the epoch."""
    name: str
    """No other ticket has it."""


def ticket_key(master: str) -> str:
    """Return the key by which tickets of a server are made."""
    return _ticket_mac(master, "tickets")


def issue(key: str, now: float) -> str:
    """Return a new ticket, issued at `now` (seconds since the epoch)."""
    head = f"{int(now * 1000)}-{secrets.token_hex(8)}"
    return f"{head}-{_ticket_mac(key, head)[:_SIGNATURE]}"


def with_ticket(address: str, key: str, now: float) -> str:
    """Return an address without a query with a new ticket in it."""
    return f"{address}?{urlencode({PARAMETER: issue(key, now)})}"


def read(key: str, text: str) -> Ticket | None:
    """Return the ticket that was made with this key, whatever its age; None: it was not."""
    parts = _TICKET.fullmatch(text)
    if parts is None or not hmac.compare_digest(
        _ticket_mac(key, f"{parts[1]}-{parts[2]}")[:_SIGNATURE], parts[3]
    ):
        return None
    return Ticket(int(parts[1]) / 1000, parts[2])


def viewing_pass(master: str, now: float) -> str:
    """Return what lets a browser look from `now` on."""
    until = str(int(now + PASS_VALID_S))
    return f"{until}-{_ticket_mac(_ticket_mac(master, 'viewing'), until)}"


def may_view(master: str, given: str, now: float) -> bool:
    """Say whether that is a pass of this server, and still good."""
    parts = _PASS.fullmatch(given)
    if parts is None or not hmac.compare_digest(
        _ticket_mac(_ticket_mac(master, "viewing"), parts[1]), parts[2]
    ):
        return False
    return int(parts[1]) > now


def _ticket_mac(key: str, words: str) -> str:
    return hmac.new(key.encode(), words.encode(), hashlib.sha256).hexdigest()
