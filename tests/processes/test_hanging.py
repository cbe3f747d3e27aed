"""A stop ends a sweep whatever hangs or can't be written; without the stop, it would wait for minutes."""

from __future__ import annotations

import signal
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Final

import pytest

from parallel_hpo.core.errors import ExitCode
from tests.processes.conftest import Ended, RealSweep, command_line, outcomes

pytestmark = pytest.mark.thorough

ROOT: Final = Path(__file__).parents[2]
INTERRUPTED: Final = ExitCode.SIGNAL_BASE + signal.SIGINT
SLOW: Final = """
import os, pathlib, time
pathlib.Path(os.environ["JOURNAL"]).with_name("importing").touch()
time.sleep(600)
"""


def stop(sweep: RealSweep, times: int = 1) -> Ended:
    """Interrupt the sweep, and expect its end; more than once with a word in between."""
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


def test_a_timer_of_the_host_program_changes_nothing(sweep: RealSweep) -> None:
    """It goes off a hundred times a second, from the first moment to the last."""
    (sweep.folder / "script.py").write_text(SCRIPT)
    sweep.configure(workers=2, count=2)
    sweep.env["PYTHONPATH"] = str(ROOT)
    ended = sweep.python("script.py").finish()
    assert ended.stdout.splitlines()[-1:] == ["0 2 True"], ended.stderr
