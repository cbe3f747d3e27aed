"""How a person's browser is let in to look: tickets and passes, both derived from a server's master key.

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
    return _mac(master, "tickets")


def issue(key: str, now: float) -> str:
    """Return a new ticket, issued at `now` (seconds since the epoch)."""
    head = f"{int(now * 1000)}-{secrets.token_hex(8)}"
    return f"{head}-{_mac(key, head)[:_SIGNATURE]}"


def with_ticket(address: str, key: str, now: float) -> str:
    """Return an address without a query with a new ticket in it."""
    return f"{address}?{urlencode({PARAMETER: issue(key, now)})}"


def read(key: str, text: str) -> Ticket | None:
    """Return the ticket that was made with this key, whatever its age; None: it was not."""
    parts = _TICKET.fullmatch(text)
    if parts is None or not hmac.compare_digest(_mac(key, f"{parts[1]}-{parts[2]}")[:_SIGNATURE], parts[3]):
        return None
    return Ticket(int(parts[1]) / 1000, parts[2])


def viewing_pass(master: str, now: float) -> str:
    """Return what lets a browser look from `now` on."""
    until = str(int(now + PASS_VALID_S))
    return f"{until}-{_mac(_mac(master, 'viewing'), until)}"


def may_view(master: str, given: str, now: float) -> bool:
    """Say whether that is a pass of this server, and still good."""
    parts = _PASS.fullmatch(given)
    if parts is None or not hmac.compare_digest(_mac(_mac(master, "viewing"), parts[1]), parts[2]):
        return False
    return int(parts[1]) > now


def _mac(key: str, words: str) -> str:
    return hmac.new(key.encode(), words.encode(), hashlib.sha256).hexdigest()
