"""Be Python with these words, with what it is going to start at hand: `python ready.py NUMBER WORDS`.

For tests in which something else starts the interpreter: what so many sweeps start are forks of this process,
as `tests.forking` has it for the command line.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

sys.path[0] = str(Path(__file__).parents[1])

from tests.forking import import_all, live  # noqa: E402
from tests.spares import FORK_SERVER, SERVER, Asked, Spares  # noqa: E402

READY: Final = str(Path(__file__))


def with_spares(asked: Asked, number: int) -> Asked:
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
    """Import all, and become what is asked for."""
    number, *words = sys.argv[1:]
    asked = Asked(words, str(Path.cwd()), dict(os.environ))
    import_all(tempfile.mkdtemp())
    live(with_spares(asked, int(number)))


if __name__ == "__main__":
    main()
