"""The doctor on the way from a machine to a server: whether there is one, and whether their clocks agree.

The time is that which any HTTP answer has in its head, in whole seconds.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from email.utils import parsedate_to_datetime
from typing import Final

from urllib3.exceptions import HTTPError

from parallel_hpo.backend.door import connections_to
from parallel_hpo.doctor.findings import Finding, bad, good, warning
from parallel_hpo.doctor.questions import ServerToReach
from parallel_hpo.errors import BackendError

LIMIT_S: Final = 5.0
MOST_DIFFERENCE_S: Final = 2.0
HEALTH: Final = "/hpo/health"
"""Any answer will do: W&B's server has no such address, and says so."""
_NOBODYS: Final = (502, 503, 504)
"""What a proxy says where nobody is behind it."""


def examine_reach(
    server: ServerToReach, *, clock: Callable[[], float] = time.time, limit_s: float = LIMIT_S
) -> Iterator[Finding]:
    """Say whether a server answers here, and how far its clock is from this one."""
    sent = clock()
    try:
        head = _ask(server.url, limit_s)
    except BackendError as error:
        words = f"{server.what} at {server.url} can't be reached from here: {error}"
        yield bad("reach", words, "let this machine connect there: firewall, route, or a proxy's variables")
        return
    received = clock()
    yield good("reach", f"{server.what} at {server.url} answers")
    told = _time_in(head)
    if told is not None:
        yield _on_clock(clock_difference(told, sent, received), server.what)


def clock_difference(told: float, sent: float, received: float) -> float:
    """Return by how many seconds this clock is ahead of one that told a whole second between two moments.

    No more is said than is sure: what an answer took on its way is no difference.
    """
    ahead = (sent + received) / 2 - (told + 0.5)
    unsure = (received - sent) / 2
    return max(0.0, ahead - unsure) if ahead > 0 else min(0.0, ahead + unsure)


def _on_clock(ahead_s: float, what: str) -> Finding:
    way = "ahead of" if ahead_s > 0 else "behind"
    if abs(ahead_s) <= MOST_DIFFERENCE_S:
        return good("clock", f"within {MOST_DIFFERENCE_S:g} s of {what}")
    words = f"about {abs(ahead_s):.0f} s {way} {what}: times of runs will not fit together"
    return warning("clock", words, "let a time service (chrony, ntpd) set it on both")


def _ask(url: str, limit_s: float) -> Mapping[str, str]:
    """Return the head of any answer; BackendError: there is none."""
    try:
        answer = connections_to(url).request("GET", url.rstrip("/") + HEALTH, timeout=limit_s, retries=False)
    except (OSError, HTTPError) as error:
        raise BackendError(str(error)) from None
    if answer.status in _NOBODYS:
        raise BackendError(f"HTTP {answer.status} {answer.reason}")
    return answer.headers


def _time_in(head: Mapping[str, str]) -> float | None:
    try:
        return parsedate_to_datetime(head["Date"]).timestamp()
    except (KeyError, TypeError, ValueError):
        return None
