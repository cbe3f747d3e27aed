"""Sweeps that go on after their supervisor ended, whichever way it did."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import psutil
import pytest

from tests.processes.conftest import RANDOM, Ended, Entry, RealSweep, outcomes

CHAOTIC: Final = Path(__file__).with_name("chaotic.py")
GONE_WITHIN_S: Final = 5.0

SCRIPT: Final = """
import sys
sys.path.insert(0, {folder!r})
from mains import quick
from parallel_hpo import ConfigLoader
print(ConfigLoader("config.json").hpo.optimize(quick, resume=sys.argv[1]).to_json())
"""


def sweep_id(sweep: RealSweep) -> str:
    (ledger,) = sweep.directory.glob("*/ledger.db")
    return ledger.parent.name


def resume(sweep: RealSweep, main: str, **section: Any) -> RealSweep:
    return sweep.start(main, arguments=("--resume", sweep_id(sweep)), **section)


def kill_supervisor(sweep: RealSweep) -> None:
    """SIGKILL it, and see all that it had leave."""
    assert sweep.process is not None
    processes = sweep.tree()
    sweep.process.kill()
    sweep.process.communicate()
    _, alive = psutil.wait_procs(processes, timeout=GONE_WITHIN_S)
    assert not alive


def interrupt(sweep: RealSweep) -> None:
    sweep.signal(signal.SIGINT)
    assert sweep.finish().code == 130


def time_out(sweep: RealSweep) -> None:
    assert sweep.finish().code == 124


def expect_exactly(count: int, ended: Ended, sweep: RealSweep) -> list[Entry]:
    """Expect so many runs, all finished, in the summary and in truth; return each run's last entry."""
    assert ended.code == 0, ended.stderr
    assert outcomes(ended.summary) == ["finished"] * count
    assert ended.summary["count"] == ended.summary["attempted"] == count
    last = {entry.run_id: entry for entry in sweep.entries()}
    assert {run["run_id"] for run in ended.summary["runs"]} == set(last)
    assert {run["run_id"]: run["attempts"] for run in ended.summary["runs"]} == {
        run_id: entry.attempt for run_id, entry in last.items()
    }
    return list(last.values())


@pytest.mark.parametrize(
    ("stop", "limits"),
    [(interrupt, {}), (kill_supervisor, {"retries": 0}), (time_out, {"sweep_timeout_s": 2})],
)
def test_cut_runs_come_first_with_their_parameters_as_their_next_attempt_and_the_count_is_exact(
    sweep: RealSweep, stop: Callable[[RealSweep], None], limits: dict[str, Any]
) -> None:
    cut = sweep.start("sleeper", count=6, **limits).wait_for(2)
    stop(sweep)
    ended = resume(sweep, "quick", count=6).finish()
    expect_exactly(6, ended, sweep)
    again = sweep.entries()[2:4]
    assert {(entry.run_id, entry.attempt) for entry in again} == {(entry.run_id, 2) for entry in cut}
    known = {entry.run_id: entry.facts["parameters"] for entry in cut}
    assert all(entry.facts["parameters"] == known[entry.run_id] for entry in again)
    assert ended.summary["retried"] == 2


def test_after_a_drain_the_rest_of_the_count_is_performed(sweep: RealSweep) -> None:
    sweep.start("brief", count=8).wait_for(2)
    sweep.signal(signal.SIGUSR1)
    drained = sweep.finish()
    assert drained.code == 75
    assert drained.summary["attempted"] < 8
    last = expect_exactly(8, resume(sweep, "quick", count=8).finish(), sweep)
    assert {entry.attempt for entry in last} == {1}


def test_a_supervisors_death_is_charged_to_no_run(sweep: RealSweep) -> None:
    sweep.start("sleeper", count=1, workers=1, retries=1).wait_for(1)
    kill_supervisor(sweep)
    resume(sweep, "sleeper", count=1, workers=1, retries=1)
    os.kill(sweep.wait_for(2)[-1].pid, signal.SIGKILL)
    assert sweep.wait_for(3)[-1].attempt == 3
    interrupt(sweep)
    (entry,) = expect_exactly(1, resume(sweep, "quick", count=1).finish(), sweep)
    assert entry.attempt == 4


def test_where_nothing_is_left_nothing_is_run(sweep: RealSweep) -> None:
    first = sweep.start("quick", count=3).finish()
    ended = resume(sweep, "quick", count=3).finish()
    expect_exactly(3, ended, sweep)
    assert len(sweep.entries()) == 3
    assert ended.summary["runs"] == first.summary["runs"]


def test_a_finished_sweep_whose_count_is_raised_has_so_many_runs_more(sweep: RealSweep) -> None:
    expect_exactly(2, sweep.start("quick", count=2).finish(), sweep)
    expect_exactly(3, resume(sweep, "quick", count=3).finish(), sweep)


def test_optimize_resumes_too(sweep: RealSweep) -> None:
    sweep.start("sleeper", count=4).wait_for(2)
    interrupt(sweep)
    source = SCRIPT.format(folder=str(Path(__file__).parent))
    ended = sweep.start_command("-c", source, sweep_id(sweep)).finish()
    expect_exactly(4, ended, sweep)
    assert json.loads(ended.stdout)["finished"] == 4


def test_after_the_breaker_the_command_that_the_terminal_names_goes_on_with_the_count_that_was_asked_for(
    sweep: RealSweep,
) -> None:
    tripped = sweep.start("mendable", count=48, arguments=("--count", "7")).finish()
    assert tripped.code == 4, tripped.stderr
    (line,) = [line for line in tripped.stderr.splitlines() if line.startswith("resume with: ")]
    (sweep.folder / "mended").touch()
    _, *command = shlex.split(line.removeprefix("resume with: "))
    ended = sweep.start_command(*command).finish()
    assert ended.code == 0, ended.stderr
    assert ended.summary["count"] == ended.summary["attempted"] == 7
    assert {"failed", "finished"} == set(outcomes(ended.summary))


def test_an_unknown_sweep_is_exit_2_and_names_the_known_ones(sweep: RealSweep) -> None:
    sweep.start("quick", count=1, workers=1).finish()
    ended = sweep.start("quick", count=1, arguments=("--resume", "nosuch")).finish()
    assert ended.code == 2
    assert "nosuch" in ended.stderr
    assert sweep_id(sweep) in ended.stderr


def test_a_second_supervisor_of_the_same_sweep_is_refused(sweep: RealSweep) -> None:
    sweep.start("sleeper", count=2).wait_for(2)
    second = resume(sweep.beside(), "quick", count=2).finish()
    assert second.code == 1
    assert sweep.process is not None
    assert f"another process ({sweep.process.pid})" in second.stderr
    assert len(sweep.entries()) == 2
    interrupt(sweep)


def tear(wal: Path) -> None:
    """Leave the half of a write that never came to its end."""
    with wal.open("ab") as file:
        file.write(wal.read_bytes()[32:1500])


@pytest.mark.thorough
def test_a_ledger_with_a_torn_last_write_is_resumed(sweep: RealSweep) -> None:
    sweep.start("sleeper", count=4).wait_for(2)
    kill_supervisor(sweep)
    tear(sweep.directory / sweep_id(sweep) / "ledger.db-wal")
    expect_exactly(4, resume(sweep, "quick", count=4).finish(), sweep)


@pytest.mark.thorough
def test_a_ledger_whose_last_write_lost_its_end_is_resumed(sweep: RealSweep) -> None:
    sweep.start("sleeper", count=4).wait_for(2)
    kill_supervisor(sweep)
    wal = sweep.directory / sweep_id(sweep) / "ledger.db-wal"
    os.truncate(wal, wal.stat().st_size - 100)
    sweep.unlike = "the server knows a run whose start its ledger has lost"
    ended = resume(sweep, "quick", count=4).finish()
    assert ended.code == 0, ended.stderr
    assert outcomes(ended.summary) == ["finished"] * 4


@pytest.mark.thorough
def test_a_supervisor_that_died_as_its_ledger_was_made_left_a_sweep_that_can_be_resumed(
    sweep: RealSweep,
) -> None:
    sweep.start("sleeper", count=2).wait_for(2)
    kill_supervisor(sweep)
    folder = sweep.directory / sweep_id(sweep)
    for file in folder.glob("ledger.db*"):
        file.unlink()
    (folder / "ledger.db").touch()
    for worker in folder.glob("worker-*"):
        shutil.rmtree(worker)
    sweep.unlike = "the server knows runs of which no ledger was left"
    ended = resume(sweep, "quick", count=2).finish()
    assert ended.code == 0, ended.stderr
    assert ended.summary["sweep_id"] == folder.name
    assert outcomes(ended.summary) == ["finished"] * 2


@pytest.mark.thorough
def test_what_two_kills_at_once_left_is_gone_once_the_sweep_goes_on(sweep: RealSweep) -> None:
    left = start_deaf_and_blind(sweep)
    kill_together(sweep)
    ended = resume(sweep, "quick", count=1, workers=1).finish()
    assert ended.code == 0, ended.stderr
    _, alive = psutil.wait_procs([left], timeout=GONE_WITHIN_S)
    assert not alive
    assert [run["attempts"] for run in ended.summary["runs"]] == [2]


def start_deaf_and_blind(sweep: RealSweep) -> psutil.Process:
    """Start a sweep of one run; return its worker, in which nothing but `main` can do anything."""
    journals = sweep.folder / "journals"
    journals.mkdir()
    sweep.env["JOURNALS"] = str(journals)
    sweep.start("quick", count=1, workers=1, arguments=("--dry-run",)).finish()  # writes the configuration
    config = str(sweep.folder / "config.json")
    sweep.start_command("-m", "parallel_hpo", "run", config, f"{CHAOTIC}:holding_the_interpreter")
    sweep.wait_until(lambda: any(journals.iterdir()), "enter")
    (journal,) = journals.iterdir()
    return psutil.Process(json.loads(journal.read_text())["pid"])


def kill_together(sweep: RealSweep) -> None:
    """SIGKILL the supervisor and the fork server so that neither sees the other die."""
    assert sweep.process is not None
    supervisor = psutil.Process(sweep.process.pid)
    fork_server = sweep.process_named("parallel_hpo.worker.forkserver")
    for process in (supervisor, fork_server):
        process.suspend()
    for process in (supervisor, fork_server):
        process.kill()
    for stream in (sweep.process.stdout, sweep.process.stderr):
        assert stream is not None
        stream.close()  # what is left holds their other ends
    sweep.process.wait()


def test_a_sweep_that_is_joined_again_has_so_many_runs_more(sweep: RealSweep) -> None:
    joined: dict[str, Any] = {"sweep_id": sweep.create(), "count": 2}
    expect_exactly(2, sweep.start("quick", **joined).finish(), sweep)
    expect_exactly(4, sweep.start("quick", **joined).finish(), sweep)


def test_a_run_cap_is_the_count_where_none_is_given_and_stays_it_when_the_sweep_goes_on(
    sweep: RealSweep,
) -> None:
    capped = RANDOM | {"run_cap": 4}
    sweep.start("sleeper", sweep=capped).wait_for(2)
    interrupt(sweep)
    ended = sweep.start("quick", sweep=capped, arguments=("--resume", sweep_id(sweep))).finish()
    expect_exactly(4, ended, sweep)
    assert ended.summary["stop_reason"] == "all 4 runs performed"
    assert "4 runs on 2 workers (shares 2, 2)" in ended.stderr
    assert "from now on" not in ended.stderr


def test_a_changed_configuration_is_named_and_a_changed_metric_refused_unless_it_is_to_be_kept(
    sweep: RealSweep,
) -> None:
    sweep.start("sleeper", count=2).wait_for(2)
    interrupt(sweep)
    this = ("--resume", sweep_id(sweep))
    changed = RANDOM | {"metric": {"name": "acc"}, "parameters": {"x": {"min": 0.0, "max": 2.0}}}
    refused = sweep.start("quick", count=2, sweep=changed, arguments=this).finish()
    assert refused.code == 2
    assert 'has changed: metric.name is "acc" (it was "loss"); sweep' in refused.stderr
    kept = sweep.start("quick", count=2, sweep=changed, arguments=(*this, "--keep-configuration")).finish()
    expect_exactly(2, kept, sweep)
    assert 'metric.name is "acc" (it was "loss"), parameters.x.max is 2.0 (it was 1.0); sweep' in kept.stderr
    assert kept.summary["metric"] == "loss"


def test_a_paused_sweep_says_so_and_goes_on_by_the_command_that_it_names(sweep: RealSweep) -> None:
    sweep.start("sleeper", count=4).wait_for(2)
    interrupt(sweep)
    sweep.ask("pause", sweep_id(sweep))
    resume(sweep, "quick", count=4)
    line = sweep.read_until(" is paused: no new run starts until `parallel-hpo resume ")
    sweep.wait_for(4)  # those that were cut
    assert sweep.ask_json("status", sweep_id(sweep))["paused"] is True
    assert "paused" in sweep.ask("status").splitlines()[0]
    _, verb, name, option, directory = shlex.split(line.split("`")[1])
    assert (option, directory) == ("--directory", str(sweep.directory))
    sweep.ask(verb, name)
    expect_exactly(4, sweep.finish(), sweep)
    assert sweep.ask_json("status", name)["paused"] is None
