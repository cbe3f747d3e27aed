"""The system has no process or descriptor for a while: nobody dies of it, and what was wanted comes later."""

from __future__ import annotations

import os
import resource
import select
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import psutil
import pytest

from parallel_hpo.processes.fork_server import ResourcesExhaustedError
from tests.process_pool.pooling import (
    SLEEP,
    close_all,
    collect_ends,
    is_gone,
    opened_pool,
    read_line,
    spawn,
)

SPARING: Final = """
import errno, os, socket, sys
from parallel_hpo.worker.forkserver import ForkServer
from parallel_hpo.worker.preload import Imports
answers = [True, False, False]
def fork():
    if answers and not answers.pop(0):
        raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))
    return os.fork()
line = socket.socket(fileno=int(sys.argv[1]))
os.set_inheritable(line.fileno(), False)
ForkServer(line, fork=fork).serve(Imports())
"""
"""A fork server whose second and third fork fail."""


def test_a_fork_that_fails_is_told_and_nobody_dies_of_it(clean_env: dict[str, str]) -> None:
    with opened_pool(clean_env, command=(sys.executable, "-c", SPARING)) as pool:
        first = spawn(pool, SLEEP, clean_env)
        assert read_line(first) == "asleep"
        for _ in range(2):
            with pytest.raises(
                ResourcesExhaustedError, match="fork failed: Resource temporarily unavailable"
            ):
                spawn(pool, SLEEP, clean_env)
        second = spawn(pool, SLEEP, clean_env)
        assert read_line(second) == "asleep"
        assert psutil.Process(first.pid).ppid() == psutil.Process(second.pid).ppid()
        for child in (first, second):
            child.kill()
        for _, child in collect_ends(pool, 2):
            close_all(child)


@contextmanager
def without_descriptors(pid: int) -> Iterator[None]:
    """Let a process open no more files: only the three standard streams would be allowed."""
    limits = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (3, limits[1]))
    try:
        yield
    finally:
        resource.prlimit(pid, resource.RLIMIT_NOFILE, limits)


@pytest.mark.skipif(sys.platform != "linux", reason="another process's limits can be set on Linux alone")
@pytest.mark.parametrize("where", ["the fork server", "the supervisor"])
def test_a_lack_of_descriptors_is_told_and_nobody_dies_of_it(clean_env: dict[str, str], where: str) -> None:
    with opened_pool(clean_env) as pool:
        first = spawn(pool, SLEEP, clean_env)
        assert read_line(first) == "asleep"
        server = psutil.Process(psutil.Process(first.pid).ppid())
        pid = os.getpid() if where == "the supervisor" else server.pid
        with (
            without_descriptors(pid),
            pytest.raises(ResourcesExhaustedError, match=f"Too many open files in {where}"),
        ):
            spawn(pool, SLEEP, clean_env)
        second = spawn(pool, SLEEP, clean_env)
        assert psutil.Process(second.pid).ppid() == server.pid
        assert not is_gone(first.pid)
        for child in (first, second):
            os.close(child.output)


def test_without_pidfds_the_ends_of_a_dead_fork_servers_children_are_looked_for(
    clean_env: dict[str, str],
) -> None:
    """As on macOS."""
    with opened_pool(clean_env, open_pidfd=lambda pid: None) as pool:
        child = spawn(pool, SLEEP, clean_env)
        assert read_line(child) == "asleep"
        assert pool.look_after_s is None
        psutil.Process(psutil.Process(child.pid).ppid()).kill()
        assert select.select([pool.line], [], [], 20)[0]
        assert pool.collect() == []
        assert pool.look_after_s is not None
        child.kill()
        ((reaped, ended),) = collect_ends(pool, 1)
        assert (ended, reaped.status) == (child, signal.SIGKILL)
        assert pool.look_after_s is None
        close_all(child)
