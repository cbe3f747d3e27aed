"""Sweeps with a failing, unreachable, full or locked server or disk, and stops while something hangs."""

from __future__ import annotations

import json
import resource
import shutil
import signal
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import pytest

from parallel_hpo.core.errors import ExitCode
from tests.contract.proxy import Harm, Message, Mischief, Proxy, proxying
from tests.processes.conftest import Ended, RealSweep, command_line, grid, outcomes
from tests.processes.consistency import rows

pytestmark = pytest.mark.thorough

POINTS: Final = 20
GRID: Final = grid(x=list(range(POINTS)))


@pytest.fixture
def proxy(standalone: dict[str, str], sweep: RealSweep) -> Iterator[Proxy]:
    """A proxy in front of a server, which the sweep takes for a W&B server of the user's."""
    with proxying(standalone["WANDB_BASE_URL"]) as proxy:
        sweep.env |= standalone | {"WANDB_BASE_URL": proxy.url, "PARALLEL_HPO_BACKEND": "wandb"}
        yield proxy


def expect_exact(sweep: RealSweep, ended: Ended, database: Path) -> None:
    """Expect each point of the grid to be one run, performed once, with exactly the lines that it logged."""
    assert (ended.code, ended.summary["lost"]) == (0, 0), ended.stderr
    assert outcomes(ended.summary) == ["finished"] * POINTS
    known = {entry.run_id: entry.facts["parameters"]["x"] for entry in sweep.entries()}
    assert len(known) == len(sweep.entries())
    assert sorted(known.values()) == list(range(POINTS))
    logged: dict[str, list[float]] = {name: [] for (name,) in rows(database, "SELECT name FROM runs")}
    query = "SELECT name, text FROM lines JOIN runs ON runs.id = run_id WHERE stream = 0 ORDER BY number"
    for name, text in rows(database, query):
        logged[name].append(json.loads(text)["loss"])
    assert logged == {run: [x, x + 1, x + 2] for run, x in known.items()}


@dataclass
class Weather:
    """Harms for all messages from now on, each for a number of seconds; then all is well."""

    spells: tuple[tuple[float, Harm], ...]
    began: float = field(default_factory=time.monotonic)

    def __call__(self, message: Message) -> Harm:
        left_s = time.monotonic() - self.began
        for seconds, harm in self.spells:
            left_s -= seconds
            if left_s < 0:
                return harm
        return Harm.NONE


def test_lost_replies_repeated_requests_error_bursts_and_a_network_outage_lose_no_run(
    sweep: RealSweep, proxy: Proxy
) -> None:
    mischief = proxy.choose = Mischief(1, rate=0.07)
    sweep.start("quick", sweep=GRID, count=POINTS).wait_for(POINTS // 2)
    sweep.wait_until(
        lambda: {Harm.LOSE_REPLY, Harm.REPEAT, Harm.LATE_COPY} <= set(mischief.done), "all harms"
    )
    proxy.choose = Weather(((1, Harm.FAIL_500), (1, Harm.REFUSE_429), (4, Harm.LOSE_REQUEST)))
    expect_exact(sweep, sweep.finish(), sweep.folder / "server" / "server.db")


def limit_files(pid: int, size: int) -> None:
    """Let the process's files grow no further than this, as on a full disk."""
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))


def test_a_full_disk_of_the_server_and_of_the_ledger_pauses_the_sweep_and_loses_nothing(
    sweep: RealSweep,
) -> None:
    sweep.start("quick", sweep=GRID, count=POINTS).wait_for(4)
    server = sweep.process_named("parallel_hpo.server").pid
    limit_files(server, 4096)
    log = sweep.directory / "server.log"
    sweep.wait_until(lambda: "can't answer now" in log.read_text(), "the server's refusal")
    limit_files(server, resource.RLIM_INFINITY)
    assert sweep.process is not None
    (ledger,) = sweep.directory.glob("*/ledger.db-wal")
    limit_files(sweep.process.pid, ledger.stat().st_size)
    sweep.read_until("the ledger can't be written: ")
    assert len(sweep.entries()) < POINTS
    limit_files(sweep.process.pid, resource.RLIM_INFINITY)
    ended = sweep.finish()
    assert "the ledger can be written again: the sweep goes on" in ended.stderr
    expect_exact(sweep, ended, sweep.directory / "server.db")


def test_a_directory_that_is_removed_ends_the_sweep_with_an_error(sweep: RealSweep) -> None:
    sweep.start("held", count=4, grace_period_s=3).wait_for(2)
    shutil.rmtree(sweep.directory)
    sweep.go()
    ended = sweep.finish()
    assert (ended.code, "was removed or replaced" in ended.stderr) == (1, True), ended.stderr
    assert not list(sweep.directory.glob("*/ledger.db")), "another ledger took its place"


def test_a_locked_database_is_reported_until_it_is_free_again(sweep: RealSweep) -> None:
    sweep.start("held", count=2, workers=1).wait_for(1)
    with closing(sqlite3.connect(sweep.directory / "server.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        sweep.go()
        sweep.read_until("warning: the sweep server is blocked: ")
        other.rollback()
    ended = sweep.finish()
    assert ended.stderr.count("the sweep server can write again: the sweep goes on") == 1
    assert (ended.code, outcomes(ended.summary)) == (0, ["finished"] * 2), ended.stderr


ROOT: Final = Path(__file__).parents[2]
INTERRUPTED: Final = ExitCode.SIGNAL_BASE + signal.SIGINT
SLOW: Final = """
import os, pathlib, time
pathlib.Path(os.environ["JOURNAL"]).with_name("importing").touch()
time.sleep(600)
"""


def stop(sweep: RealSweep, times: int = 1) -> Ended:
    """Interrupt the sweep, again after each message about it, and expect its end."""
    sweep.signal(signal.SIGINT)
    for _ in range(times - 1):
        sweep.read_until("SIGINT")
        sweep.signal(signal.SIGINT)
    ended = sweep.finish()
    assert ended.code == INTERRUPTED, ended.stderr
    return ended


def halt(sweep: RealSweep) -> None:
    sweep.process_named("parallel_hpo.server").send_signal(signal.SIGSTOP)


def damage(sweep: RealSweep) -> None:
    """Damage the database: the server answers each request about runs with an error from now on."""
    with closing(sqlite3.connect(sweep.directory / "server.db", timeout=60)) as database:
        database.execute("ALTER TABLE runs RENAME TO lost")
    sweep.unlike = "what the server knows of its runs is lost"


def test_a_slow_preload_does_not_keep_a_stop_waiting(sweep: RealSweep) -> None:
    (sweep.folder / "slow.py").write_text(SLOW)
    sweep.env["PYTHONPATH"] = str(sweep.folder)
    sweep.start("brief", count=2, preload=["slow"])
    sweep.wait_until((sweep.folder / "importing").exists, "the preload")
    stop(sweep)


def test_a_server_that_hangs_at_its_start_does_not_keep_a_stop_waiting(sweep: RealSweep) -> None:
    (sweep.folder / "slow.py").write_text(SLOW)
    sweep.start("main", mains=sweep.folder / "slow.py", count=2)
    server = "parallel_hpo.server"
    sweep.wait_until(lambda: any(server in command_line(each) for each in sweep.tree()), "the server")
    halt(sweep)
    stop(sweep)


NOT_RECEIVED: Final = "the sweep server did not receive what a worker was issued and did not start"


@pytest.mark.parametrize("words", ["parallel_hpo.worker.forkserver", "parallel_hpo.server"])
def test_a_process_that_hangs_does_not_keep_a_second_stop_waiting(sweep: RealSweep, words: str) -> None:
    sweep.start("sleeper", count=2, grace_period_s=300).wait_for(2)
    sweep.process_named(words).send_signal(signal.SIGSTOP)
    assert outcomes(stop(sweep, 2).summary) == ["stopped"] * 2


@pytest.mark.parametrize("trouble", [halt, damage])
def test_a_server_that_does_not_answer_does_not_keep_a_stop_waiting(
    sweep: RealSweep, trouble: Callable[[RealSweep], None]
) -> None:
    sweep.start("sleeper", count=2, grace_period_s=2).wait_for(2)
    trouble(sweep)
    ended = stop(sweep)
    assert (outcomes(ended.summary), NOT_RECEIVED in ended.stderr) == (["stopped"] * 2, True)


def test_a_server_that_hangs_at_the_sweeps_end_does_not_keep_a_stop_waiting(sweep: RealSweep) -> None:
    sweep.start("held_after_its_end", count=1, workers=1, grace_period_s=2, arguments=("-v",))
    sweep.wait_for(1, "ended")
    halt(sweep)
    sweep.go()
    sweep.read_until("w0 exited")  # the last worker: now the session waits for the server
    ended = stop(sweep)
    assert outcomes(ended.summary) == ["finished"]
    ended = sweep.start("brief", count=1, arguments=("--resume", sweep.sweep_id)).finish()
    assert (ended.code, outcomes(ended.summary)) == (0, ["finished"]), ended.stderr


SCRIPT: Final = """
import signal
from parallel_hpo import ConfigLoader
from tests.processes.mains import brief

heard = set()
signal.signal(signal.SIGALRM, lambda number, frame: heard.add(number))
signal.setitimer(signal.ITIMER_REAL, 0.01, 0.01)
result = ConfigLoader("config.json").hpo.optimize(brief)
print(result.exit_code, result.finished, signal.SIGALRM in heard)
"""


def test_a_timer_of_the_host_program_does_not_disturb_the_sweep(sweep: RealSweep) -> None:
    """It goes off a hundred times a second, from the first moment to the last."""
    (sweep.folder / "script.py").write_text(SCRIPT)
    sweep.configure(workers=2, count=2)
    sweep.env["PYTHONPATH"] = str(ROOT)
    ended = sweep.python("script.py").finish()
    assert ended.stdout.splitlines()[-1:] == ["0 2 True"], ended.stderr
