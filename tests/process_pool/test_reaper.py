from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from parallel_hpo.processes.reaper import MARK, OwnerId, new_owner_id, reap_leftovers
from tests.process_pool.pooling import DEADLINE_S, is_gone

SUPERVISOR = """
from parallel_hpo.processes.reaper import new_owner_id

print(new_owner_id(), flush=True)
input()
"""


@dataclass
class Pair:
    """A process that could be a supervisor, and one that bears its mark, or another."""

    supervisor: subprocess.Popen[str]
    mark: str

    @contextmanager
    def child(self, mark: str, **variables: str) -> Iterator[subprocess.Popen[str]]:
        """A shell with a program below it, both with this mark."""
        process = subprocess.Popen(
            ["sh", "-c", "sleep 600 & echo $!; wait"],
            env={"PATH": os.environ["PATH"], MARK: mark} | variables,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert process.stdout is not None
        below = psutil.Process(int(process.stdout.readline()))
        try:
            yield process
        finally:
            process.kill()
            with suppress(psutil.NoSuchProcess):
                below.kill()
            process.communicate()

    def kill_supervisor(self) -> None:
        self.supervisor.kill()
        self.supervisor.wait()


@pytest.fixture
def pair() -> Iterator[Pair]:
    process = subprocess.Popen(
        [sys.executable, "-c", SUPERVISOR], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    yield Pair(process, process.stdout.readline().strip())
    process.kill()
    process.communicate()


def reap(process: subprocess.Popen[str]) -> int:
    return reap_leftovers([psutil.Process(process.pid)])


def expect_killed(process: subprocess.Popen[str]) -> None:
    """Look at it, and expect that it is ended: a sweep that another test starts now may have been quicker."""
    reap(process)
    process.wait(DEADLINE_S)


def test_a_mark_is_of_letters_digits_and_underscores_and_never_the_same() -> None:
    first, second = new_owner_id(), new_owner_id()
    assert first != second
    assert first.replace("_", "").isalnum()
    assert first.startswith(f"{os.getpid()}_")


def test_what_a_living_supervisor_has_is_left_alone(pair: Pair) -> None:
    with pair.child(pair.mark) as child:
        assert reap(child) == 0
        assert child.poll() is None


@pytest.mark.parametrize("suffix", ["", "_server"])
def test_what_a_dead_supervisor_had_is_killed_with_all_below_it(pair: Pair, suffix: str) -> None:
    with pair.child(pair.mark + suffix) as child:
        (below,) = psutil.Process(child.pid).children()
        pair.kill_supervisor()
        expect_killed(child)
        wait_until_gone(below.pid)


def test_a_dead_supervisor_that_nobody_has_waited_for_is_dead(pair: Pair) -> None:
    with pair.child(pair.mark) as child:
        pair.supervisor.kill()
        wait_until_gone(pair.supervisor.pid)
        expect_killed(child)


def test_a_supervisor_whose_pid_is_anothers_now_is_dead(pair: Pair) -> None:
    pid, started, rest = pair.mark.split("_", 2)
    with pair.child(f"{pid}_t{int(started[1:]) - 1}_{rest}") as child:
        expect_killed(child)


def test_a_mark_is_reckoned_from_the_boot_and_not_by_a_clock_that_can_be_set() -> None:
    mark = OwnerId.read(new_owner_id())
    assert mark is not None
    ticks = int(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19])
    assert (mark.pid, mark.started) == (os.getpid(), ticks)


def test_a_mark_of_another_boot_says_nothing_of_a_process_of_this_one(pair: Pair) -> None:
    pid, started, namespace, boot, rest = pair.mark.split("_")
    other = "0" * len(boot)
    with pair.child("_".join((pid, started, namespace, other, rest))) as child:
        pair.kill_supervisor()
        assert reap(child) == 0
        assert child.poll() is None


def test_what_is_made_of_a_mark_is_the_mark() -> None:
    mark = OwnerId(12, 3456, 789, "c0ffee")
    assert str(mark) == "12_t3456_789_c0ffee"
    assert OwnerId.read(f"{mark}_1a2b_server") == mark


def test_another_pid_namespaces_processes_are_left_alone(pair: Pair) -> None:
    pid, started, namespace, rest = pair.mark.split("_", 3)
    with pair.child(f"{pid}_{started}_{namespace}1_{rest}") as child:
        pair.kill_supervisor()
        assert reap(child) == 0
        assert child.poll() is None


@pytest.mark.parametrize("mark", ["", "test", "1_2", "x_1_2_3", "1_2_3_4", "1_t2_3", "1_t2_3_"])
def test_what_bears_no_mark_of_ours_is_left_alone(pair: Pair, mark: str) -> None:
    with pair.child(mark) as child:
        assert reap(child) == 0
        assert child.poll() is None


def test_what_a_dead_supervisor_had_leaves_no_folder_where_its_temporary_ones_are(
    pair: Pair, tmp_path: Path
) -> None:
    """Which need not be where ours are; killed, it can't remove them itself."""
    left, kept = tmp_path / f"parallel_hpo-{pair.mark}-x", tmp_path / f"parallel_hpo-{new_owner_id()}-y"
    with pair.child(pair.mark, TMPDIR=str(tmp_path)) as child:
        left.mkdir()
        kept.mkdir()
        pair.kill_supervisor()
        expect_killed(child)
    deadline = time.monotonic() + DEADLINE_S
    while left.exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert list(tmp_path.iterdir()) == [kept]


def test_without_a_choice_all_processes_are_looked_at(pair: Pair) -> None:
    with pair.child(pair.mark) as child:
        pair.kill_supervisor()
        reap_leftovers()
        child.wait(DEADLINE_S)


def wait_until_gone(pid: int) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not is_gone(pid):
        assert time.monotonic() < deadline
        time.sleep(0.01)
