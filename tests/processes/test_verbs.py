"""Another terminal's view of a sweep, and its commands to it."""

from __future__ import annotations

import csv
import io
import json
import os
import signal
import sys
from collections.abc import Callable

import optuna
import pytest

from tests.processes.conftest import RANDOM, PerformedRuns, RealSweep, outcomes
from tests.storages import storage_in


@pytest.fixture(scope="module")
def three_runs(new_sweep: Callable[[], RealSweep]) -> PerformedRuns:
    sweep = new_sweep()
    named = RANDOM | {"name": "first try"}
    return PerformedRuns(sweep, sweep.start("quick", count=3, project="digits", sweep=named).finish())


def test_a_running_sweep_is_seen_from_another_terminal_and_then_cancelled(sweep: RealSweep) -> None:
    sweep.start("sleeper", count=4).wait_for(2)
    seen = sweep.ask_json("status", sweep.sweep_id)
    assert (seen["running"], seen["started"], seen["open"], seen["count"]) == (True, 2, 2, 4)
    exported = json.loads(sweep.ask("export", sweep.sweep_id, "--format", "json"))
    assert ([run["outcome"] for run in exported["runs"]], exported["attempted"]) == (["open"] * 2, 0)
    sweep.ask("cancel", sweep.sweep_id)
    ended = sweep.finish()
    assert (ended.summary["stop_reason"], outcomes(ended.summary)) == (
        "the sweep was cancelled",
        ["stopped"] * 2,
    )


def test_an_ended_sweep_is_seen_with_its_name_its_best_run_and_its_logs(three_runs: PerformedRuns) -> None:
    sweep, best = three_runs.sweep, three_runs.ended.summary["best"]
    seen = sweep.ask_json("status", sweep.sweep_id)
    assert (seen["running"], seen["name"], seen["project"]) == (False, "first try", "digits")
    assert sweep.ask_json("best", sweep.sweep_id)["run_id"] == best["run_id"]
    lines = [json.loads(line) for line in sweep.ask("logs", sweep.sweep_id, "--json").splitlines()]
    assert {line["worker"] for line in lines} <= {"worker-0", "worker-1"}


def test_an_ended_sweep_takes_no_commands(three_runs: PerformedRuns) -> None:
    sweep, name = three_runs.sweep, three_runs.sweep.sweep_id
    assert "is not running" in sweep.ask("scale", name, "3", code=2)
    assert "has ended: the sweep is finished" in sweep.ask("pause", name, code=2)
    assert sweep.ask_json("resume", name) == {"sweep": name, "verb": "resume", "running": False}
    assert f"there: {name}" in sweep.ask("status", "nothing", code=2)


def test_runs_are_listed_by_a_column_as_json_and_csv(three_runs: PerformedRuns) -> None:
    sweep, name = three_runs.sweep, three_runs.sweep.sweep_id
    listed = list(csv.DictReader(io.StringIO(sweep.ask("runs", name, "--csv", "--sort", "value"))))
    assert listed[0]["run_id"] == three_runs.ended.summary["best"]["run_id"]
    by_x = sweep.ask_json("runs", name, "--sort", "parameters.x")
    assert [run["run_id"] for run in by_x] == [row["run_id"] for row in listed]  # loss grows with x
    assert "there is no such column" in sweep.ask("runs", name, "--sort", "y", code=2)


def test_an_ended_sweep_becomes_an_optuna_study_with_what_its_runs_logged(three_runs: PerformedRuns) -> None:
    sweep = three_runs.sweep
    file = sweep.folder / "studies.db"
    assert sweep.ask("export", sweep.sweep_id, "--format", "optuna", "-o", str(file)) == f"{file}\n"
    study = optuna.load_study(study_name=None, storage=storage_in(file))
    for trial, run in zip(study.trials, three_runs.ended.summary["runs"], strict=True):
        assert (trial.user_attrs["run_id"], trial.value) == (run["run_id"], run["value"])
        assert trial.intermediate_values == {step: run["parameters"]["x"] + step for step in range(3)}


def test_a_paused_sweep_starts_no_run_until_it_is_resumed_and_a_stopped_one_ends(sweep: RealSweep) -> None:
    sweep.start("brief", count=500).wait_for(2)
    sweep.ask("pause", sweep.sweep_id)
    sweep.wait_until(lambda: sweep.ask_json("status", sweep.sweep_id)["open"] == 0, "all runs over")
    paused_at = len(sweep.entries())
    sweep.ask("resume", sweep.sweep_id)
    sweep.wait_for(paused_at + 2)
    sweep.ask("stop", sweep.sweep_id)
    ended = sweep.finish()
    assert (ended.code, ended.summary["stop_reason"]) == (0, "the sweep is finished"), ended.stderr
    assert set(outcomes(ended.summary)) == {"finished"}


@pytest.mark.skipif(sys.platform != "linux", reason="the limit that is named is Linux's")
def test_a_running_sweep_is_scaled_up_no_further_than_the_limits_allow_and_down(sweep: RealSweep) -> None:
    sweep.launcher = ("sh", "-c", 'ulimit -S -n 120; ulimit -H -n 1000; exec "$@"', "sh")
    sweep.start("held", count=10).wait_for(2)
    sweep.ask("scale", sweep.sweep_id, "1000")
    said = sweep.read_until("not scaled to 1000 workers: ")
    assert "this process may have 1000 (ulimit -Hn)" in said
    sweep.ask("scale", sweep.sweep_id, "4")
    sweep.wait_for(4)
    sweep.ask("scale", sweep.sweep_id, "1")
    sweep.go()
    ended = sweep.finish()
    assert (ended.code, outcomes(ended.summary)) == (0, ["finished"] * 10), ended.stderr
    assert {entry.slot for entry in sweep.entries()[:4]} == {0, 1, 2, 3}
    assert len({entry.slot for entry in sweep.entries()[-4:]}) == 1


def test_the_run_of_a_drained_worker_that_dies_is_run_again_by_another(sweep: RealSweep) -> None:
    first, _ = sweep.start("held", count=5).wait_for(2)
    assert "has no worker 7" in sweep.ask("drain", sweep.sweep_id, "--worker", "7", code=2)
    sweep.ask("drain", sweep.sweep_id, "--worker", str(first.slot))
    os.kill(first.pid, signal.SIGKILL)
    sweep.go()
    ended = sweep.finish()
    assert (ended.code, outcomes(ended.summary)) == (0, ["finished"] * 5), ended.stderr
    assert (first.run_id, 2) in {(entry.run_id, entry.attempt) for entry in sweep.entries()}
    assert {entry.slot for entry in sweep.entries()[2:]} == {1 - first.slot}
