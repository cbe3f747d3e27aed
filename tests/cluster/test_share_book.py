"""Which of a pool's events are a share's."""

from __future__ import annotations

from typing import Any

from parallel_hpo.cluster.shares import ShareEvents
from parallel_hpo.core.pool_messages import PoolEvent


def numbers(*events: tuple[int | None, str, dict[str, Any]]) -> list[int]:
    """Return which of these are those of share 1/2, by their place."""
    share = ShareEvents("1/2")
    made = (PoolEvent(number, 0.0, *event) for number, event in enumerate(events))
    return [event.number for event in made if share.has(event)]


def joined(epoch: int, share: str) -> tuple[int, str, dict[str, Any]]:
    return epoch, "joined", {"name": "m", "share": share}


def started(epoch: int, run: str) -> tuple[int, str, dict[str, Any]]:
    return epoch, "started", {"run": {"run_id": run}}


def ended(epoch: int, run: str) -> tuple[int, str, dict[str, Any]]:
    return epoch, "ended", {"run_id": run}


def test_a_share_has_what_its_machines_did_and_no_others() -> None:
    assert numbers(
        (None, "opened", {"name": ""}),
        joined(1, "1/2"),
        joined(2, "2/2"),
        joined(3, ""),
        started(1, "a"),
        started(2, "b"),
        ended(2, "b"),
        ended(1, "a"),
        (1, "left", {"name": "m", "reason": "done"}),
    ) == [1, 4, 7, 8]


def test_a_run_that_it_has_begun_stays_its_own_on_another_machine() -> None:
    assert numbers(joined(1, "1/2"), joined(3, ""), started(1, "a"), started(3, "a"), ended(3, "a")) == [
        0,
        2,
        3,
        4,
    ]
