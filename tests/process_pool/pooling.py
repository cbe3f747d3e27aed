"""A real pool for tests: opening it, code for children, and waits for their ends."""

from __future__ import annotations

import os
import select
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any, Final

import psutil

from parallel_hpo.core.child_spec import ChildCall, ChildSetup, Reaped
from parallel_hpo.processes.fork_server import COMMAND, Child
from parallel_hpo.processes.pool import ChildPool
from parallel_hpo.processes.reaper import MARK

ROOT: Final = Path(__file__).parents[2]
DEADLINE_S: Final = 20.0
GONE_WITHIN_S: Final = 5.0

BARE: Final = (sys.executable, "-m", "tests.process_pool.bare_fork_server")
"""Starts a fork server that has not imported the client."""
SLEEP: Final = "print('asleep', flush=True); __import__('time').sleep(600)"

WITH_STRAY: Final = """
import os, time
reader, writer = os.pipe()
if os.fork() == 0:
    os.setsid()
    if os.fork():
        os._exit(0)
    os.write(writer, str(os.getpid()).encode())
    os.execvp("sleep", ["sleep", "600"])
print(os.read(reader, 100).decode(), flush=True)
"""
"""Starts a program that is no longer a descendant of the child, and prints its process id."""
KEEPS_STRAY: Final = WITH_STRAY + "time.sleep(600)"

SUPERVISOR: Final = """
import os, signal, sys
from parallel_hpo.processes.pool import ChildPool
from parallel_hpo.core.child_spec import ChildCall, ChildSetup
environment = dict(os.environ)
source, preload, *command = sys.argv[1:]
pool = ChildPool(environment=environment, fresh=False, preload=tuple(preload.split()), command=tuple(command))
pool.open()
surroundings = ChildSetup(environment, tuple(sys.path), os.getcwd())
child = pool.spawn(ChildCall(surroundings, "builtins:exec", (source,)))
print(child.pid, flush=True)
print(os.read(child.output, 100).decode(), end="", flush=True)
signal.pause()
"""
"""Opens a pool that imports `preload`, and prints the number and the first output of a child."""


@contextmanager
def opened_pool(
    environment: Mapping[str, str],
    *,
    fresh: bool = False,
    preload: tuple[str, ...] = (),
    command: tuple[str, ...] = BARE,
    **seams: Any,
) -> Iterator[ChildPool]:
    """Open a pool whose fork server may still be starting, and close it at the end."""
    pool = ChildPool(environment=marked(environment), fresh=fresh, preload=preload, command=command, **seams)
    pool.open()
    try:
        yield pool
    finally:
        pool.close()


def marked(environment: Mapping[str, str]) -> dict[str, str]:
    return {"PYTHONPATH": str(ROOT), MARK: f"test_{os.getpid()}", **environment}


def surroundings(environment: Mapping[str, str]) -> ChildSetup:
    return ChildSetup(marked(environment), tuple(sys.path), str(Path.cwd()))


def spawn(pool: ChildPool, source: str, environment: Mapping[str, str]) -> Child:
    """Make a child that executes `source`."""
    return pool.spawn(ChildCall(surroundings(environment), "builtins:exec", (source,)))


def read_line(child: Child) -> str:
    """Return the next line that a child prints."""
    assert select.select([child.output], [], [], DEADLINE_S)[0]
    return os.read(child.output, 100).decode().strip()


def collect_ends(pool: ChildPool, number: int) -> list[tuple[Reaped, Child]]:
    """Wait for the ends of `number` children; the caller closes their pipes."""
    deadline = time.monotonic() + DEADLINE_S
    ends: list[tuple[Reaped, Child]] = []
    while len(ends) < number:
        left_s = deadline - time.monotonic()
        assert left_s > 0, f"{len(ends)} of {number} children have ended"
        wait([pool.line, *pool.orphan_fds], min(left_s, pool.look_after_s or left_s))
        ends += pool.collect()
    return ends


def is_fork_server(process: psutil.Process) -> bool:
    return not {COMMAND[-1], BARE[-1]}.isdisjoint(process.cmdline())


def close_all(child: Child) -> None:
    os.close(child.output)
    child.connection.close()


def open_descriptors() -> int:
    """How many files, pipes and sockets this process has open."""
    return len(list(Path("/dev/fd").iterdir()))


def is_gone(pid: int) -> bool:
    """Whether no such process runs; a zombie that init has not yet looked at is none."""
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def wait_until(condition: Callable[[], bool], within_s: float = DEADLINE_S) -> None:
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def exit_code_of_next(pool: ChildPool) -> tuple[int, int]:
    """Return the process id and exit code of the next child that ends; minus the signal that killed it."""
    ((reaped, child),) = collect_ends(pool, 1)
    close_all(child)
    return reaped.pid, os.waitstatus_to_exitcode(reaped.status)
