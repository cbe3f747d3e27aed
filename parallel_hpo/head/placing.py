"""On which machines a node is to be started now; not endlessly where nodes end at once. Pure.

A machine whose node has ended gets another one: it has been cut off and came back, or its engine took it
away for a while. After a failure the next one waits, each time twice as long.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from parallel_hpo.errors import ExitCode
from parallel_hpo.machines.base import NodeTaskEnd

WELL_AFTER_S: Final = 60.0
"""A node that has worked so long could be started: what ended it says nothing of the next one."""
MOST_FAILURES: Final = 3
BACKOFF_S: Final = 1.0
BACKOFF_MAX_S: Final = 15.0
"""A machine that comes back works again within 30 s, joining included."""
ORDERLY: Final = (ExitCode.COMPLETE, ExitCode.RESUMABLE)
"""Exit codes of a node that left as it was asked to, or because it had been cut off."""


@dataclass(frozen=True, slots=True)
class NodePlace:
    """What is known of nodes on one machine; times are on the clock of `now`."""

    has_node: bool = False
    since: float = 0.0
    ended_soon: int = 0
    """Nodes in a row that ended before they had worked for long."""
    failed_soon: int = 0
    """Those of them that failed."""
    again_at: float = 0.0
    given_up: str = ""
    """Why it gets no node any more; '' while it may."""


Places = Mapping[str, NodePlace]


def due(places: Places, found: Sequence[str], now: float, *, most: int | None) -> list[str]:
    """Return the machines, of those that were found, on which a node is to be started now.

    `most` nodes at a time; machines on which fewer have failed come first.
    """
    known = {name: places.get(name, NodePlace()) for name in found}
    ready = [
        name
        for name, place in known.items()
        if not place.has_node and not place.given_up and place.again_at <= now
    ]
    ready.sort(key=lambda name: known[name].failed_soon)
    return ready if most is None else ready[: max(0, most - sum(place.has_node for place in places.values()))]


def after_start(places: Places, name: str, now: float) -> Places:
    """Return what is known once a node is started on a machine."""
    return {**places, name: replace(places.get(name, NodePlace()), has_node=True, since=now)}


def after_end(places: Places, name: str, end: NodeTaskEnd, now: float) -> Places:
    """Return what is known once a node has ended, or its engine has lost it."""
    place = places.get(name, NodePlace())
    if now - place.since >= WELL_AFTER_S:
        place = replace(place, ended_soon=0, failed_soon=0)
    failed = end.returned and end.exit_code not in ORDERLY
    place = replace(
        place,
        has_node=False,
        ended_soon=place.ended_soon + 1,
        failed_soon=place.failed_soon + 1 if failed else 0,
        again_at=now + min(BACKOFF_MAX_S, BACKOFF_S * 2**place.ended_soon),
    )
    if place.failed_soon >= MOST_FAILURES or (failed and end.exit_code == ExitCode.USAGE):
        place = replace(place, given_up=end.error or f"its node ended with exit code {end.exit_code}")
    return {**places, name: place}


def why_none(places: Places, found: Sequence[str]) -> str:
    """Return why no machine can have a node any more, in words; '' while one has or may have one."""
    if not found or any(place.has_node for place in places.values()):
        return ""
    reasons = {name: places.get(name, NodePlace()).given_up for name in found}
    return "; ".join(f"{name}: {why}" for name, why in reasons.items()) if all(reasons.values()) else ""
