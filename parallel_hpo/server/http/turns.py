"""How the server's threads share the interpreter, so that heartbeats are answered beside what others list."""

from __future__ import annotations

import gc
import sys
from typing import Final

_TURN_S: Final = 0.0005
"""A heartbeat gives the interpreter up some fifty times, and may wait for a turn of a query's each time."""


def let_threads_take_turns() -> None:
    """Let no thread wait long for another one; call it once all is loaded."""
    sys.setswitchinterval(_TURN_S)
    gc.collect()
    gc.freeze()  # to look through what stays anyway takes 0.1 s, for which all threads wait
