"""Be Python with these words, with what it is to start at hand: `python ready.py NUMBER WORDS`, in a fork.

For a process that starts more than one sweep: what so many of them start are forks of it.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Final

sys.path[0] = str(Path(__file__).parents[1])

from tests.forking import live  # noqa: E402
from tests.spares import FORK_SERVER, SERVER, Spares, StopSource  # noqa: E402

READY: Final = str(Path(__file__))


def with_spares(asked: StopSource, number: int) -> StopSource:
    """Have what so many sweeps start stand ready; return what this process is to be: that, or such a one."""
    spares = Spares()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a notebook's stop button sends it to those that wait too
    for module in (SERVER, FORK_SERVER) * number:
        spare = spares.make(module)
        if spare is not None:
            asked = spare
            break
    else:
        subprocess._fork_exec = spares.start  # type: ignore[attr-defined]
    signal.signal(signal.SIGINT, signal.default_int_handler)
    return asked


def main() -> None:
    """Become what is asked for."""
    number, *words = sys.argv[1:]
    asked = StopSource(words, str(Path.cwd()), dict(os.environ))
    live(with_spares(asked, int(number)))


if __name__ == "__main__":
    main()
