"""A fork server that is killed at an awkward moment, and one whose supervisor is."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from multiprocessing.connection import wait
from pathlib import Path
from typing import Final

import psutil

from parallel_hpo.processes.pool import ChildPool
from tests.process_pool.pooling import (
    BARE,
    DEADLINE_S,
    ROOT,
    SLEEP,
    close_all,
    collect_ends,
    is_fork_server,
    is_gone,
    opened_pool,
    read_line,
    spawn,
)

GONE_WITHIN_S: Final = 5.0

OWNER: Final = """
import os, sys
from parallel_hpo.processes.pool import ChildPool
from parallel_hpo.processes.reaper import MARK
environment = {**os.environ, MARK: "test"}
pool = ChildPool(environment=environment, fresh=False, preload=("slow",), command=tuple(sys.argv[1:]))
pool.open()
pool.wait_until_ready()
"""
SLOW: Final = """
import os, pathlib, time
draft = pathlib.Path(os.environ["PID_FILE"] + ".new")
draft.write_text(str(os.getpid()))
draft.rename(os.environ["PID_FILE"])
time.sleep(600)
"""


def fork_server() -> psutil.Process:
    """This process's only one that lives; one that was just started may not have its command line yet."""
    wait_until(lambda: len(fork_servers()) == 1)
    return fork_servers()[0]


def fork_servers() -> list[psutil.Process]:
    living = [child for child in psutil.Process().children() if not is_gone(child.pid)]
    return [child for child in living if is_fork_server(child)]


def kill(process: psutil.Process) -> None:
    process.kill()
    wait_until(lambda: is_gone(process.pid))


def wait_until(condition: Callable[[], bool], within_s: float = DEADLINE_S) -> None:
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def expect_children(pool: ChildPool, clean_env: dict[str, str]) -> None:
    """Expect that a child can be made, and that its end is heard of."""
    child = spawn(pool, "", clean_env)
    ((reaped, ended),) = collect_ends(pool, 1)
    assert ended is child
    assert reaped.status == 0
    close_all(child)


def test_a_fork_server_that_is_killed_as_it_starts_is_replaced(clean_env: dict[str, str]) -> None:
    with opened_pool(clean_env) as pool:
        kill(fork_server())
        pool.wait_until_ready()
        expect_children(pool, clean_env)


def test_a_replacement_that_is_killed_as_it_starts_is_replaced_too(clean_env: dict[str, str]) -> None:
    with opened_pool(clean_env) as pool:
        pool.wait_until_ready()
        kill(fork_server())
        wait([pool.line], DEADLINE_S)
        pool.collect()
        kill(fork_server())
        expect_children(pool, clean_env)


def test_an_end_that_a_fork_server_reported_before_its_own_is_heard_of_once(
    clean_env: dict[str, str],
) -> None:
    with opened_pool(clean_env) as pool:
        ended, other = spawn(pool, "", clean_env), spawn(pool, SLEEP, clean_env)
        assert read_line(other) == "asleep"
        wait_until(lambda: is_gone(ended.pid) and not psutil.pid_exists(ended.pid))
        server = fork_server()
        wait_until(lambda: server.status() == psutil.STATUS_SLEEPING)
        kill(server)
        assert [child for _, child in collect_ends(pool, 1)] == [ended]
        other.kill()
        ((reaped, child),) = collect_ends(pool, 1)
        assert (child, reaped.status) == (other, signal.SIGKILL)
        for one in (ended, other):
            close_all(one)


def test_a_pool_may_be_closed_twice_also_after_its_fork_servers_death(clean_env: dict[str, str]) -> None:
    with opened_pool(clean_env) as pool:
        child = spawn(pool, SLEEP, clean_env)
        kill(fork_server())
        wait([pool.line], DEADLINE_S)
        pool.collect()
        pool.close()
        assert is_gone(child.pid)
        os.close(child.output)


def test_a_fork_server_whose_supervisor_is_killed_during_a_long_import_is_gone_at_once(
    tmp_path: Path, clean_env: dict[str, str]
) -> None:
    (tmp_path / "slow.py").write_text(SLOW)
    pid_file = tmp_path / "pid"
    path = os.pathsep.join([str(ROOT), str(tmp_path)])
    owner = subprocess.Popen(
        [sys.executable, "-c", OWNER, *BARE], env=clean_env | {"PYTHONPATH": path, "PID_FILE": str(pid_file)}
    )
    wait_until(pid_file.exists)
    owner.kill()
    owner.wait()
    wait_until(lambda: is_gone(int(pid_file.read_text())), GONE_WITHIN_S)
