from __future__ import annotations

import os
import select
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import pytest

from parallel_hpo.core.errors import ExitCode
from parallel_hpo.core.types import StopKind
from parallel_hpo.session.decide.events import StopAsked
from parallel_hpo.session.signals import MEANINGS, Control, SignalsTaken, wait

DEADLINE_S: Final = 10.0

CODES: Final = {
    signal.SIGINT: 130,
    signal.SIGTERM: 143,
    signal.SIGHUP: 129,
    signal.SIGUSR1: ExitCode.RESUMABLE,
    signal.SIGUSR2: ExitCode.RESUMABLE,
}


@pytest.fixture
def control() -> Iterator[Control]:
    control = Control()
    yield control
    control.close()


@pytest.fixture(autouse=True)
def _handlers_are_put_back() -> Iterator[None]:
    """Whatever a test does, the test runner has its own handlers after it."""
    before = {number: signal.getsignal(number) for number in MEANINGS}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@contextmanager
def handled_by(number: signal.Signals, handler: Any) -> Iterator[None]:
    before = signal.signal(number, handler)
    try:
        yield
    finally:
        signal.signal(number, before)


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
def test_a_signal_is_recorded_with_its_meaning_name_and_exit_code(
    control: Control, number: signal.Signals
) -> None:
    with handled_by(number, signal.SIG_DFL), SignalsTaken(control):
        for _ in range(2):
            assert send(number, control) == [StopAsked(MEANINGS[number], number.name, CODES[number])]


def test_the_callers_signal_handlers_are_restored_after_the_block_even_after_an_error(
    control: Control,
) -> None:
    heard: list[int] = []
    with handled_by(signal.SIGUSR1, lambda number, frame: heard.append(number)):
        before = {number: signal.getsignal(number) for number in MEANINGS}
        with pytest.raises(ZeroDivisionError), SignalsTaken(control):
            assert signal.getsignal(signal.SIGUSR1) == before[signal.SIGUSR1] or 1 / 0
        assert {number: signal.getsignal(number) for number in MEANINGS} == before
        signal.raise_signal(signal.SIGUSR1)
    assert (heard, control.take()) == ([signal.SIGUSR1], [])


def test_an_ignored_sighup_stays_ignored(control: Control) -> None:
    with handled_by(signal.SIGHUP, signal.SIG_IGN), SignalsTaken(control):
        os.kill(os.getpid(), signal.SIGHUP)
        assert send(signal.SIGUSR1, control) == [StopAsked(StopKind.DRAIN, "SIGUSR1", ExitCode.RESUMABLE)]


def test_an_ignored_sigint_is_handled_inside_the_block(control: Control) -> None:
    with handled_by(signal.SIGINT, signal.SIG_IGN):
        with SignalsTaken(control):
            assert [asked.reason for asked in send(signal.SIGINT, control)] == ["SIGINT"]
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN


def test_no_signal_handler_is_installed_outside_the_main_thread(control: Control) -> None:
    before = {number: signal.getsignal(number) for number in MEANINGS}
    during: list[dict[signal.Signals, Any]] = []

    def take() -> None:
        with SignalsTaken(control):
            during.append({number: signal.getsignal(number) for number in MEANINGS})

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
            ready, _, _ = select.select([control.bell], [], [], 20)
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
