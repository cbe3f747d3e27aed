"""A fork server that dies at an awkward moment, or that lacks processes or descriptors for a while."""

from __future__ import annotations

import os
import resource
import select
import signal
import socket
import subprocess
import sys
from multiprocessing.connection import wait
from pathlib import Path
from typing import Final

import psutil
import pytest

from parallel_hpo.core.errors import WorkerStartError
from parallel_hpo.processes.fork_server import Child, ResourcesExhaustedError
from parallel_hpo.processes.pool import ChildPool
from parallel_hpo.session.waiting import in_thread
from tests.process_pool.pooling import (
    BARE,
    DEADLINE_S,
    GONE_WITHIN_S,
    ROOT,
    SLEEP,
    SUPERVISOR,
    close_all,
    collect_ends,
    exit_code_of_next,
    is_fork_server,
    is_gone,
    marked,
    opened_pool,
    read_line,
    spawn,
    wait_until,
)

SLOW: Final = """
import os, pathlib, time
draft = pathlib.Path(os.environ["PID_FILE"] + ".new")
draft.write_text(str(os.getpid()))
draft.rename(os.environ["PID_FILE"])
time.sleep(600)
"""


def fork_server() -> psutil.Process:
    """Return the only living one of this process; a new one may not have its command line yet."""
    wait_until(lambda: len(fork_servers()) == 1)
    return fork_servers()[0]


def fork_servers() -> list[psutil.Process]:
    living = [child for child in psutil.Process().children() if not is_gone(child.pid)]
    return [child for child in living if is_fork_server(child)]


def kill(process: psutil.Process) -> None:
    process.kill()
    wait_until(lambda: is_gone(process.pid))


def test_a_fork_server_killed_at_its_start_is_replaced_and_so_is_its_replacement(
    clean_env: dict[str, str],
) -> None:
    with opened_pool(clean_env) as pool:
        kill(fork_server())
        pool.wait_until_ready()
        kill(fork_server())
        wait([pool.line], DEADLINE_S)
        pool.collect()
        kill(fork_server())
        child = spawn(pool, "", clean_env)
        assert exit_code_of_next(pool) == (child.pid, 0)


def test_an_end_that_a_fork_server_reported_before_it_died_is_counted_once(clean_env: dict[str, str]) -> None:
    with opened_pool(clean_env) as pool:
        ended, other = spawn(pool, "", clean_env), spawn(pool, SLEEP, clean_env)
        assert read_line(other) == "asleep"
        wait_until(lambda: is_gone(ended.pid) and not psutil.pid_exists(ended.pid))
        server = fork_server()
        wait_until(lambda: server.status() == psutil.STATUS_SLEEPING)
        kill(server)
        assert [child for _, child in collect_ends(pool, 1)] == [ended]
        other.kill()
        assert exit_code_of_next(pool) == (other.pid, -signal.SIGKILL)
        close_all(ended)


def test_a_pool_can_be_closed_twice_even_after_its_fork_servers_death(clean_env: dict[str, str]) -> None:
    with opened_pool(clean_env) as pool:
        child = spawn(pool, SLEEP, clean_env)
        kill(fork_server())
        wait([pool.line], DEADLINE_S)
        pool.collect()
        pool.close()
        assert is_gone(child.pid)
        os.close(child.output)


@pytest.fixture
def slow(tmp_path: Path, clean_env: dict[str, str]) -> dict[str, str]:
    """The environment of a fork server that imports for long, once it has written its PID_FILE."""
    (tmp_path / "slow.py").write_text(SLOW)
    path = f"{ROOT}{os.pathsep}{tmp_path}"
    return clean_env | {"PYTHONPATH": path, "PID_FILE": str(tmp_path / "pid")}


def test_a_fork_server_ends_at_once_if_its_supervisor_is_killed_during_a_long_import(
    slow: dict[str, str],
) -> None:
    pid_file = Path(slow["PID_FILE"])
    owner = subprocess.Popen([sys.executable, "-c", SUPERVISOR, "", "slow", *BARE], env=marked(slow))
    wait_until(pid_file.exists)
    owner.kill()
    owner.wait()
    wait_until(lambda: is_gone(int(pid_file.read_text())), GONE_WITHIN_S)


def test_a_pool_can_be_closed_while_another_thread_waits_for_its_fork_server(slow: dict[str, str]) -> None:
    pool = ChildPool(environment=marked(slow), fresh=False, preload=("slow",), command=BARE)
    pool.open()
    waiting = in_thread(lambda: spawn(pool, SLEEP, slow))
    wait_until(Path(slow["PID_FILE"]).exists)
    in_thread(pool.close).result(DEADLINE_S)
    with pytest.raises(WorkerStartError):
        waiting.result(DEADLINE_S)


def test_a_fork_server_that_dies_at_its_start_raises_an_error_with_its_exit_code(
    tmp_path: Path, clean_env: dict[str, str]
) -> None:
    (tmp_path / "leaving_preload.py").write_text("import os; os._exit(7)")
    environment = clean_env | {"PYTHONPATH": f"{ROOT}{os.pathsep}{tmp_path}"}
    with (
        opened_pool(environment, preload=("leaving_preload",)) as pool,
        pytest.raises(WorkerStartError, match=r"ended at its start \(exit code 7\)"),
    ):
        pool.wait_until_ready()


def test_a_fork_server_that_dies_before_it_reads_its_order_raises_an_error(clean_env: dict[str, str]) -> None:
    """The order is longer than a socket holds, so its sender waits for somebody to read it."""
    with (
        opened_pool(clean_env, command=("true",), preload=("x" * 10**6,)) as pool,
        pytest.raises(WorkerStartError, match=r"ended at its start \(exit code 0\)"),
    ):
        pool.wait_until_ready()


def test_a_fork_server_whose_supervisor_is_gone_exits_with_0_and_no_output(
    clean_env: dict[str, str],
) -> None:
    ours, theirs = socket.socketpair()
    ours.close()
    with theirs:
        done = subprocess.run(
            [*BARE, str(theirs.fileno())],
            env=marked(clean_env),
            pass_fds=[theirs.fileno()],
            capture_output=True,
        )
    assert (done.returncode, done.stderr) == (0, b"")


SPARING: Final = """
import errno, os, socket, sys
from parallel_hpo.worker.forkserver import ForkServer
from parallel_hpo.core.child_spec import Preloaded
answers = [True, False, False]
def fork():
    if answers and not answers.pop(0):
        raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))
    return os.fork()
line = socket.socket(fileno=int(sys.argv[1]))
os.set_inheritable(line.fileno(), False)
ForkServer(line, fork=fork, preload=lambda order: Preloaded()).serve()
"""
"""A fork server whose second and third fork fail."""


def asleep(pool: ChildPool, environment: dict[str, str]) -> tuple[Child, int]:
    """Spawn a child that sleeps; return it and the process id of its fork server."""
    child = spawn(pool, SLEEP, environment)
    assert read_line(child) == "asleep"
    return child, psutil.Process(child.pid).ppid()


def test_a_failed_fork_raises_an_error_and_ends_no_process(clean_env: dict[str, str]) -> None:
    with opened_pool(clean_env, command=(sys.executable, "-c", SPARING)) as pool:
        first, server = asleep(pool, clean_env)
        for _ in range(2):
            with pytest.raises(
                ResourcesExhaustedError, match="fork failed: Resource temporarily unavailable"
            ):
                spawn(pool, SLEEP, clean_env)
        second, same = asleep(pool, clean_env)
        assert (server, is_gone(first.pid)) == (same, False)
        for child in (first, second):
            os.close(child.output)


@pytest.mark.skipif(sys.platform != "linux", reason="another process's limits can be set on Linux alone")
@pytest.mark.parametrize("where", ["the fork server", "the supervisor"])
def test_a_lack_of_descriptors_raises_an_error_and_ends_no_process(
    clean_env: dict[str, str], where: str
) -> None:
    with opened_pool(clean_env) as pool:
        first, server = asleep(pool, clean_env)
        pid = os.getpid() if where == "the supervisor" else server
        limits = resource.prlimit(pid, resource.RLIMIT_NOFILE)
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (3, limits[1]))  # for the standard streams alone
        try:
            with pytest.raises(ResourcesExhaustedError, match=f"Too many open files in {where}"):
                spawn(pool, SLEEP, clean_env)
        finally:
            resource.prlimit(pid, resource.RLIMIT_NOFILE, limits)
        second, same = asleep(pool, clean_env)
        assert (server, is_gone(first.pid)) == (same, False)
        for child in (first, second):
            os.close(child.output)


def test_without_pidfds_children_of_a_dead_fork_server_are_polled(
    clean_env: dict[str, str],
) -> None:
    """As on macOS."""
    with opened_pool(clean_env, open_pidfd=lambda pid: None) as pool:
        child, server = asleep(pool, clean_env)
        assert pool.look_after_s is None
        os.kill(server, signal.SIGKILL)
        assert select.select([pool.line], [], [], DEADLINE_S)[0]
        assert pool.collect() == []
        assert pool.look_after_s is not None
        child.kill()
        assert exit_code_of_next(pool) == (child.pid, -signal.SIGKILL)
        assert pool.look_after_s is None
