"""A script on a terminal, in a fork: `python at_terminal.py TERMINAL SCRIPT WORDS`.

It has a session of its own and controls the terminal, as what a terminal's shell starts.
"""

from __future__ import annotations

import fcntl
import os
import runpy
import sys
import termios
from pathlib import Path


def main() -> None:
    """Take the terminal, say so, and become the script."""
    os.setsid()
    terminal = os.open(sys.argv[1], os.O_RDWR)
    fcntl.ioctl(terminal, termios.TIOCSCTTY, 0)
    os.write(1, b"\n")
    for number in (0, 1, 2):
        os.dup2(terminal, number)
    os.close(terminal)
    sys.stdin = os.fdopen(0, closefd=False)
    sys.stdout = os.fdopen(1, "w", closefd=False)
    sys.stderr = os.fdopen(2, "w", buffering=1, errors="backslashreplace", closefd=False)
    del sys.argv[:2]
    sys.path[0] = str(Path(sys.argv[0]).parent)
    runpy.run_path(sys.argv[0], run_name="__main__")


if __name__ == "__main__":
    main()
