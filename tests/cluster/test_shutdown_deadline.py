"""How long machines that are to leave are waited for."""

from __future__ import annotations

import pytest

from parallel_hpo.cluster.loop import LEAVE_TIMEOUT_S, ShutdownDeadline, is_empty, shutdown_deadline
from parallel_hpo.core.messages import SweepEnd
from parallel_hpo.core.pool_messages import AT_ONCE, PoolEvent, PoolNews
from parallel_hpo.core.types import StopKind

GRACE_S = 30.0


def ends(stop: StopKind | None) -> SweepEnd:
    return SweepEnd("reason", 0, stop)


def after(*stops: StopKind | None) -> ShutdownDeadline:
    """What is waited for after these ends, a second apart, the first at 100 s."""
    known: ShutdownDeadline | None = None
    for second, stop in enumerate(stops):
        known = shutdown_deadline(known, ends(stop), 100.0 + second, grace_s=GRACE_S)
    assert known is not None
    return known


@pytest.mark.parametrize(
    ("stop", "by"),
    [
        (None, 100 + LEAVE_TIMEOUT_S),
        (StopKind.DRAIN, None),
        (StopKind.INTERRUPT, 100 + GRACE_S + LEAVE_TIMEOUT_S),
        (StopKind.PREEMPT, 100 + GRACE_S + LEAVE_TIMEOUT_S),
        (StopKind.KILL, 100 + LEAVE_TIMEOUT_S),
    ],
)
def test_the_kind_of_a_stop_says_how_long(stop: StopKind | None, by: float | None) -> None:
    assert after(stop).by == by


def test_what_is_known_already_moves_no_deadline() -> None:
    assert after(None, None, None).by == 100 + LEAVE_TIMEOUT_S
    assert after(StopKind.KILL, StopKind.INTERRUPT).ends.stop is StopKind.KILL


def test_a_second_stop_can_only_shorten_the_wait() -> None:
    assert after(StopKind.DRAIN, StopKind.INTERRUPT).by == 101 + GRACE_S + LEAVE_TIMEOUT_S
    assert after(StopKind.INTERRUPT, StopKind.KILL).by == 101 + LEAVE_TIMEOUT_S
    assert after(StopKind.INTERRUPT, None).by == 101 + LEAVE_TIMEOUT_S
    assert after(StopKind.KILL, None).by == 100 + LEAVE_TIMEOUT_S


def news(ends: SweepEnd | None, living: int, events: int = 0) -> PoolNews:
    event = PoolEvent(1, 0.0, None, "opened", {})
    return PoolNews((event,) * events, (), 0, ends, living, 0)


def test_a_pool_is_empty_once_it_ends_without_nodes_and_all_events_were_received() -> None:
    assert is_empty(news(ends(None), 0, events=AT_ONCE - 1))
    assert not is_empty(news(None, 0))
    assert not is_empty(news(ends(None), 1))
    assert not is_empty(news(ends(None), 0, events=AT_ONCE))
