"""How long a head waits for its machines once they are to leave. Pure.

nothing left    FAREWELL_S: whoever is not heard in that time has nothing that counts
drain           as long as runs take
interrupt       the grace period, and FAREWELL_S
kill            FAREWELL_S
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from parallel_hpo.protocol.ends import Ending
from parallel_hpo.protocol.pool import AT_ONCE, PoolNews
from parallel_hpo.words import StopKind

FAREWELL_S: Final = 5.0
"""Nodes hear of an end within 2 s, and leave in a second once nothing runs."""


@dataclass(frozen=True, slots=True)
class Leaving:
    """The machines are to leave; times are monotonic seconds."""

    ends: Ending
    by: float | None
    """From then on nobody is waited for; None: as long as it takes."""


def leaving(before: Leaving | None, ends: Ending, now: float, *, grace_s: float) -> Leaving:
    """Return what is waited for after an end was asked or told; one that is known changes nothing."""
    if before is not None and before.ends.stop in (ends.stop, StopKind.KILL):
        return before
    match ends.stop:
        case StopKind.DRAIN:
            by = None
        case StopKind.INTERRUPT | StopKind.PREEMPT:
            by = now + grace_s + FAREWELL_S
        case _:
            by = now + FAREWELL_S
    if before is not None and before.by is not None:
        by = before.by if by is None else min(before.by, by)
    return Leaving(ends, by)


def is_empty(news: PoolNews) -> bool:
    """Whether all has been heard of a pool in which nobody is any more."""
    return news.ends is not None and news.living == 0 and len(news.events) < AT_ONCE
