"""How the server's threads share the interpreter, so that heartbeats are answered beside what others list."""

from __future__ import annotations

import gc
import sys
from typing import Final

_TURN_S: Final = 0.0005
"""A heartbeat gives the interpreter up some fifty times, and may wait for a turn of a query's each time."""


def load_at_one_go() -> None:
    """Look for no garbage while all is loaded: there is hardly any, and to look takes a sixth of the time."""
    gc.disable()


def let_threads_take_turns() -> None:
    """Let no thread wait long for another one; call it once all is loaded."""
    sys.setswitchinterval(_TURN_S)
    never_look_through_what_is_there()
    gc.enable()


def never_look_through_what_is_there() -> None:
    """Take all that there is for what stays: to look through it takes 0.1 s, for which all threads wait."""
    gc.freeze()
