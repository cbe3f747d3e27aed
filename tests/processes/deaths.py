"""Every way in which a run or its worker may end or misbehave, each a function: `death` says which.

`tests/processes/test_death_matrix.py` says what each counts as. Imported by workers,
so nothing of the tests is imported here.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import wandb
import yaml

NEVER_S = 120.0
"""Longer than any test waits."""
A_WHILE_S = 6.0
"""Longer than an agent's heartbeat of 5 s."""


def die() -> None:
    """Open the run, and end it as its parameter says."""
    parameters = yaml.safe_load(Path(os.environ["WANDB_SWEEP_PARAM_PATH"]).read_text())
    death = parameters["death"]["value"]
    if death != "never_initialises":
        wandb.init()
    print("inside", death, flush=True)
    DEATHS[death]()


class Unpicklable(Exception):
    """Holds what can't be pickled."""

    def __init__(self) -> None:
        super().__init__("not to be pickled")
        self.lock = threading.Lock()

    def __reduce__(self) -> NoReturn:
        raise TypeError("cannot pickle this")


class Unprintable(Exception):
    def __str__(self) -> str:
        raise ValueError("no text")


def get(number: int) -> Callable[[], None]:
    """Return a death by a signal from outside."""

    def death() -> None:
        os.kill(os.getpid(), number)
        time.sleep(NEVER_S)

    return death


def throw(error: BaseException) -> Callable[[], None]:
    def death() -> None:
        raise error

    return death


def stop_for_a_while() -> None:
    """Be stopped by SIGSTOP, and go on after longer than a heartbeat."""
    number = os.getpid()
    if os.fork() == 0:
        os.kill(number, signal.SIGSTOP)
        time.sleep(A_WHILE_S)
        os.kill(number, signal.SIGCONT)
        os._exit(0)
    os.wait()


def grow() -> None:
    """Take memory until somebody stops it; 1.5 GB at most."""
    kept = []
    for _ in range(60):
        kept.append(b"x" * 25 * 2**20)
        time.sleep(0.02)
    time.sleep(NEVER_S)


def sleep() -> None:
    time.sleep(NEVER_S)


def hang_in_c() -> None:
    """Hold the interpreter's lock, as C code that hangs does; a signal ends one sleep only."""
    library = ctypes.PyDLL(None)
    while True:
        library.sleep(int(NEVER_S))


def swallow() -> None:
    """Swallow whatever asks it to stop."""
    while True:
        with contextlib.suppress(BaseException):
            print("deaf from now on", flush=True)
            time.sleep(NEVER_S)


def replace_signal_handlers() -> None:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, signal.SIG_IGN)


def ignore_signals() -> None:
    replace_signal_handlers()
    time.sleep(NEVER_S)


def leave_threads() -> None:
    for daemon in (False, True):
        threading.Thread(target=time.sleep, args=(NEVER_S,), daemon=daemon).start()


def fork_and_let_go_on() -> None:
    """Return from `main` twice: the child at once, the run's own process after it."""
    if os.fork() == 0:
        return
    os.wait()
    wandb.log({"loss": 1.0})


def fork_and_let_fail() -> None:
    if os.fork() == 0:
        raise ValueError("in the child")
    os.wait()


def fork_and_let_live() -> None:
    if os.fork() == 0:
        time.sleep(NEVER_S)


def leave_grandchild() -> None:
    """Leave a grandchild in a session of its own, deaf to all that can be ignored."""
    script = "import signal, time; [signal.signal(n, 1) for n in (1, 2, 15)]; time.sleep(120)"
    start = f"subprocess.Popen([sys.executable, '-c', {script!r}], start_new_session=True)"
    subprocess.run([sys.executable, "-c", f"import subprocess, sys; {start}"], check=True)


def delete_folder() -> None:
    folder = Path("doomed").absolute()
    folder.mkdir()
    os.chdir(folder)
    shutil.rmtree(folder)


def initialise_twice() -> None:
    wandb.init()
    wandb.log({"loss": 1.0})


def initialise_anew() -> None:
    wandb.finish()
    initialise_twice()


def close_streams() -> None:
    sys.stdout.close()
    sys.stderr.close()
    raise ValueError("unseen")


def print_much() -> None:
    """Print 100 MB as native code does: the client would send the lines of `sys.stdout`, 1000 a second."""
    line = b"x" * 999 + b"\n"
    for _ in range(1000):
        rest = line * 100
        while rest:
            rest = rest[os.write(1, rest) :]


DEATHS: dict[str, Callable[[], object]] = {
    "sigkill": get(signal.SIGKILL),
    "sigterm": get(signal.SIGTERM),
    "sigsegv": lambda: ctypes.string_at(0),
    "sigabrt": os.abort,
    "sigstop": stop_for_a_while,
    "os_exit_0": lambda: os._exit(0),
    "os_exit_3": lambda: os._exit(3),
    "sys_exit_none": sys.exit,
    "sys_exit_0": lambda: sys.exit(0),
    "sys_exit_1": lambda: sys.exit(1),
    "sys_exit_text": lambda: sys.exit("text"),
    "sys_exit_unprintable": throw(SystemExit(Unprintable())),
    "exception": throw(ValueError("no good")),
    "unpicklable": throw(Unpicklable()),
    "unprintable": throw(Unprintable()),
    "keyboard_interrupt": throw(KeyboardInterrupt()),
    "system_exit": throw(SystemExit(4)),
    "memory_error": throw(MemoryError()),
    "memory_limit": grow,
    "sleeps": sleep,
    "hangs_in_c": hang_in_c,
    "swallows": swallow,
    "ignores_signals": ignore_signals,
    "replaces_handlers": replace_signal_handlers,
    "leaves_threads": leave_threads,
    "fork_goes_on": fork_and_let_go_on,
    "fork_fails": fork_and_let_fail,
    "fork_lives": fork_and_let_live,
    "grandchild": leave_grandchild,
    "changes_folder": lambda: os.chdir("/"),
    "deletes_folder": delete_folder,
    "closes_descriptors": lambda: os.closerange(3, 4096),
    "closes_streams": close_streams,
    "finishes": wandb.finish,
    "initialises_twice": initialise_twice,
    "initialises_anew": initialise_anew,
    "never_initialises": lambda: None,
    "prints_much": print_much,
}
