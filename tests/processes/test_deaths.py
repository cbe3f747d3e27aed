"""Sweeps in which a worker, the fork server or the sweep server dies, and what a run leaves behind."""

from __future__ import annotations

import json
import os
import resource
import signal
import sqlite3
import sys
import time
from contextlib import closing
from pathlib import Path
from typing import Any, Final

import pytest

from tests.conftest import QUIET
from tests.processes.conftest import RealSweep, ServerRun, grid, outcomes

KEEPING: Final = Path(__file__).with_name("leftover_mains.py")
ROOT: Final = Path(__file__).parents[2]


def kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)


def test_a_sweep_stays_exact_if_its_fork_server_a_worker_and_its_server_are_killed(sweep: RealSweep) -> None:
    sweep.start("brief", count=12).wait_for(3)
    server = sweep.process_named("parallel_hpo.server")
    sweep.process_named("parallel_hpo.worker.forkserver").kill()
    number = len(sweep.entries())
    kill(sweep.wait_for(number + 1)[-1].pid)
    sweep.wait_for(number + 3)
    assert server.is_running()
    server.kill()
    sweep.finish_all(12)
    assert len({entry.run_id for entry in sweep.entries()}) == 12


def test_a_run_that_its_agent_cannot_begin_is_run_by_another_worker(sweep: RealSweep) -> None:
    main = "held_unless_in_slot_0_which_takes_no_more_runs"
    sweep.start(main, sweep=grid(x=[1, 2, 3, 4]), count=4)
    sweep.wait_until(lambda: sweep.printed("errored:"), "a run that its agent can't begin")
    sweep.go()
    sweep.finish_all(4)


def test_a_run_can_continue_from_its_last_checkpoint_in_its_next_attempt(sweep: RealSweep) -> None:
    sweep.env["WANDB_X_FILE_STREAM_TRANSMIT_INTERVAL"] = "1"
    ended = sweep.start("from_checkpoint", count=1, workers=1).finish()
    (run,) = ended.summary["runs"]
    assert (run["outcome"], run["attempts"], run["value"]) == ("finished", 2, 104), ended.stderr
    assert [row["loss"] for row in history(sweep)] == [0, 1, 2, 103, 104]


def history(sweep: RealSweep) -> list[dict[str, Any]]:
    """Return the rows that the server has of the sweep's only run."""
    found = sweep.server_rows("SELECT text FROM lines WHERE stream = 0 ORDER BY number")
    return [json.loads(text) for (text,) in found]


@pytest.mark.leans_on_wandb
def test_unsent_lines_of_a_crashed_run_are_sent_to_the_server_exactly_once(sweep: RealSweep) -> None:
    """The first part has arrived before the crash; wandb-core holds back at most 200 lines."""
    sweep.env["WANDB_X_FILE_STREAM_TRANSMIT_INTERVAL"] = "1"
    ended = sweep.start("cut_short", count=1, workers=1, retries=0).finish()
    assert outcomes(ended.summary) == ["crashed"], ended.stderr
    logged = [row["loss"] for row in history(sweep)]
    assert logged == list(range(len(logged)))
    assert 1800 < len(logged) <= 2000


def test_hyperband_judges_a_retried_run_by_its_new_attempt_and_stops_it(sweep: RealSweep) -> None:
    """1. It dies one row before the band. 2. Its second attempt is judged by its own third row."""
    sweep.env["WANDB_X_FILE_STREAM_TRANSMIT_INTERVAL"] = "1"
    hyperband = {"early_terminate": {"type": "hyperband", "min_iter": 3, "eta": 3}}
    sweep.start("judged", sweep=grid(x=[1, 2]) | hyperband, workers=1)
    first = sweep.wait_for(1, "logged")[0]

    def is_there(column: str, number: int) -> bool:
        query = f"SELECT {column} FROM runs WHERE name = ?"
        return bool(sweep.server_rows(query, first.run_id) == [(number,)])

    sweep.wait_until(lambda: is_there("metric_rows", 2), "the first rows")
    kill(first.pid)
    sweep.wait_for(2, "logged")
    sweep.wait_until(lambda: is_there("history_lines", 3), "the third row")
    assert is_there("metric_rows", 1) and is_there("stop_requested", 0)
    sweep.go()
    ended = sweep.finish()
    assert ended.code == 0, ended.stderr
    (run,) = [run for run in ended.summary["runs"] if run["run_id"] == first.run_id]
    assert (run["outcome"], run["attempts"], run["reason"]) == ("stopped", 2, "stopped by the sweep")


def start_keeping(sweep: RealSweep, *cases: str, rounds: tuple[int, ...] = (1, 2)) -> RealSweep:
    """Perform these cases once per round, one after the other in one worker."""
    sweep.env |= QUIET | {"PYTHONPATH": str(ROOT)}
    points = grid(round=list(rounds), case=list(cases))
    return sweep.start("keep", mains=KEEPING, sweep=points, workers=1, arguments=("-v",))


def left(sweep: RealSweep, temporary: Path) -> list[str]:
    """Return what the runs have left in shared memory and in the temporary folder."""
    memory = Path("/dev/shm")
    names = [Path(str(entry.facts["name"])).name for entry in sweep.entries("made")]
    shared = [name for name in names if (memory / name).exists() or (memory / f"sem.{name}").exists()]
    others = [path.name for path in temporary.iterdir()]
    return [*shared, *(name for name in others if not name.endswith(("wandb-media", "wandb-artifacts")))]


def test_leftovers_of_a_run_do_not_reach_the_next_one_and_a_child_can_perform_the_run(
    sweep: RealSweep, temporary: Path
) -> None:
    """Work left to the end of a run's process is done there: `atexit`, open files, folders."""
    cases = (
        "pool_fork",
        "pool_forkserver",
        "leave_pool",
        "leave_executor",
        "joblib",
        "leak_memory",
        "register",
    )
    ended = start_keeping(sweep, *cases, "child_trains", "child_fails").finish()
    server = sweep.runs_on_the_server()
    seen = {
        (run["parameters"]["case"], run["outcome"], run["reason"], server[run["run_id"]])
        for run in ended.summary["runs"]
    }
    assert seen == {
        *((case, "finished", "", ServerRun("finished", 0)) for case in (*cases, "child_trains")),
        ("child_fails", "failed", "RuntimeError: a child has failed", ServerRun("failed", 1)),
    }, ended.stderr
    entered = [entry for entry in sweep.entries() if "children" in entry.facts]
    assert [entry.facts["children"] for entry in entered] == [[]] * 2 * len(cases)
    assert len({entry.pid for entry in entered}) == 1
    for run in ended.summary["runs"]:
        if run["parameters"]["case"] == "register":
            assert (sweep.folder / f"{run['run_id']}.called").exists()
            assert (sweep.folder / f"{run['run_id']}.txt").read_text() == run["run_id"]
    assert left(sweep, temporary) == []


def test_a_worker_that_holds_leftovers_of_its_run_is_replaced(sweep: RealSweep, temporary: Path) -> None:
    ended = start_keeping(sweep, "hold_pool", "hold_memory", "leave_server", rounds=(1,)).finish_all(3)
    assert len({entry.pid for entry in sweep.entries()}) == 3
    assert "replaced: its run left" in ended.stderr
    assert left(sweep, temporary) == []


def test_a_run_that_logs_while_the_ledger_cannot_be_written_has_not_stalled(sweep: RealSweep) -> None:
    sweep.start("logs_for_long_in_slot_0", count=2, stall_timeout_s=3).wait_for(2)
    with closing(
        sqlite3.connect(sweep.directory / sweep.sweep_id / "ledger.db", isolation_level=None)
    ) as other:
        other.execute("BEGIN IMMEDIATE")
        time.sleep(5)  # the end of the run in slot 1 waits for its record meanwhile
        other.execute("ROLLBACK")
    ended = sweep.finish_all(2)
    assert [run["attempts"] for run in ended.summary["runs"]] == [1, 1]


@pytest.mark.skipif(sys.platform != "linux", reason="another process's limits can be set on Linux alone")
def test_replacing_workers_costs_no_restart_even_without_free_descriptors(sweep: RealSweep) -> None:
    sweep.start("brief", count=4, recycle_after=1, restart={"max_restarts": 0}).wait_for(2)
    server = sweep.process_named("parallel_hpo.worker.forkserver")
    limits = resource.prlimit(server.pid, resource.RLIMIT_NOFILE)
    taken = {int(entry.name) for entry in Path(f"/proc/{server.pid}/fd").iterdir()}
    _, second_free, *_ = (number for number in range(100) if number not in taken)
    resource.prlimit(server.pid, resource.RLIMIT_NOFILE, (second_free, limits[1]))  # a child takes two
    sweep.read_until("can't be started: Too many open files in the fork server (ulimit -n); retrying until")
    resource.prlimit(server.pid, resource.RLIMIT_NOFILE, limits)
    sweep.finish_all(4)
    assert len({entry.pid for entry in sweep.entries()}) == 4
