"""Waits that a stop cuts short, in each phase of a sweep."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import Final

import pytest

from parallel_hpo.core.types import StopKind
from parallel_hpo.session.decide.events import StopAsked
from parallel_hpo.session.signals import Control
from parallel_hpo.session.waiting import AT_ONCE_S, KILLED_S, REPORT_S, StopAware, StoppedError

STOP: Final = StopAsked(StopKind.INTERRUPT, "SIGINT", 130)
DRAIN: Final = StopAsked(StopKind.DRAIN, "SIGUSR1", 75)
GRACE_S: Final = 30.0
SOON_S: Final = 20.0


@dataclass
class Clock:
    now: float = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def control(clock: Clock) -> Iterator[Control]:
    with closing(Control(clock)) as control:
        yield control


@pytest.fixture
def waits(control: Control) -> StopAware:
    return StopAware(control, grace_s=GRACE_S)


@pytest.fixture
def never() -> Iterator[threading.Event]:
    """Event that a request to a hanging server waits for."""
    event = threading.Event()
    yield event
    event.set()


def is_at_an_end(waits: StopAware) -> bool:
    try:
        waits.sleep(0)
    except StoppedError:
        return True
    return False


def test_a_call_returns_or_raises_what_its_function_does(waits: StopAware) -> None:
    assert waits.call(lambda: 42) == 42
    with pytest.raises(ZeroDivisionError):
        waits.call(lambda: 1 // 0)


@pytest.mark.parametrize("stop", [STOP, DRAIN])
def test_a_stop_before_the_sweep_is_open_ends_a_wait_at_once(
    waits: StopAware, control: Control, never: threading.Event, stop: StopAsked
) -> None:
    timer = threading.Timer(0.05, control.put, [stop])
    timer.start()
    with pytest.raises(StoppedError):
        waits.call(never.wait)
    timer.join()
    assert control.take() == [stop]


def test_no_call_begins_after_a_stop(waits: StopAware, control: Control) -> None:
    begun: list[int] = []
    control.put(STOP)
    with pytest.raises(StoppedError):
        waits.call(lambda: begun.append(1))
    assert begun == []


def test_other_rings_of_the_bell_do_not_end_a_wait(
    waits: StopAware, control: Control, never: threading.Event
) -> None:
    """A signal that the host program handles itself rings, too."""
    timers = [threading.Timer(0.02 * number, control.ring) for number in range(5)]
    for timer in timers:
        timer.start()
    threading.Timer(0.2, never.set).start()
    assert waits.call(lambda: never.wait(SOON_S))
    assert control.take() == []
    for timer in timers:
        timer.join()


def test_a_ring_during_a_wait_is_left_to_the_loop(waits: StopAware, control: Control) -> None:
    waits.call(control.ring)
    control.wait(SOON_S)  # it rings


@pytest.mark.parametrize("then", ["its grace is over", "another stop"])
def test_after_opening_a_first_stop_leaves_the_grace_time_and_a_second_none(
    waits: StopAware, control: Control, clock: Clock, then: str
) -> None:
    waits.sweep_is_open()
    control.put(STOP)
    clock.now += GRACE_S - 1
    assert not is_at_an_end(waits)
    if then == "another stop":
        control.put(STOP)
    else:
        clock.now += 1
    assert is_at_an_end(waits)


@pytest.mark.parametrize(
    ("kind", "ran_on_s", "left_s"),
    [
        (StopKind.INTERRUPT, 1, GRACE_S - 1),
        (StopKind.INTERRUPT, GRACE_S, REPORT_S),
        (StopKind.PREEMPT, 10, GRACE_S - 10),
        (StopKind.DRAIN, 1000, GRACE_S),
        (StopKind.KILL, 1, AT_ONCE_S),
    ],
)
def test_the_time_after_the_runs_depends_on_the_stop_and_the_grace_time_used(
    waits: StopAware, control: Control, clock: Clock, kind: StopKind, ran_on_s: float, left_s: float
) -> None:
    waits.sweep_is_open()
    control.put(StopAsked(kind, "", 0))
    control.take()
    clock.now += ran_on_s
    waits.runs_have_ended(kind)
    clock.now += left_s - 0.5
    assert not is_at_an_end(waits)
    clock.now += 0.5
    assert is_at_an_end(waits)


def test_another_stop_after_the_runs_have_ended_takes_effect_at_once(
    waits: StopAware, control: Control
) -> None:
    waits.sweep_is_open()
    control.put(STOP)
    control.take()
    waits.runs_have_ended(StopKind.INTERRUPT)
    control.put(STOP)
    assert is_at_an_end(waits)


def test_waits_after_a_complete_sweep_end_only_by_a_stop(
    waits: StopAware, control: Control, clock: Clock
) -> None:
    waits.sweep_is_open()
    waits.runs_have_ended(None)
    clock.now += 10_000
    assert not is_at_an_end(waits)
    control.put(STOP)
    clock.now += GRACE_S
    assert is_at_an_end(waits)


def test_after_a_stop_processes_have_the_grace_time_and_a_moment_more_to_exit(
    waits: StopAware, control: Control, clock: Clock
) -> None:
    assert waits.time_for_runs_to_end() is None
    control.put(DRAIN)
    assert waits.time_for_runs_to_end() is None
    control.put(STOP)
    clock.now += 1
    assert waits.time_for_runs_to_end() == GRACE_S - 1 + KILLED_S
    control.put(STOP)
    assert waits.time_for_runs_to_end() == KILLED_S
    clock.now += KILLED_S
    with pytest.raises(StoppedError):
        waits.time_for_runs_to_end()
