"""Sweeps that go on after their session, or a share of them, ended by a stop, a death, or a loss of power."""

from __future__ import annotations

import json
import shlex
import signal
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

from parallel_hpo.core.errors import ExitCode
from tests.power import Disk, disk, why_no_disk
from tests.processes.conftest import MAINS, RANDOM, Ended, Entry, RealSweep, expect_gone, grid, outcomes
from tests.processes.consistency import rows


def resume(stopped: RealSweep, main: str, *arguments: str, **keys: Any) -> RealSweep:
    return stopped.start(main, arguments=("--resume", stopped.sweep_id, *arguments), **keys)


def expect_exactly(count: int, ended: Ended, sweep: RealSweep) -> None:
    """Expect this many runs, all finished, in the summary and in the journal."""
    assert ended.code == 0, ended.stderr
    assert outcomes(ended.summary) == ["finished"] * count
    assert ended.summary["count"] == ended.summary["attempted"] == count
    attempts = {run["run_id"]: run["attempts"] for run in ended.summary["runs"]}
    assert attempts == {entry.run_id: entry.attempt for entry in sweep.entries()}


def expect_cut_runs_first(cut: list[Entry], sweep: RealSweep) -> None:
    """Expect the runs that were cut to come first, as their second attempt and with their parameters."""
    again = sweep.entries()[len(cut) : 2 * len(cut)]
    assert {entry.run_id: entry.facts["parameters"] for entry in again} == {
        entry.run_id: entry.facts["parameters"] for entry in cut
    }
    assert {entry.attempt for entry in again} == {2}


def test_a_sessions_death_costs_no_retry_and_its_runs_are_run_again_first(sweep: RealSweep) -> None:
    cut = sweep.start("sleeper", count=6, retries=0).wait_for(2)
    sweep.kill()
    expect_exactly(6, resume(sweep, "quick", count=6).finish(), sweep)
    expect_cut_runs_first(cut, sweep)


def test_a_finished_sweep_takes_a_higher_count_and_by_default_no_other_metric(sweep: RealSweep) -> None:
    assert sweep.start("quick", count=2).finish().code == 0
    changed = RANDOM | {"metric": {"name": "acc"}}
    refused = resume(sweep, "quick", count=3, sweep=changed).finish()
    assert (refused.code, 'metric.name is "acc" (it was "loss")' in refused.stderr) == (2, True)
    kept = resume(sweep, "quick", "--keep-configuration", count=3, sweep=changed).finish()
    expect_exactly(3, kept, sweep)
    assert kept.summary["metric"] == "loss"


def test_a_sweep_goes_on_by_the_commands_that_the_terminal_names_after_an_interrupt_and_a_pause(
    sweep: RealSweep, standalone: dict[str, str]
) -> None:
    sweep.env |= standalone
    del sweep.env["PARALLEL_HPO_BACKEND"]
    cut = sweep.start("held", count=48, arguments=("--count", "6")).wait_for(2)
    sweep.signal(signal.SIGINT)
    stopped = sweep.finish()
    assert stopped.code == 130, stopped.stderr
    (line,) = [line for line in stopped.stderr.splitlines() if line.startswith("resume with: ")]
    sweep.ask("pause", sweep.sweep_id)
    sweep.go()
    _, *command = shlex.split(line.removeprefix("resume with: "))
    line = sweep.python(*command).read_until(" is paused: no new run starts until `parallel-hpo resume ")
    sweep.wait_for(4)  # those that were cut
    assert sweep.ask_json("status", sweep.sweep_id)["paused"] is True
    _, verb, name, option, directory = shlex.split(line.split("`")[1])
    assert (option, directory) == ("--directory", str(sweep.directory))
    sweep.ask(verb, name)
    expect_exactly(6, sweep.finish(), sweep)
    expect_cut_runs_first(cut, sweep)


def test_a_resumed_sweep_repeats_the_runs_of_an_uninterrupted_one_with_its_seed(sweep: RealSweep) -> None:
    """First on two workers, some of which die; then on one worker whose deadline cuts the sweep."""
    seeded: dict[str, Any] = {"count": 5, "seed": 7, "seed_parameter": "seed"}
    whole = sweep.start("seeded", **seeded).finish()
    assert (whole.code, whole.summary["retried"] > 0) == (0, True), whole.stderr
    first = drawn(sweep, 0)
    number = len(sweep.entries())
    (sweep.directory / sweep.sweep_id).rename(sweep.folder / "the first one")

    sweep.env["EACH_S"] = "4"
    cut = sweep.start("seeded", workers=1, deadline="9s", **seeded).finish()
    assert (cut.code, cut.summary["attempted"] < 5) == (124, True), cut.stderr
    sweep.env["EACH_S"] = "0"
    resume(sweep, "seeded", count=5, seed=8).finish_all(5)
    assert drawn(sweep, number) == first


def drawn(sweep: RealSweep, since: int) -> dict[float, tuple[int, float]]:
    """Return the seed and the first random number of each run since an entry, by the run's x."""
    found: dict[float, tuple[int, float]] = {}
    for entry in sweep.entries()[since:]:
        facts = entry.facts["seed"], entry.facts["drawn"]
        assert found.setdefault(entry.facts["parameters"]["x"], facts) == facts, "attempts differ"
    return found


@pytest.mark.thorough
def test_a_worker_left_by_a_killed_session_and_fork_server_is_killed_on_resume(sweep: RealSweep) -> None:
    """Session and fork server die so that neither sees the other die; `main` holds the interpreter."""
    sweep.start("holding_the_interpreter", count=1, workers=1)
    left = psutil.Process(sweep.wait_for(1)[0].pid)
    assert sweep.process is not None
    both = [psutil.Process(sweep.process.pid), sweep.process_named("parallel_hpo.worker.forkserver")]
    for process in both:
        process.suspend()
    for process in both:
        process.kill()
    sweep.process.stdout.close()  # the worker holds their other ends
    sweep.process.stderr.close()
    sweep.process.wait()
    ended = resume(sweep, "quick", count=1, workers=1).finish()
    assert ended.code == 0, ended.stderr
    expect_gone([left])


@pytest.fixture
def plug(tmp_path: Path) -> Iterator[Disk]:
    reason = why_no_disk()
    if reason is not None:
        pytest.skip(reason)
    with disk(tmp_path) as made:
        yield made


@pytest.mark.thorough
def test_after_a_power_cut_server_and_ledger_agree_and_points_run_once(sweep: RealSweep, plug: Disk) -> None:
    sweep.directory = plug.folder / "sweeps"
    sweep.start("brief", sweep=grid(x=list(range(6)))).wait_for(5)
    plug.cut_power()
    processes = sweep.tree()
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    assert sweep.process is not None
    sweep.process.communicate()
    expect_gone(processes)
    plug.restore()
    ledger = dict(rows(sweep.directory / sweep.sweep_id / "ledger.db", "SELECT run_id, outcome FROM runs"))
    counted = {run_id for run_id, outcome in ledger.items() if outcome}
    assert {sweep.runs_on_the_server()[run_id].state for run_id in counted} == {"finished"}
    ended = resume(sweep, "brief", sweep=grid(x=list(range(6)))).finish_all(6)
    assert Counter(run["parameters"]["x"] for run in ended.summary["runs"]) == Counter(range(6))


def test_a_share_killed_during_a_run_completes_its_own_part_later(sweep: RealSweep) -> None:
    sweep_id = sweep.create(count=6, workers=1, sweep_configuration=grid(x=list(range(6))))

    def start(share: str) -> RealSweep:
        part = ("--sweep-id", sweep_id, "--share", share)
        return sweep.run("run", "config.json", f"{MAINS}:held", *part)

    start("1/2").wait_for(1)
    sweep.kill()
    sweep.go()
    sweep.unlike = "the first share's run is cut short"
    assert start("2/2").finish().code == ExitCode.COMPLETE
    sweep.unlike = ""
    assert start("1/2").finish().code == ExitCode.COMPLETE
    folders = [sweep.directory / sweep_id / f"share-{number}-of-2" for number in (1, 2)]
    shares = [json.loads((folder / "summary.json").read_text()) for folder in folders]
    assert [outcomes(share) for share in shares] == [["finished"] * 3] * 2
    assert sorted(run["parameters"]["x"] for share in shares for run in share["runs"]) == list(range(6))
