"""Waits for slow or hanging work in a thread of its own, no longer than a stop allows.

    no stop ──────▶ no timeout
    first stop ───▶ at once before the sweep is open; then after the grace period
    second stop ──▶ at once

The main thread waits here for the fork server's imports, a server's start and unanswered requests, and so
reacts to each signal at once.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Final, TypeVar

from parallel_hpo.core.types import StopKind
from parallel_hpo.session.signals import Control

Result = TypeVar("Result")

REPORT_S: Final = 2.0
"""Minimum time in seconds to report runs' ends after an interrupt; a healthy server takes milliseconds."""
AT_ONCE_S: Final = 1.0
"""The same after a second stop, which should still end "at once"."""
KILLED_S: Final = 5.0
"""Timeout in seconds for the end of killed processes; it takes milliseconds unless the fork server hangs."""


class StoppedError(Exception):
    """A stop has left no more time; the awaited work continues unheeded if it can."""


class StopAware:
    """Waits that a stop ends; for the main thread, which the control wakes."""

    def __init__(self, control: Control, *, grace_s: float) -> None:
        """`grace_s` is the time after a first stop once the sweep is open."""
        self._control = control
        self._full_grace_s = grace_s
        self._grace_s = 0.0
        self._ends_at: float | None = None

    def sweep_is_open(self) -> None:
        """Allow the grace period after a first stop from now on: there are runs to save."""
        self._grace_s = self._full_grace_s

    def runs_have_ended(self, stop: StopKind | None) -> None:
        """Set the time left after the end of all runs; `stop` is what ended them."""
        now, first = self._control.clock(), self._control.first_at
        match stop:
            case None:
                self._ends_at = None
            case StopKind.KILL:
                self._ends_at = now + AT_ONCE_S
            case _:
                self._ends_at = max((first or now) + self._full_grace_s, now + REPORT_S)

    def time_for_runs_to_end(self) -> float | None:
        """Return in how many seconds all runs' processes must have ended; None without a stop.

        Raises:
            StoppedError: that time has passed.
        """
        control = self._control
        if control.second_at is not None:
            ends_at = control.second_at + KILLED_S
        elif control.first_at is not None:
            ends_at = control.first_at + self._full_grace_s + KILLED_S
        else:
            return None
        if ends_at <= control.clock():
            raise StoppedError
        return ends_at - control.clock()

    def call(self, function: Callable[[], Result]) -> Result:
        """Return what `function` returns, or raise what it raises.

        Raises:
            StoppedError: a stop's time passed first; the function's thread continues on its own.
        """
        self._expect_time()
        result = in_thread(function)
        self.wait_for(result)
        return result.result()

    def sleep(self, seconds: float) -> None:
        """Wait for a wake-up, at most so many seconds; raises StoppedError."""
        left_s = self._expect_time()
        self._control.wait(seconds if left_s is None else min(seconds, left_s))

    def wait_for(self, coming: Future[Result]) -> None:
        """Wait for a result; raises StoppedError."""
        with _Doorbell(self._control) as ring:
            coming.add_done_callback(ring)
            while not coming.done():
                self._control.wait(self._expect_time())
        self._control.ring()  # other wake-ups were consumed here

    def _expect_time(self) -> float | None:
        """Return how many seconds are left, None without a limit; raises StoppedError if none are."""
        ends_at = self._end()
        left_s = None if ends_at is None else ends_at - self._control.clock()
        if left_s is not None and left_s <= 0:
            raise StoppedError
        return left_s

    def _end(self) -> float | None:
        asked = self._control.waiting
        if not asked:
            return self._ends_at
        if len(asked) > 1 or self._ends_at is not None:
            return asked[-1]
        return asked[0] + self._grace_s


class _Doorbell:
    """Wakes the control within the block only: its pipe may be closed afterwards."""

    def __init__(self, control: Control) -> None:
        self._control = control
        self._lock = threading.Lock()
        self._is_waiting = True

    def __enter__(self) -> Callable[[object], None]:
        return self._ring

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._is_waiting = False

    def _ring(self, _: object) -> None:
        with self._lock:
            if self._is_waiting:
                self._control.ring()


def in_thread(function: Callable[[], Result]) -> Future[Result]:
    """Call a function in a daemon thread, which nothing has to wait for, not even the interpreter's exit."""
    result: Future[Result] = Future()
    work = threading.Thread(
        target=set_result_of, args=(result, function), name="parallel_hpo-waited-for", daemon=True
    )
    work.start()
    return result


def set_result_of(result: Future[Result], function: Callable[[], Result]) -> None:
    """Call a function, and set what it returns or raises as the result."""
    try:
        result.set_result(function())
    except BaseException as error:  # noqa: BLE001 - passed on to the waiting thread
        result.set_exception(error)
