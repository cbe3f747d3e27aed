"""Sweeps without a fault: what the first user sees."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.processes.conftest import MAINS, PerformedRuns, RealSweep, outcomes


@pytest.fixture(scope="module")
def ten_runs(new_sweep: Callable[[], RealSweep]) -> PerformedRuns:
    sweep = new_sweep()
    return PerformedRuns(sweep, sweep.start("quick", count=10, workers=3).finish())


@pytest.fixture(scope="module")
def curious_runs(new_sweep: Callable[[], RealSweep]) -> PerformedRuns:
    """Runs that told what they found, in a sweep that another run's process starts."""
    sweep = new_sweep()
    sweep.env |= {"WANDB_RUN_ID": "parent", "RANK": "3", "WANDB_SERVICE": "1-2-3", "OMP_NUM_THREADS": "7"}
    return PerformedRuns(sweep, sweep.start("curious", count=4, arguments=("--", "--epochs", "3")).finish())


@pytest.fixture(scope="module")
def failed_runs(new_sweep: Callable[[], RealSweep]) -> PerformedRuns:
    sweep = new_sweep()
    return PerformedRuns(sweep, sweep.start("failing", count=8, failures={"max_initial": None}).finish())


def test_ten_runs_on_three_workers_are_exactly_ten_distinct_runs(ten_runs: PerformedRuns) -> None:
    ended = ten_runs.ended
    assert ended.code == 0, ended.stderr
    entries = ten_runs.sweep.entries()
    assert len({entry.run_id for entry in entries}) == len(entries) == 10
    assert len({entry.pid for entry in entries}) == 3
    assert outcomes(ended.summary) == ["finished"] * 10
    assert "(shares 4, 3, 3)" in ended.stderr


def test_main_is_in_the_main_thread_with_signals_of_its_own_and_no_stdin(curious_runs: PerformedRuns) -> None:
    assert outcomes(curious_runs.ended.summary) == ["finished"] * 4
    for entry in curious_runs.sweep.entries():
        assert entry.facts["in_main_thread"]
        assert entry.facts["heard"]
        assert entry.facts["interactive"] == ""


def test_main_may_read_copy_and_pickle_the_runs_settings_and_log_the_code(sweep: RealSweep) -> None:
    ended = sweep.start("copying", count=2, workers=1).finish()
    assert outcomes(ended.summary) == ["finished"] * 2, ended.stderr
    entries = sweep.entries()
    assert [(entry.facts["same"], entry.facts["stop_fn"]) for entry in entries] == [(True, None)] * 2
    assert {entry.facts["program"] for entry in entries} == {str(MAINS)}
    assert {entry.facts["code"].partition("-")[0] for entry in entries} == {"source"}
    assert len({entry.pid for entry in entries}) == 1, "its worker was replaced"


def test_two_workers_draw_different_random_numbers(curious_runs: PerformedRuns) -> None:
    entries = curious_runs.sweep.entries()
    assert len({entry.facts["random"] for entry in entries}) == 4
    assert len({entry.facts["numpy"] for entry in entries}) == 4


def test_a_workers_environment_has_its_facts_and_none_of_the_parents_run(curious_runs: PerformedRuns) -> None:
    for entry in curious_runs.sweep.entries():
        environment = entry.facts["environment"]
        assert environment["WANDB_RUN_ID"] == environment["PARALLEL_HPO_RUN_ID"] == entry.run_id
        assert environment["PARALLEL_HPO_WORKERS"] == "2"
        assert environment["OMP_NUM_THREADS"] == "7"
        assert environment["CUDA_DEVICE_ORDER"] == "PCI_BUS_ID"
        assert "RANK" not in environment
        assert entry.facts["argv"] == [str(MAINS), "--epochs", "3"]


def test_a_grid_without_a_count_ends_by_itself_with_every_point_once(sweep: RealSweep) -> None:
    grid = {
        "method": "grid",
        "parameters": {"x": {"values": [1, 2, 3]}, "more": {"parameters": {"y": {"values": [0, 1, 2, 3]}}}},
    }
    ended = sweep.start("quick", sweep=grid).finish()
    assert ended.code == 0, ended.stderr
    points = [json.dumps(entry.facts["parameters"]) for entry in sweep.entries()]
    assert len(set(points)) == len(points) == 12


@pytest.mark.parametrize(("method", "main"), [("random", "quick"), ("bayes", "summarised")])
def test_the_best_run_is_that_with_the_best_value(sweep: RealSweep, method: str, main: str) -> None:
    configuration = {
        "method": method,
        "metric": {"name": "loss", "goal": "maximize"},
        "parameters": {"x": {"min": 0.0, "max": 1.0}},
    }
    ended = sweep.start(main, count=5, sweep=configuration).finish()
    best = max(run["parameters"]["x"] for run in ended.summary["runs"])
    assert ended.summary["best"]["parameters"]["x"] == best
    assert ended.summary["best"]["value"] == pytest.approx(best + 2)
    gains = [run["value"] - run["parameters"]["x"] for run in ended.summary["runs"]]
    assert gains == pytest.approx([2.0] * 5)
    assert (ended.summary["metric"], ended.summary["goal"]) == ("loss", "maximize")


def test_the_json_on_stdout_is_the_summary_and_nothing_else(ten_runs: PerformedRuns) -> None:
    assert json.loads(ten_runs.ended.stdout) == ten_runs.ended.summary


def test_each_workers_output_is_in_its_log_and_on_stderr(failed_runs: PerformedRuns) -> None:
    for number in range(2):
        assert f"[w{number}] ValueError: no good" in failed_runs.ended.stderr
        (log,) = failed_runs.sweep.directory.glob(f"*/worker-{number}/output.log")
        assert "ValueError: no good" in log.read_text()


def test_runs_that_fail_count_and_a_sweep_in_which_none_finished_says_so(failed_runs: PerformedRuns) -> None:
    ended = failed_runs.ended
    assert ended.code == 5
    assert outcomes(ended.summary) == ["failed"] * 8
    assert {run["reason"] for run in ended.summary["runs"]} == {"ValueError: no good"}


def test_a_main_that_never_calls_init_has_failed_for_that_reason(sweep: RealSweep) -> None:
    ended = sweep.start("never_initialising", count=2).finish()
    assert outcomes(ended.summary) == ["failed"] * 2
    assert {run["reason"] for run in ended.summary["runs"]} == {"main never called wandb.init()"}


def test_the_sweep_is_finished_on_its_server_when_its_count_is_reached(ten_runs: PerformedRuns) -> None:
    with sqlite3.connect(ten_runs.sweep.directory / "server.db") as database:
        assert database.execute("SELECT state FROM sweeps").fetchall() == [("FINISHED",)]
    database.close()


def test_spawned_workers_do_the_same_as_forked_ones(sweep: RealSweep) -> None:
    ended = sweep.start("quick", count=2, workers=1, start_method="spawn").finish()
    assert outcomes(ended.summary) == ["finished"] * 2, ended.stderr


SCRIPT = """
import json, os, sys, threading
import wandb
from parallel_hpo import ConfigLoader

def main():
    run = wandb.init()
    run.log({"loss": wandb.config["x"]})

hpo = ConfigLoader(sys.argv[1]).hpo
if hpo is None:
    main()
else:
    result = hpo.optimize(main)
    print(result.to_json())
"""


def test_a_script_without_a_guard_is_launcher_and_main_in_one(sweep: RealSweep, tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    config = tmp_path / "config.json"
    section = {
        "count": 3,
        "workers": 2,
        "directory": str(sweep.directory),
        "sweep_configuration": {"method": "random", "parameters": {"x": {"min": 0.0, "max": 1.0}}},
    }
    config.write_text(json.dumps({"hpo": section}))
    ended = sweep.start_command(str(script), str(config)).finish()
    assert ended.code == 0, ended.stderr
    assert json.loads(ended.stdout)["finished"] == 3


def test_a_lambda_or_a_nested_function_is_a_main_too(sweep: RealSweep, tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT.replace("result = hpo.optimize(main)", "result = hpo.optimize(lambda: main())"))
    config = tmp_path / "config.json"
    section = {"count": 1, "workers": 1, "directory": str(sweep.directory)}
    sweep_configuration = {"method": "random", "parameters": {"x": {"values": [1, 2]}}}
    config.write_text(json.dumps({"hpo": section | {"sweep_configuration": sweep_configuration}}))
    ended = sweep.start_command(str(script), str(config)).finish()
    assert json.loads(ended.stdout)["finished"] == 1, ended.stderr
