from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator

import psutil
import pytest

from parallel_hpo.processes.fork_server import COMMAND
from parallel_hpo.processes.pool import ChildPool
from parallel_hpo.worker import tree
from tests.process_pool.pooling import (
    BARE,
    DEADLINE_S,
    GONE_WITHIN_S,
    KEEPS_STRAY,
    SLEEP,
    SUPERVISOR,
    WITH_STRAY,
    close_all,
    collect_ends,
    exit_code_of_next,
    is_fork_server,
    is_gone,
    marked,
    open_descriptors,
    opened_pool,
    read_line,
    spawn,
)


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ChildPool]:
    environment = {**os.environ, "HOME": str(tmp_path_factory.mktemp("home"))}
    with opened_pool(environment, command=COMMAND) as pool:
        pool.wait_until_ready()
        yield pool


def fork_server_of(pid: int) -> psutil.Process:
    parent = psutil.Process(pid).parent()
    assert parent is not None
    assert is_fork_server(parent)
    return parent


def test_each_end_of_concurrent_children_has_its_exit_code_or_signal(
    pool: ChildPool, clean_env: dict[str, str]
) -> None:
    sleeping = [spawn(pool, SLEEP, clean_env) for _ in range(2)]
    leaving = spawn(pool, "import os; os._exit(3)", clean_env)
    assert [read_line(child) for child in sleeping] == ["asleep"] * 2
    for child in sleeping:
        child.kill()
    ended = collect_ends(pool, 3)
    codes = {reaped.pid: os.waitstatus_to_exitcode(reaped.status) for reaped, _ in ended}
    assert codes == {leaving.pid: 3, **{child.pid: -signal.SIGKILL for child in sleeping}}
    for _, child in ended:
        child.kill()  # one that is gone may be killed
        close_all(child)
    assert select.select([pool.line, *pool.orphan_fds], [], [], 0.0)[0] == []  # nothing wakes an idle pool
    assert pool.collect() == []


@pytest.mark.parametrize("ends_itself", [True, False])
def test_processes_that_a_child_leaves_have_ended_before_its_end_is_reported(
    pool: ChildPool, clean_env: dict[str, str], ends_itself: bool
) -> None:
    child = spawn(pool, WITH_STRAY + ("os._exit(0)" if ends_itself else "time.sleep(600)"), clean_env)
    stray = int(read_line(child))
    if not ends_itself:
        child.kill()
    assert exit_code_of_next(pool) == (child.pid, 0 if ends_itself else -signal.SIGKILL)
    assert not psutil.pid_exists(stray)


def test_a_living_childs_own_processes_are_left_alone(pool: ChildPool, clean_env: dict[str, str]) -> None:
    keeper = spawn(pool, KEEPS_STRAY, clean_env)
    stray = int(read_line(keeper))
    spawn(pool, "import os; os._exit(0)", clean_env)
    exit_code_of_next(pool)
    assert not is_gone(stray)
    keeper.kill()
    exit_code_of_next(pool)


def test_signals_from_a_terminal_do_not_end_the_fork_server(
    pool: ChildPool, clean_env: dict[str, str]
) -> None:
    child = spawn(pool, SLEEP, clean_env)
    server = fork_server_of(child.pid)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        server.send_signal(number)
    child.kill()
    exit_code_of_next(pool)
    other = spawn(pool, SLEEP, clean_env)
    assert fork_server_of(other.pid) == server
    other.kill()
    exit_code_of_next(pool)


def test_a_child_survives_the_fork_servers_death_and_its_end_is_still_reported(
    clean_env: dict[str, str],
) -> None:
    with opened_pool(clean_env) as pool:
        child = spawn(pool, KEEPS_STRAY, clean_env)
        stray = int(read_line(child))
        fork_server_of(child.pid).kill()
        other = spawn(pool, SLEEP, clean_env)
        assert read_line(other) == "asleep"
        assert not is_gone(child.pid)
        child.kill()
        assert exit_code_of_next(pool) == (child.pid, -signal.SIGKILL)
        assert is_gone(stray)
        assert not is_gone(other.pid)
        os.close(other.output)
    assert is_gone(other.pid)


def test_an_idle_pool_is_not_woken_after_a_new_fork_server_is_ready(clean_env: dict[str, str]) -> None:
    with opened_pool(clean_env) as pool:
        child = spawn(pool, SLEEP, clean_env)
        fork_server_of(child.pid).kill()
        for _ in ("the old one's end", "the new one's readiness"):
            assert select.select([pool.line], [], [], DEADLINE_S)[0]
            assert pool.collect() == []
        assert select.select([pool.line, *pool.orphan_fds], [], [], 0.0)[0] == []
        os.close(child.output)
    assert is_gone(child.pid)


def test_closing_a_pool_leaves_no_process_or_descriptor(clean_env: dict[str, str]) -> None:
    before = open_descriptors()
    with opened_pool(clean_env) as pool:
        child = spawn(pool, KEEPS_STRAY, clean_env)
        family = [child.pid, int(read_line(child)), fork_server_of(child.pid).pid]
        os.close(child.output)
    assert [pid for pid in family if not is_gone(pid)] == []
    assert open_descriptors() <= before


def test_the_process_is_a_subreaper_only_while_a_pool_is_open(clean_env: dict[str, str]) -> None:
    before = tree.become_subreaper(False)
    try:
        with opened_pool(clean_env, fresh=True):
            assert tree.become_subreaper()
        assert not tree.become_subreaper(False)
    finally:
        tree.become_subreaper(before)


def test_a_fresh_child_is_a_separate_interpreter_and_is_killed_with_its_processes(
    clean_env: dict[str, str],
) -> None:
    with opened_pool(clean_env, fresh=True) as pool:
        child = spawn(pool, f"import sys\nassert 'wandb' not in sys.modules\n{KEEPS_STRAY}", clean_env)
        stray = int(read_line(child))
        assert "parallel_hpo.worker.entry" in psutil.Process(child.pid).cmdline()
        child.kill()
        assert exit_code_of_next(pool) == (child.pid, -signal.SIGKILL)
        assert not psutil.pid_exists(stray)


def test_child_processes_of_the_user_are_neither_killed_nor_waited_for(clean_env: dict[str, str]) -> None:
    own = subprocess.Popen(["sleep", "600"], env=clean_env)
    try:
        with opened_pool(clean_env) as pool:
            ended = subprocess.Popen([sys.executable, "-c", "raise SystemExit(5)"], env=clean_env)
            child = spawn(pool, SLEEP, clean_env)
            fork_server_of(child.pid).kill()
            child.kill()
            exit_code_of_next(pool)
            assert ended.wait(DEADLINE_S) == 5
        assert own.poll() is None
    finally:
        own.kill()
        own.wait()


def test_no_process_outlives_a_killed_supervisor(clean_env: dict[str, str]) -> None:
    supervisor = subprocess.Popen(
        [sys.executable, "-c", SUPERVISOR, KEEPS_STRAY, "", *BARE],
        env=marked(clean_env),
        stdout=subprocess.PIPE,
        text=True,
    )
    assert supervisor.stdout is not None
    with supervisor.stdout as words:
        child, stray = (int(words.readline()) for _ in range(2))
    family = [psutil.Process(child), psutil.Process(stray), fork_server_of(child)]
    supervisor.kill()
    supervisor.wait()
    _, alive = psutil.wait_procs(family, timeout=GONE_WITHIN_S)
    assert [process for process in alive if not is_gone(process.pid)] == []
