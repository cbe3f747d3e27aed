"""Another terminal's view of a sweep, and its word to it."""

from __future__ import annotations

import csv
import io
import json
import resource
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from functools import partial

import optuna
import pytest

from tests.commanding import CommandLine
from tests.launching import limit_descriptors
from tests.processes.conftest import RANDOM, PerformedRuns, RealSweep, outcomes
from tests.storages import storage_in


def sweep_id_of(sweep: RealSweep) -> str:
    sweep.wait_until(lambda: list(sweep.directory.glob("*/ledger.db")), "a ledger")
    return next(iter(sweep.directory.glob("*/ledger.db"))).parent.name


def states_of(sweep: RealSweep) -> set[str]:
    return {run.state for run in sweep.runs_on_the_server().values()}


@dataclass(frozen=True)
class ThreeRuns(PerformedRuns):
    """A sweep of three runs, and the second in which it was begun at the earliest."""

    not_before: datetime


@pytest.fixture(scope="module")
def three_runs(new_sweep: Callable[[], RealSweep]) -> ThreeRuns:
    sweep, now = new_sweep(), datetime.now().astimezone().replace(microsecond=0)
    ended = sweep.start("quick", count=3, project="digits", sweep=RANDOM | {"name": "first try"}).finish()
    return ThreeRuns(sweep, ended, now)


def test_a_running_sweep_is_seen_from_another_terminal(sweep: RealSweep) -> None:
    sweep.start("sleeper", count=4)
    sweep.wait_for(2)
    seen = sweep.ask_json("status", sweep_id_of(sweep))
    assert (seen["running"], seen["started"], seen["open"], seen["count"]) == (True, 2, 2, 4)
    exported = json.loads(sweep.ask("export", sweep_id_of(sweep), "--format", "json"))
    assert ([run["outcome"] for run in exported["runs"]], exported["attempted"]) == (["open"] * 2, 0)


def test_an_ended_sweep_is_seen_with_its_runs_its_best_and_its_logs(three_runs: ThreeRuns) -> None:
    sweep, ended = three_runs.sweep, three_runs.ended
    name = sweep_id_of(sweep)
    assert not sweep.ask_json("status", name)["running"]
    assert [known["sweep"] for known in sweep.ask_json("status")] == [name]
    assert {run["outcome"] for run in sweep.ask_json("runs", name)} == {"finished"}
    assert sweep.ask_json("best", name)["run_id"] == ended.summary["best"]["run_id"]
    assert "wandb" in sweep.ask("logs", name)
    lines = [json.loads(line) for line in sweep.ask("logs", name, "--json").splitlines()]
    assert {line["worker"] for line in lines} <= {"worker-0", "worker-1"}
    assert "is not running" in sweep.ask("scale", name, "3", code=2)
    assert "has ended: the sweep is finished" in sweep.ask("pause", name, code=2)
    assert sweep.ask_json("resume", name) == {"sweep": name, "verb": "resume", "running": False}
    assert f"there: {name}" in sweep.ask("status", "nothing", code=2)


def test_an_ended_sweep_says_when_it_began_what_it_is_called_and_where_it_is(three_runs: ThreeRuns) -> None:
    seen = three_runs.sweep.ask_json("status", sweep_id_of(three_runs.sweep))
    assert (seen["name"], seen["project"], seen["metric"]) == ("first try", "digits", "loss")
    assert three_runs.not_before <= datetime.fromisoformat(seen["date"]) <= datetime.now().astimezone()


def test_runs_are_listed_by_a_column_and_as_csv(three_runs: ThreeRuns) -> None:
    sweep, ended = three_runs.sweep, three_runs.ended
    name = sweep_id_of(sweep)
    rows = list(csv.DictReader(io.StringIO(sweep.ask("runs", name, "--csv", "--sort", "value"))))
    assert list(rows[0])[:4] == ["run_id", "outcome", "value", "duration_s"]
    assert rows[0]["run_id"] == ended.summary["best"]["run_id"]
    values = [float(row["value"]) for row in rows]
    assert values == sorted(values)
    listed = sweep.ask_json("runs", name, "--sort", "parameters.x")
    assert [run["run_id"] for run in listed] == [row["run_id"] for row in rows]  # loss grows with x
    assert "there is no such column" in sweep.ask("runs", name, "--sort", "y", code=2)
    assert "choose one" in sweep.ask("runs", name, "--csv", "--json", code=2)


def test_an_ended_sweep_is_exported_with_what_its_runs_logged(three_runs: ThreeRuns) -> None:
    sweep, ended = three_runs.sweep, three_runs.ended
    file = sweep.folder / "studies.db"
    assert sweep.ask("export", sweep_id_of(sweep), "--format", "optuna", "-o", str(file)) == f"{file}\n"
    study = optuna.load_study(study_name=None, storage=storage_in(file))
    for trial, run in zip(study.trials, ended.summary["runs"], strict=True):
        assert (trial.user_attrs["run_id"], trial.value) == (run["run_id"], run["value"])
        assert trial.params == run["parameters"]
        assert trial.intermediate_values == {step: run["parameters"]["x"] + step for step in range(3)}
    rows = list(csv.DictReader(io.StringIO(sweep.ask("export", sweep_id_of(sweep), "--format", "csv"))))
    assert [float(row["summary.loss"]) for row in rows] == [run["value"] for run in ended.summary["runs"]]


def test_logs_are_followed_until_the_sweep_ends(sweep: RealSweep, commands: CommandLine) -> None:
    sweep.start("held", count=2)
    sweep.wait_for(2)
    words = ("logs", "-f", sweep_id_of(sweep), "--json", "--directory", str(sweep.directory))
    following = commands.start(*words, folder=sweep.folder, environment=sweep.env)
    first = following.stdout.readline()
    assert following.poll() is None
    (sweep.folder / "go").touch()
    ended = sweep.finish()
    rest, _ = following.communicate(timeout=20)
    assert following.wait() == 0
    lines = [first, *rest.splitlines()]
    logs = {path.parent.name: path.read_text() for path in sweep.directory.glob("*/worker-*/output.log")}
    said = [json.loads(line) for line in lines]
    for worker, log in logs.items():
        assert [each["line"] for each in said if each["worker"] == worker] == log.splitlines(), ended.stderr


def test_a_quiet_run_ends_with_the_sweeps_id_and_its_best_run(sweep: RealSweep) -> None:
    ended = sweep.start("quick", count=2, arguments=("-q",)).finish()
    # Beside them a sweep may say that it has killed what another had left.
    counts, best = [line for line in ended.stderr.splitlines() if not line.startswith("warning: killed ")]
    assert counts.startswith(f"sweep {sweep_id_of(sweep)}: 2 runs in ")
    assert best.startswith(f"best: run {ended.summary['best']['run_id']}  loss=")


def test_a_row_is_one_line_where_it_is_piped(three_runs: ThreeRuns) -> None:
    sweep, ended = three_runs.sweep, three_runs.ended
    name = sweep_id_of(sweep)
    header, *rows = sweep.ask("runs", name).splitlines()
    assert [row.split()[0] for row in rows] == [run["run_id"] for run in ended.summary["runs"]]
    for name_of, value in ended.summary["runs"][0]["parameters"].items():
        assert rows[0][header.index(name_of) :].startswith(str(value))
    assert str(sweep.directory / name) in sweep.ask("status")


def test_a_paused_sweep_starts_no_run_until_it_is_resumed_and_a_stopped_one_ends(sweep: RealSweep) -> None:
    sweep.start("brief", count=500)
    sweep.wait_for(2)
    name = sweep_id_of(sweep)
    sweep.ask("pause", name)
    sweep.wait_until(lambda: states_of(sweep) == {"finished"}, "the ends of the runs that are on")
    sweep.wait_until(lambda: sweep.ask_json("status", name)["open"] == 0, "all runs over")
    paused_at = len(sweep.entries())
    sweep.ask("resume", name)
    sweep.wait_for(paused_at + 2)
    sweep.ask("stop", name)
    ended = sweep.finish()
    assert (ended.code, ended.summary["stop_reason"]) == (0, "the sweep is finished")
    assert set(outcomes(ended.summary)) == {"finished"}


def test_a_cancelled_sweep_ends_now(sweep: RealSweep) -> None:
    sweep.start("sleeper", count=10)
    sweep.wait_for(2)
    sweep.ask("cancel", sweep_id_of(sweep))
    ended = sweep.finish()
    assert (ended.code in (0, 5), ended.summary["stop_reason"]) == (True, "the sweep was cancelled")
    assert outcomes(ended.summary) == ["stopped"] * 2


@pytest.mark.parametrize("workers", [1, 4])
def test_a_running_sweep_is_scaled(sweep: RealSweep, workers: int) -> None:
    sweep.start("held", count=10)
    sweep.wait_for(2)
    sweep.ask("scale", sweep_id_of(sweep), str(workers))
    sweep.wait_for(max(2, workers))
    (sweep.folder / "go").touch()
    ended = sweep.finish()
    assert ended.code == 0, ended.stderr
    assert outcomes(ended.summary) == ["finished"] * 10
    assert {entry.slot for entry in sweep.entries()} == set(range(max(2, workers)))
    assert len({entry.slot for entry in sweep.entries()[-6:]}) <= workers


@pytest.mark.skipif(sys.platform != "linux", reason="another process's limits can be read on Linux alone")
def test_a_sweep_is_scaled_no_further_than_the_limits_allow_and_says_so(sweep: RealSweep) -> None:
    sweep.before = partial(limit_descriptors, "120", "1000")
    sweep.start("held", count=4)
    sweep.wait_for(2)
    assert sweep.process is not None
    pid, name = sweep.process.pid, sweep_id_of(sweep)
    sweep.ask("scale", name, "40")
    sweep.wait_until(lambda: resource.prlimit(pid, resource.RLIMIT_NOFILE)[0] > 40 * 6, "a higher limit")
    assert "4096" in sweep.ask("scale", name, "1000000000", code=2)
    sweep.ask("scale", name, "1000")
    (sweep.folder / "go").touch()
    ended = sweep.finish()
    assert (ended.code, outcomes(ended.summary)) == (0, ["finished"] * 4), ended.stderr
    assert "not scaled to 1000 workers: " in ended.stderr
    assert "this process may have 1000 (ulimit -Hn)" in ended.stderr


def test_a_drained_worker_leaves_its_share_to_the_others(sweep: RealSweep) -> None:
    sweep.start("held", count=9)
    sweep.wait_for(2)
    assert "has no worker 7; it has 0, 1" in sweep.ask("drain", sweep_id_of(sweep), "--worker", "7", code=2)
    sweep.ask("drain", sweep_id_of(sweep), "--worker", "0")
    (sweep.folder / "go").touch()
    ended = sweep.finish()
    assert outcomes(ended.summary) == ["finished"] * 9
    assert {entry.slot for entry in sweep.entries()[-6:]} == {1}


def test_a_running_sweep_is_not_cleaned_away_and_one_that_is_over_only_when_it_is_meant(
    sweep: RealSweep,
) -> None:
    sweep.start("sleeper", count=4)
    sweep.wait_for(2)
    name = sweep_id_of(sweep)
    assert [each["keep"] for each in sweep.ask_json("clean", name, "--yes")] == ["it is running"]
    sweep.signal(signal.SIGINT)
    sweep.finish()
    (kept,) = sweep.ask_json("clean", "--yes", "--all")
    assert kept["keep"].startswith("it can be resumed")
    assert [each["keep"] for each in sweep.ask_json("clean", name, "--older-than", "1d")] == [
        "it is not that old"
    ]
    assert name in sweep.ask("clean", name)
    assert (sweep.directory / name).is_dir()
    (gone,) = sweep.ask_json("clean", name, "--yes")
    assert (gone["removed"], gone["lost"][0]) == (True, "it can be resumed")
    assert not (sweep.directory / name).exists()
    assert sweep.runs_on_the_server() == {}
    assert "allowed: a duration in w, d, h, m and s" in sweep.ask("clean", "--older-than", "1x", code=2)
