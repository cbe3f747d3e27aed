"""What shells and the like do before they become the program that they start; a fork does it itself."""

from __future__ import annotations

import ctypes
import fcntl
import os
import resource
import signal
import termios


def ignore_interrupts() -> None:
    """As `trap "" INT`, and as a shell starts what runs in the background."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def ignore_hangups() -> None:
    """As `nohup`."""
    signal.signal(signal.SIGHUP, signal.SIG_IGN)


def be_a_session() -> None:
    """As `setsid`."""
    os.setsid()


def limit_descriptors(soft: str, hard: str) -> None:
    """As `ulimit -S -n` and `ulimit -H -n`."""
    resource.setrlimit(resource.RLIMIT_NOFILE, (int(soft), int(hard)))


def take_terminal() -> None:
    """Control the terminal that stdin is, as the leader of a session."""
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


def load_libraries(*paths: str) -> None:
    """Load what is then found by its name, too: LD_LIBRARY_PATH is heeded at a program's start alone."""
    for path in paths:
        ctypes.CDLL(path)
