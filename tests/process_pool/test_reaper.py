from __future__ import annotations

import os
import queue
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from parallel_hpo.core.types import Slot
from parallel_hpo.processes.reaper import MARK, MemoryWatch, OwnerId, is_dead, new_owner_id, reap_leftovers
from parallel_hpo.worker import tree
from tests.process_pool.pooling import DEADLINE_S, is_gone, wait_until

SUPERVISOR = """
from parallel_hpo.processes.reaper import new_owner_id

print(new_owner_id(), flush=True)
input()
"""


@dataclass
class Pair:
    """A process in the role of a supervisor, and its mark."""

    supervisor: subprocess.Popen[str]
    mark: str

    @contextmanager
    def child(self, mark: str, **variables: str) -> Iterator[subprocess.Popen[str]]:
        """Start a shell with a program below it, both with this mark."""
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
    """Reap it, and expect its end: a sweep of another test may have been quicker."""
    reap(process)
    process.wait(DEADLINE_S)


def test_each_owner_id_is_new_and_has_the_start_time_since_boot() -> None:
    first, second = new_owner_id(), new_owner_id()
    assert first != second
    assert first.replace("_", "").isalnum()
    mark = OwnerId.read(first)
    assert mark is not None
    ticks = int(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19])
    assert (mark.pid, mark.started) == (os.getpid(), ticks)
    made = OwnerId(12, 3456, 789, "c0ffee")
    assert str(made) == "12_t3456_789_c0ffee"
    assert OwnerId.read(f"{made}_1a2b_server") == made


@pytest.mark.parametrize(
    "mark",
    [
        *("{pid}_{started}_{namespace}_0_{rest}", "{pid}_{started}_{namespace}1_{boot}_{rest}"),
        *("", "test", "1_2", "x_1_2_3", "1_2_3_4", "1_t2_3", "1_t2_3_"),
    ],
)
def test_processes_without_an_owner_id_of_this_boot_and_namespace_are_left_alone(
    pair: Pair, mark: str
) -> None:
    parts = zip(("pid", "started", "namespace", "boot", "rest"), pair.mark.split("_"), strict=True)
    with pair.child(mark.format(**dict(parts))) as child:
        pair.kill_supervisor()
        assert reap(child) == 0
        assert child.poll() is None


def test_the_processes_of_a_living_supervisor_are_left_alone(pair: Pair) -> None:
    with pair.child(pair.mark) as child:
        assert reap(child) == 0
        assert child.poll() is None


@pytest.mark.parametrize("suffix", ["", "_server"])
def test_the_processes_of_a_dead_supervisor_are_killed_with_their_descendants(
    pair: Pair, suffix: str
) -> None:
    with pair.child(pair.mark + suffix) as child:
        (below,) = psutil.Process(child.pid).children()
        pair.supervisor.kill()
        wait_until(lambda: is_gone(pair.supervisor.pid))  # a zombie: nobody has waited for it
        assert is_dead(pair.mark)
        expect_killed(child)
        wait_until(lambda: is_gone(below.pid))


def test_a_supervisor_whose_pid_was_reused_counts_as_dead(pair: Pair) -> None:
    """All processes are examined by default."""
    pid, started, rest = pair.mark.split("_", 2)
    with pair.child(f"{pid}_t{int(started[1:]) - 1}_{rest}") as child:
        reap_leftovers()
        child.wait(DEADLINE_S)


def test_a_dead_supervisors_processes_leave_no_temporary_folder(pair: Pair, tmp_path: Path) -> None:
    """The folders need not be where ours are; a killed process can't remove them itself."""
    left, kept = tmp_path / f"parallel_hpo-{pair.mark}-x", tmp_path / f"parallel_hpo-{new_owner_id()}-y"
    with pair.child(pair.mark, TMPDIR=str(tmp_path)) as child:
        left.mkdir()
        (left / "123").touch()  # a process that had a wandb-core; another one has its number now
        dead, alive = (tmp_path / f"wandb-123-{pid}-1" for pid in (pair.supervisor.pid, os.getpid()))
        for folder in (kept, dead, alive):
            folder.mkdir()
        pair.kill_supervisor()
        expect_killed(child)
    wait_until(lambda: not left.exists())
    assert set(tmp_path.iterdir()) == {kept, alive}


def test_a_killed_client_leaves_no_socket_folder(tmp_path: Path) -> None:
    client = tmp_path / "wandb-core"
    client.symlink_to(str(shutil.which("sleep")))
    with subprocess.Popen([client, "60"]) as process:
        sockets = Path(tempfile.gettempdir(), f"wandb-{os.getpid()}-{process.pid}-1")
        sockets.mkdir()
        tree.kill(psutil.Process(process.pid))
    assert not sockets.exists()


def test_the_memory_of_each_worker_is_reported_until_it_is_removed() -> None:
    told: queue.Queue[tuple[Slot, float]] = queue.Queue()
    used = {10: 1.5, 11: 2.5, 12: 0.0}
    watch = MemoryWatch(lambda *seen: told.put(seen), used_mb=used.__getitem__, every_s=0.001)
    watch.add(Slot(0), 10)
    watch.add(Slot(1), 11)
    watch.add(Slot(2), 12)  # it has just ended: nothing is known of it
    watch.start()
    assert {told.get(timeout=10) for _ in range(4)} == {(Slot(0), 1.5), (Slot(1), 2.5)}
    watch.remove(Slot(0))
    del used[10]
    while told.get(timeout=10)[0] != 1 or not told.empty():
        pass
    watch.close()
    watch.join(10)
    assert not watch.is_alive()
