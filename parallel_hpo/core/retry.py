"""The one loop that repeats a call until it succeeds or its time is up."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

Result = TypeVar("Result")
Failure = TypeVar("Failure", bound=Exception)


def retry(
    call: Callable[[], Result],
    on: type[Failure],
    *,
    within_s: float,
    every_s: float,
    say: Callable[[Failure], None] = lambda error: None,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> Result:
    """Return the result of `call`, repeated every `every_s` seconds while it raises `on`.

    `say` is called with the first such error.

    Raises the last error after `within_s` seconds, and other errors of `call` at once.
    """
    until, said = clock() + within_s, False
    while True:
        try:
            return call()
        except on as error:
            if clock() >= until:
                raise
            if not said:
                say(error)
            said = True
        sleep(every_s)
