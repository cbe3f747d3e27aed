"""Sweeps in which something dies, is killed, or is asked to stop."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
from contextlib import closing

import psutil
import pytest

from tests.processes.conftest import RealSweep, outcomes
from tests.spares import FORK_SERVER, SERVER

GONE_WITHIN_S = 5.0
FAR_BEYOND_S = 600.0
"""A grace period longer than any test may take."""


def kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)


def expect_gone(processes: list[psutil.Process]) -> None:
    _, alive = psutil.wait_procs(processes, timeout=GONE_WITHIN_S)
    assert not alive


def test_a_killed_workers_run_is_run_again_and_the_count_stays_exact(sweep: RealSweep) -> None:
    sweep.start("brief", count=6)
    kill(sweep.wait_for(4)[-1].pid)
    ended = sweep.finish()
    assert ended.code == 0, ended.stderr
    entries = sweep.entries()
    assert len({entry.run_id for entry in entries}) == 6
    assert len(entries) == 7
    assert outcomes(ended.summary) == ["finished"] * 6
    assert (ended.summary["retried"], ended.summary["lost"]) == (1, 0)


def test_a_run_that_ends_its_process_is_tried_again_and_then_has_crashed(sweep: RealSweep) -> None:
    ended = sweep.start("exiting", count=1, workers=1).finish()
    assert [entry.attempt for entry in sweep.entries()] == [1, 2]
    assert len({entry.run_id for entry in sweep.entries()}) == 1
    (run,) = ended.summary["runs"]
    assert (run["outcome"], run["reason"], run["attempts"]) == ("crashed", "exit 3", 2)
    assert ended.code == 5


def test_a_run_that_is_run_again_may_go_on_from_its_last_checkpoint(sweep: RealSweep) -> None:
    sweep.env["WANDB_X_FILE_STREAM_TRANSMIT_INTERVAL"] = "1"
    ended = sweep.start("from_checkpoint", count=1, workers=1).finish()
    (run,) = ended.summary["runs"]
    assert (run["outcome"], run["attempts"]) == ("finished", 2), ended.stderr
    assert ended.summary["best"]["value"] == 104
    with closing(sqlite3.connect(sweep.directory / "server.db")) as database:
        rows = database.execute("SELECT text FROM lines WHERE stream = 0 ORDER BY number").fetchall()
    assert [json.loads(text)["loss"] for (text,) in rows] == [0, 1, 2, 103, 104]


def test_without_retries_the_first_death_is_a_crash(sweep: RealSweep) -> None:
    ended = sweep.start("exiting", count=2, workers=1, retries=0).finish()
    assert outcomes(ended.summary) == ["crashed"] * 2
    assert [entry.attempt for entry in sweep.entries()] == [1, 1]


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]
)
def test_a_stop_signal_interrupts_every_main_and_accounts_for_every_run(
    sweep: RealSweep, number: signal.Signals, code: int
) -> None:
    sweep.start("sleeper", count=10, grace_period_s=FAR_BEYOND_S)  # it must not come to that
    sweep.wait_for(2)
    processes = sweep.tree()
    sweep.signal(number)
    ended = sweep.finish()
    assert ended.code == code, ended.stderr
    assert len(sweep.entries("interrupted")) == 2
    assert outcomes(ended.summary) == ["stopped"] * 2
    expect_gone(processes)


def test_a_main_that_swallows_the_interrupt_is_killed_after_the_grace_period(sweep: RealSweep) -> None:
    sweep.start("deaf", count=10, grace_period_s=1)
    sweep.wait_for(2)
    sweep.signal(signal.SIGINT)
    ended = sweep.finish()
    assert ended.code == 130
    assert outcomes(ended.summary) == ["stopped"] * 2


def test_a_second_signal_kills_at_once(sweep: RealSweep) -> None:
    sweep.start("deaf", count=10, grace_period_s=50)
    sweep.wait_for(2)
    sweep.signal(signal.SIGINT)
    sweep.wait_for(2, "swallowed")
    sweep.signal(signal.SIGINT)
    ended = sweep.finish()
    assert ended.code == 130
    assert outcomes(ended.summary) == ["stopped"] * 2


def test_a_drain_lets_the_running_runs_finish(sweep: RealSweep) -> None:
    sweep.start("brief", count=50)
    sweep.wait_for(2)
    sweep.signal(signal.SIGUSR1)
    ended = sweep.finish()
    assert ended.code == 75
    assert set(outcomes(ended.summary)) == {"finished"}
    assert ended.summary["attempted"] < 50


def test_a_stop_before_there_is_a_sweep_ends_it_all_the_same(sweep: RealSweep) -> None:
    sweep.starts = (SERVER,)  # the fork server is to be busy with its imports
    sweep.start("quick", count=50)
    sweep.wait_until(
        lambda: any("worker.forkserver" in " ".join(p.cmdline()) for p in sweep.tree()), "fork server"
    )
    sweep.signal(signal.SIGINT)
    assert sweep.finish().code == 130


def test_when_the_supervisor_is_killed_nothing_of_the_sweep_lives_on(sweep: RealSweep) -> None:
    sweep.with_helpers().env["THEN_SLEEP"] = "60"
    sweep.start("with_grandchild", count=10)
    sweep.wait_for(2, "grandchild")
    processes = sweep.tree()
    assert any(process.name() == "wandb-core" for process in processes)
    assert sweep.process is not None
    kill(sweep.process.pid)
    sweep.process.wait()
    expect_gone(processes)


def test_what_a_run_leaves_alive_dies_at_its_end(sweep: RealSweep) -> None:
    ended = sweep.start("with_grandchild", count=2, workers=1).finish()
    assert outcomes(ended.summary) == ["finished"] * 2
    assert not [entry for entry in sweep.entries("grandchild") if psutil.pid_exists(entry.pid)]


def test_when_the_fork_server_is_killed_the_sweep_goes_on_and_stays_exact(sweep: RealSweep) -> None:
    sweep.starts = (SERVER, FORK_SERVER, FORK_SERVER)
    sweep.start("brief", count=9)
    sweep.wait_for(3)
    sweep.process_named("parallel_hpo.worker.forkserver").kill()
    kill(sweep.wait_for(6)[-1].pid)
    ended = sweep.finish()
    assert ended.code == 0, ended.stderr
    assert outcomes(ended.summary) == ["finished"] * 9
    assert len({entry.run_id for entry in sweep.entries()}) == 9


def test_when_the_sweep_server_is_killed_it_comes_back_and_no_run_is_lost(sweep: RealSweep) -> None:
    sweep.starts = (SERVER, FORK_SERVER, SERVER)
    sweep.start("brief", count=6)
    sweep.wait_for(3)
    sweep.process_named("parallel_hpo.server").kill()
    ended = sweep.finish()
    assert ended.code == 0, ended.stderr
    assert outcomes(ended.summary) == ["finished"] * 6
    assert len({entry.run_id for entry in sweep.entries()}) == 6
