"""The one way of waiting for what may never come: in a thread of its own, and no longer than a stop allows.

    no stop ──────▶ as long as it takes
    first stop ───▶ not at all before the sweep is open; then until its grace period is over
    second stop ──▶ no longer

A fork server that imports, a server that starts or hangs, a request that is not answered:
the main thread waits for all of them here, and so hears each signal at once.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Final, TypeVar

from parallel_hpo.core.types import StopKind
from parallel_hpo.session.signals import Control

Result = TypeVar("Result")

LAST_WORDS_S: Final = 2.0
"""So much remains after an interrupt whose grace period the runs have used up: a server that is well is told
of their ends in milliseconds."""
AT_ONCE_S: Final = 1.0
"""The same after a second stop: it is still "at once" for whoever asked for it."""
KILLED_S: Final = 5.0
"""Processes that were killed are gone, and known to be, in milliseconds, unless the fork server hangs."""


class StoppedError(Exception):
    """A stop has left no more time: what was waited for is given up, and goes on unheeded if it can."""


class StopAware:
    """How long one launch waits for things; for the main thread, which alone hears the control's bell."""

    def __init__(self, control: Control, *, grace_s: float) -> None:
        """`grace_s` is what a first stop leaves once the sweep is open."""
        self._control = control
        self._full_grace_s = grace_s
        self._grace_s = 0.0
        self._ends_at: float | None = None

    def sweep_is_open(self) -> None:
        """From now on there is something to be lost: a first stop leaves the grace period."""
        self._grace_s = self._full_grace_s

    def runs_are_over(self, stop: StopKind | None) -> None:
        """Nothing runs any more; `stop` is what ended it, so that what is left is counted from then."""
        now, first = self._control.clock(), self._control.first_at
        match stop:
            case None:
                self._ends_at = None
            case StopKind.KILL:
                self._ends_at = now + AT_ONCE_S
            case _:
                self._ends_at = max((first or now) + self._full_grace_s, now + LAST_WORDS_S)

    def expect_runs_to_end(self) -> float | None:
        """Return within how many seconds every run's process must be known to be gone; None: no stop says so.

        Raises:
            StoppedError: that time is over.
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
            StoppedError: a stop's time was over first; the function's thread is left to itself.
        """
        self._expect_time()
        result = in_thread(function)
        self.wait_for(result)
        return result.result()

    def sleep(self, seconds: float) -> None:
        """Wait so long, or until something rings; raises StoppedError."""
        left_s = self._expect_time()
        self._control.wait(seconds if left_s is None else min(seconds, left_s))

    def wait_for(self, coming: Future[Result]) -> None:
        """Wait until it is there; raises StoppedError."""
        with _Doorbell(self._control) as ring:
            coming.add_done_callback(ring)
            while not coming.done():
                self._control.wait(self._expect_time())
        self._control.ring()  # what else rang meanwhile has been heard here

    def _expect_time(self) -> float | None:
        """Return how many seconds are left, None without an end; raises StoppedError where none are."""
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
    """Rings the control's bell, and no more once nobody waits: the bell may be closed by then."""

    def __init__(self, control: Control) -> None:
        self._control = control
        self._lock = threading.Lock()
        self._heard = True

    def __enter__(self) -> Callable[[object], None]:
        return self._ring

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._heard = False

    def _ring(self, _: object) -> None:
        with self._lock:
            if self._heard:
                self._control.ring()


def in_thread(function: Callable[[], Result]) -> Future[Result]:
    """Call a function in a thread that nobody has to wait for, not even the interpreter at its end."""
    result: Future[Result] = Future()

    def call() -> None:
        try:
            result.set_result(function())
        except BaseException as error:  # noqa: BLE001 - whoever waits for it is to have it
            result.set_exception(error)

    threading.Thread(target=call, name="parallel_hpo-waited-for", daemon=True).start()
    return result
