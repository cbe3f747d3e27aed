"""Waiting for what can be read, for any number of seconds: poll(2) takes no more than 24 days of them."""

from __future__ import annotations

from collections.abc import Sequence
from multiprocessing import connection
from typing import Any, Final

LONGEST_S: Final = 86400.0
"""Then whoever waits looks around, and waits on: nobody notices that, once a day."""


def wait(sources: Sequence[Any], seconds: float | None) -> list[Any]:
    """Return those that can be read, or none after `seconds`, a day at the most; None: without an end."""
    return connection.wait(sources, None if seconds is None else min(seconds, LONGEST_S))
