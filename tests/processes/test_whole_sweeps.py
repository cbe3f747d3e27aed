"""Sweeps without a fault: what the first user sees."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Final

import pytest

from tests.processes.conftest import MAINS, PerformedRuns, RealSweep, outcomes, rows

BAYES: Final = {
    "method": "bayes",
    "metric": {"name": "loss", "goal": "maximize"},
    "parameters": {"x": {"min": 0.0, "max": 1.0}},
}


@pytest.fixture(scope="module")
def curious(new_sweep: Callable[[], RealSweep]) -> PerformedRuns:
    """Ten runs that journal what they find, in a sweep that another run's process starts."""
    sweep = new_sweep()
    sweep.env |= {"WANDB_RUN_ID": "parent", "RANK": "3", "WANDB_SERVICE": "1-2-3", "OMP_NUM_THREADS": "7"}
    arguments = ("--", "--epochs", "3")
    sweep.start("curious", sweep=BAYES, count=10, workers=3, arguments=arguments)
    return PerformedRuns(sweep, sweep.finish())


def test_ten_runs_on_three_workers_are_exactly_ten_distinct_runs(curious: PerformedRuns) -> None:
    ended, entries = curious.ended, curious.sweep.entries()
    assert ended.code == 0, ended.stderr
    assert len({entry.run_id for entry in entries}) == len(entries) == 10
    assert len({entry.pid for entry in entries}) == 3
    assert outcomes(ended.summary) == ["finished"] * 10
    assert json.loads(ended.stdout) == ended.summary
    assert curious.sweep.server_rows("SELECT state FROM sweeps") == [("FINISHED",)]


def test_the_best_run_is_the_best_one_by_the_summary_that_main_defines(curious: PerformedRuns) -> None:
    summary = curious.ended.summary
    best = max(run["parameters"]["x"] for run in summary["runs"])
    assert summary["best"]["value"] == pytest.approx(best + 2)
    assert (summary["metric"], summary["goal"]) == ("loss", "maximize")


def test_main_is_in_the_main_thread_with_its_own_signals_and_random_numbers(curious: PerformedRuns) -> None:
    entries = curious.sweep.entries()
    assert all(entry.facts["in_main_thread"] and entry.facts["heard"] for entry in entries)
    assert {entry.facts["stdin"] for entry in entries} == {""}
    assert len({entry.facts["random"] for entry in entries}) == 10
    assert len({entry.facts["numpy"] for entry in entries}) == 10


def test_a_workers_environment_describes_its_run_and_not_the_parents(curious: PerformedRuns) -> None:
    for entry in curious.sweep.entries():
        environment = entry.facts["environment"]
        assert environment["WANDB_RUN_ID"] == environment["PARALLEL_HPO_RUN_ID"] == entry.run_id
        assert environment["PARALLEL_HPO_WORKERS"] == "3"
        assert environment["OMP_NUM_THREADS"] == "7"
        assert "RANK" not in environment
        assert entry.facts["argv"] == [str(MAINS), "--epochs", "3"]


TALKING = """
import sys
import wandb

def talk():
    with wandb.init() as run:
        print("said by", run.id)
        print("complained by", run.id, file=sys.stderr)
        run.log({"loss": 1.0})
    sys.stdout.close()
"""


@pytest.mark.parametrize("method", ["forkserver", "spawn"])
def test_what_each_run_prints_is_on_the_server_and_in_its_folder(sweep: RealSweep, method: str) -> None:
    """1. A run prints, and closes its output. 2. The next one in its worker prints too."""
    (mains := sweep.folder / "talking.py").write_text(TALKING)
    ended = sweep.start("talk", mains=mains, count=2, workers=1, start_method=method).finish()
    assert outcomes(ended.summary) == ["finished"] * 2, ended.stderr
    for run in ended.summary["runs"]:
        words = {f"said by {run['run_id']}", f"complained by {run['run_id']}"}
        (log,) = sweep.directory.glob(f"*/worker-0/wandb/run-*-{run['run_id']}/files/output.log")
        assert words <= set(log.read_text().splitlines())
        query = "SELECT text FROM lines JOIN runs ON runs.id = run_id WHERE name = ? AND stream = 2"
        console = "\n".join(text for (text,) in sweep.server_rows(query, run["run_id"]))
        assert all(word in console and sweep.printed(word) == 1 for word in words)


def test_a_crashed_run_is_crashed_at_once_on_a_server_that_runs_by_itself(
    sweep: RealSweep, standalone: dict[str, str]
) -> None:
    """By W&B's protocol alone the server would call it so after minutes of silence."""
    sweep.env |= standalone
    del sweep.env["PARALLEL_HPO_BACKEND"]
    ended = sweep.start("exiting", count=1, workers=1, retries=0).finish()
    assert (ended.code, outcomes(ended.summary)) == (5, ["crashed"]), ended.stderr
    assert "backend wandb: a parallel_hpo server" in ended.stderr
    database = sweep.folder / "server" / "server.db"
    assert rows(database, "SELECT state FROM runs") == [("crashed",)]
    assert rows(database, "SELECT state FROM sweeps") == [("FINISHED",)]
    assert not (sweep.directory / "server.db").exists()
