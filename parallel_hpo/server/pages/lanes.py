"""A timeline as charts draw it, of what ledgers say: a lane a worker, a bar an attempt, and marks. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from parallel_hpo.chronicle import Attempt, Incident, Performed
from parallel_hpo.words import RunId, Slot

Place = Mapping[tuple[str, Slot], int]
"""The lane of each share's slots."""


def lanes_of(shares: Sequence[Performed], goes_on: Callable[[RunId], bool]) -> dict[str, Any]:
    """Return lanes, bars and marks; times in seconds since the epoch.

    `goes_on` says whether a run, an attempt of which has no end, is performed now: else it was cut short.
    """
    lanes = [(share, slot) for share in shares for slot in share.slots]
    place = {(share.share, slot): number for number, (share, slot) in enumerate(lanes)}
    return {
        "lanes": [_lane(share, slot) for share, slot in lanes],
        "bars": [
            _bar(place[share.share, attempt.slot], attempt, goes_on)
            for share in shares
            for attempt in share.attempts
        ],
        "marks": [mark for share in shares for mark in (*_noted(share, place), *_retries(share, place))],
    }


def _lane(share: Performed, slot: Slot) -> dict[str, Any]:
    return {
        "name": share.name_of(slot),
        "machine": share.machine_of(slot),
        "device": _devices(share, slot),
    }


def _devices(share: Performed, slot: Slot) -> str | None:
    """Return the devices that a worker has had; None: none that is known."""
    found = {share.devices.get(each.run_id) for each in share.attempts if each.slot == slot}
    return ", ".join(sorted(device for device in found | {share.assigned.get(slot)} if device)) or None


def _bar(lane: int, attempt: Attempt, goes_on: Callable[[RunId], bool]) -> dict[str, Any]:
    lost = attempt.outcome is None and not goes_on(attempt.run_id)
    return {
        "lane": lane,
        "run": attempt.run_id,
        "attempt": attempt.attempt,
        "start": attempt.started_at,
        "end": attempt.started_at if lost else attempt.ended_at,
        "outcome": "cut short" if lost else attempt.outcome,
    }


def _noted(share: Performed, place: Place) -> Iterator[dict[str, Any]]:
    for mark in share.marks:
        for slot in _slots_of(share, mark):
            words = mark.reason or "a new process in its place"
            yield {"lane": place[share.share, slot], "at": mark.at, "kind": mark.kind, "text": words}


def _slots_of(share: Performed, mark: Incident) -> Iterator[Slot]:
    """Yield the slot that a mark is of; of a device's, those that it belongs to."""
    if mark.slot is not None:
        yield mark.slot
    else:
        yield from (slot for slot in share.slots if share.assigned.get(slot) == mark.device)


def _retries(share: Performed, place: Place) -> Iterator[dict[str, Any]]:
    """Yield a mark for each attempt of a run that had others before, with what became of the last one."""
    before: dict[RunId, str] = {}
    for attempt in share.attempts:
        if attempt.attempt > 1:
            lane, words = place[share.share, attempt.slot], before.get(attempt.run_id) or "another attempt"
            yield {"lane": lane, "at": attempt.started_at, "kind": "retry", "text": words}
        before[attempt.run_id] = attempt.reason
