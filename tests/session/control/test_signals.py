"""Signals and other stops of a session, and its waits that a stop cuts short in each phase of a sweep."""

from __future__ import annotations

import os
import select
import signal
import threading
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import Any, Final

import pytest

from parallel_hpo.core.errors import ExitCode
from parallel_hpo.core.types import StopKind
from parallel_hpo.session.decide.events import StopAsked
from parallel_hpo.session.signals import MEANINGS, Control, SignalsTaken, wait
from parallel_hpo.session.waiting import AT_ONCE_S, KILLED_S, REPORT_S, StopAware, StoppedError

STOP: Final = StopAsked(StopKind.INTERRUPT, "SIGINT", 130)
DRAIN: Final = StopAsked(StopKind.DRAIN, "SIGUSR1", 75)
GRACE_S: Final = 30.0
DEADLINE_S: Final = 20.0
CODES: Final = {
    signal.SIGINT: 130,
    signal.SIGTERM: 143,
    signal.SIGHUP: 129,
    signal.SIGUSR1: ExitCode.RESUMABLE,
    signal.SIGUSR2: ExitCode.RESUMABLE,
}


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


def handlers() -> dict[signal.Signals, Any]:
    return {number: signal.getsignal(number) for number in MEANINGS}


@pytest.fixture(autouse=True)
def _handlers_are_put_back() -> Iterator[None]:
    """Whatever a test does, the test runner has its own handlers after it."""
    before = handlers()
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def rings(control: Control, within_s: float = 0.0) -> bool:
    return bool(select.select([control.bell], [], [], within_s)[0])


def send(number: signal.Signals, control: Control) -> list[StopAsked]:
    """Send this process a signal from outside of Python; return the recorded stops."""
    os.kill(os.getpid(), number)
    assert rings(control, DEADLINE_S)
    return control.take()


@pytest.mark.parametrize("kind", StopKind)
def test_a_stop_asked_by_the_program_is_resumable(control: Control, kind: StopKind) -> None:
    control.stop(kind)
    assert control.take() == [StopAsked(kind, f"{kind.value} asked by the program", ExitCode.RESUMABLE)]


def test_stops_from_other_threads_ring_the_bell_and_none_is_lost(control: Control) -> None:
    threads = [threading.Thread(target=control.stop, args=(StopKind.DRAIN,)) for _ in range(20)]
    for thread in threads:
        thread.start()
    assert rings(control, DEADLINE_S)
    for thread in threads:
        thread.join()
    assert len(control.take()) == 20


def test_stops_are_taken_once_in_order_and_leave_the_bell_silent(control: Control) -> None:
    assert (rings(control), control.take()) == (False, [])
    control.stop(StopKind.DRAIN)
    control.stop(StopKind.KILL)
    assert [asked.kind for asked in control.take()] == [StopKind.DRAIN, StopKind.KILL]
    assert (rings(control), control.take()) == (False, [])


def test_ringing_never_blocks_even_if_the_bell_is_not_read(control: Control) -> None:
    for _ in range(100_000):
        control.ring()
    assert rings(control)
    assert (control.take(), rings(control)) == ([], False), "it asks for nothing"


def test_ringing_after_close_does_not_write_to_a_reused_file_descriptor() -> None:
    control = Control()
    control.close()
    reader, writer = os.pipe()
    try:
        control.ring()
        os.set_blocking(reader, False)
        with pytest.raises(BlockingIOError):
            os.read(reader, 1)
    finally:
        os.close(reader)
        os.close(writer)


@pytest.mark.parametrize("number", MEANINGS)
def test_a_signal_is_noted_with_its_meaning_name_and_code(control: Control, number: signal.Signals) -> None:
    signal.signal(number, signal.SIG_DFL)
    with SignalsTaken(control):
        for _ in range(2):
            assert send(number, control) == [StopAsked(MEANINGS[number], number.name, CODES[number])]


def test_the_callers_signal_handlers_are_restored_after_the_block_and_its_errors(control: Control) -> None:
    heard: list[int] = []
    signal.signal(signal.SIGUSR1, lambda number, frame: heard.append(number))
    before = handlers()
    with pytest.raises(ZeroDivisionError), SignalsTaken(control):
        assert signal.getsignal(signal.SIGUSR1) == before[signal.SIGUSR1] or 1 / 0
    assert handlers() == before
    signal.raise_signal(signal.SIGUSR1)
    assert (heard, control.take()) == ([signal.SIGUSR1], [])


def test_an_ignored_sighup_stays_ignored(control: Control) -> None:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    with SignalsTaken(control):
        os.kill(os.getpid(), signal.SIGHUP)
        assert send(signal.SIGUSR1, control) == [DRAIN]


def test_an_ignored_sigint_is_handled_inside_the_block(control: Control) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with SignalsTaken(control):
        assert send(signal.SIGINT, control) == [STOP]
    assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN


def test_no_signal_handler_is_installed_outside_the_main_thread(control: Control) -> None:
    before, during = handlers(), list[dict[signal.Signals, Any]]()

    def take() -> None:
        with SignalsTaken(control):
            during.append(handlers())

    thread = threading.Thread(target=take)
    thread.start()
    thread.join()
    assert during == [before]


def test_a_signal_that_another_thread_receives_ends_the_main_threads_wait(control: Control) -> None:
    """As the kernel does with a second signal while the first one is still pending."""
    release = threading.Event()
    other = threading.Thread(target=release.wait)
    other.start()
    try:
        with SignalsTaken(control):
            assert other.ident is not None
            timer = threading.Timer(0.1, signal.pthread_kill, (other.ident, signal.SIGUSR1))
            timer.start()
            ready, _, _ = select.select([control.bell], [], [], DEADLINE_S)
            timer.join()
    finally:
        release.set()
        other.join()
    assert ready
    assert [asked.reason for asked in control.take()] == ["SIGUSR1"]


@pytest.mark.parametrize("seconds", [0.0, 30 * 86400.0, 1e30, float("inf"), None])
def test_a_readable_file_is_returned_at_once_whatever_the_timeout(seconds: float | None) -> None:
    reader, writer = os.pipe()
    assert wait([reader], 0.0) == []
    os.write(writer, b"!")
    assert wait([reader], seconds) == [reader]
    os.close(writer)
    os.close(reader)


# --- waits --------------------------------------------------------------------------------


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
    assert waits.call(lambda: never.wait(DEADLINE_S))
    assert control.take() == []
    for timer in timers:
        timer.join()


def test_a_ring_during_a_wait_is_left_to_the_loop(waits: StopAware, control: Control) -> None:
    waits.call(control.ring)
    control.wait(DEADLINE_S)  # it rings


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


def test_another_stop_after_the_runs_have_ended_acts_at_once(waits: StopAware, control: Control) -> None:
    waits.sweep_is_open()
    control.put(STOP)
    control.take()
    waits.runs_have_ended(StopKind.INTERRUPT)
    control.put(STOP)
    assert is_at_an_end(waits)


def test_waits_after_a_complete_sweep_end_by_stops(waits: StopAware, control: Control, clock: Clock) -> None:
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
