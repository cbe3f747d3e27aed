"""The stop ladder: a signal at every transition, and signals that a terminal or a batch system sends."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from parallel_hpo.core.errors import ExitCode
from tests.launching import be_a_session, ignore_hangups, ignore_interrupts
from tests.processes.conftest import ANEW, Ended, RealSweep, outcomes
from tests.processes.databases import ServerRun
from tests.spares import SERVER

COUNT = 4
GONE_WITHIN_S = 5.0


def has_process(words: str) -> Callable[[RealSweep], bool]:
    return lambda sweep: any(words in " ".join(process.cmdline()) for process in sweep.tree())


def has_file(pattern: str) -> Callable[[RealSweep], bool]:
    return lambda sweep: any(sweep.directory.glob(pattern))


def entered(number: int) -> Callable[[RealSweep], bool]:
    return lambda sweep: len(sweep.entries()) >= number


def all_have_finished(sweep: RealSweep) -> bool:
    return [run.state for run in sweep.runs_on_the_server().values()] == ["finished"] * COUNT


EARLY = {
    "the fork server is there": has_process("parallel_hpo.worker.forkserver"),
    "the sweep's server is there": has_process("parallel_hpo.server"),
    "the server has its tables": has_file("server.db"),
}
ON_THE_WAY = {
    "the sweep is open": has_file("*/ledger.db"),
    "the first worker is starting": has_file("*/worker-*"),
    "the first worker's output is read": has_file("*/worker-*/output.log"),
    "the first run is inside main": entered(1),
    "some runs are over": entered(3),
    "the last run has begun": entered(COUNT),
}
LATE = {
    "the last run is over": all_have_finished,
    "the summary is being written": has_file("*/summary.json*"),
}


def expect_all_accounted_for(ended: Ended, sweep: RealSweep) -> None:
    """Every run that entered `main` is in the summary, and none was lost."""
    assert ended.summary is not None, ended.stderr
    assert ended.summary["lost"] == 0
    assert set(outcomes(ended.summary)) <= {"finished", "stopped"}
    known = {run["run_id"] for run in ended.summary["runs"]}
    assert {entry.run_id for entry in sweep.entries()} <= known
    assert ended.summary["exit_code"] == ended.code


def interrupted_once(sweep: RealSweep, moment: Callable[[RealSweep], bool], words: str) -> Ended:
    """Start a sweep, send SIGINT at a moment, and return how it ended."""
    sweep.start("brief", count=COUNT)
    sweep.wait_until(lambda: moment(sweep), words)
    sweep.signal(signal.SIGINT)
    return sweep.finish()


@pytest.mark.parametrize("moment", EARLY)
def test_a_signal_before_there_is_a_sweep_ends_it_all(sweep: RealSweep, moment: str) -> None:
    """1. The fork server is busy with its imports. 2. The signal comes."""
    sweep.starts, sweep.is_first = (SERVER,), True
    ended = interrupted_once(sweep, EARLY[moment], moment)
    assert ended.code == ExitCode.SIGNAL_BASE + signal.SIGINT, ended.stderr
    assert sweep.entries() == []


@pytest.mark.parametrize("moment", ON_THE_WAY)
def test_a_signal_while_the_sweep_is_on_accounts_for_every_run(sweep: RealSweep, moment: str) -> None:
    ended = interrupted_once(sweep, ON_THE_WAY[moment], moment)
    assert ended.code == ExitCode.SIGNAL_BASE + signal.SIGINT, ended.stderr
    expect_all_accounted_for(ended, sweep)


@pytest.mark.parametrize("moment", LATE)
def test_a_signal_after_the_last_run_changes_none_of_them(sweep: RealSweep, moment: str) -> None:
    ended = interrupted_once(sweep, LATE[moment], moment)
    assert ended.code in (ExitCode.COMPLETE, ExitCode.SIGNAL_BASE + signal.SIGINT), ended.stderr
    expect_all_accounted_for(ended, sweep)
    assert outcomes(ended.summary) == ["finished"] * COUNT


def test_a_sweep_that_was_started_with_sigint_ignored_still_stops(sweep: RealSweep) -> None:
    sweep.before = ignore_interrupts
    sweep.start("sleeper", count=COUNT)
    sweep.wait_for(2)
    sweep.signal(signal.SIGINT)
    ended = sweep.finish()
    assert ended.code == ExitCode.SIGNAL_BASE + signal.SIGINT
    assert len(sweep.entries("interrupted")) == 2
    expect_all_accounted_for(ended, sweep)


def test_a_hangup_that_was_ignored_at_the_start_stays_ignored(sweep: RealSweep) -> None:
    sweep.before = ignore_hangups
    sweep.start("brief", count=COUNT)
    sweep.wait_for(1)
    sweep.signal(signal.SIGHUP)
    ended = sweep.finish()
    assert ended.code == ExitCode.COMPLETE, ended.stderr
    assert outcomes(ended.summary) == ["finished"] * COUNT


def test_sigusr2_marks_the_running_runs_as_preempted_and_the_sweep_can_be_resumed(sweep: RealSweep) -> None:
    sweep.start("sleeper", count=COUNT)
    sweep.wait_for(2)
    sweep.signal(signal.SIGUSR2)
    ended = sweep.finish()
    assert ended.code == ExitCode.RESUMABLE, ended.stderr
    expect_all_accounted_for(ended, sweep)
    assert set(sweep.runs_on_the_server().values()) == {ServerRun("preempted", 255)}
    ended = sweep.start("brief", count=2, arguments=("--resume", ended.summary["sweep_id"])).finish()
    assert outcomes(ended.summary) == ["finished"] * 2, ended.stderr


@pytest.mark.parametrize("number", [signal.SIGUSR1, signal.SIGUSR2])
def test_a_batch_systems_signal_to_every_process_is_the_supervisors_alone(
    sweep: RealSweep, number: signal.Signals
) -> None:
    """As `srun` passes it on: to workers, fork server and sweep server too."""
    sweep.start("held", count=COUNT)
    sweep.wait_for(2)
    for process in reversed(sweep.tree()):
        process.send_signal(number)
    if number is signal.SIGUSR1:
        (sweep.folder / "go").touch()
    ended = sweep.finish()
    assert ended.code == ExitCode.RESUMABLE, ended.stderr
    assert "crashed" not in ended.stderr
    assert set(outcomes(ended.summary)) == {"finished" if number is signal.SIGUSR1 else "stopped"}


def test_the_terminals_ctrl_c_reaches_the_supervisor_only(sweep: RealSweep) -> None:
    """1. Ctrl-C goes to a whole process group. 2. Each main is interrupted once, by the supervisor alone.

    3. wandb-core lives on to tell the server of the end.
    """
    sweep.before = be_a_session
    sweep.start("sleeper", count=COUNT)
    sweep.wait_for(2)
    assert sweep.process is not None
    os.killpg(sweep.process.pid, signal.SIGINT)
    ended = sweep.finish()
    assert ended.code == ExitCode.SIGNAL_BASE + signal.SIGINT, ended.stderr
    assert len(sweep.entries("interrupted")) == 2
    assert set(sweep.runs_on_the_server().values()) == {ServerRun("killed", 255)}
    expect_all_accounted_for(ended, sweep)


def test_a_drain_after_which_runs_do_not_end_can_be_hardened_by_an_interrupt(sweep: RealSweep) -> None:
    sweep.start("sleeper", count=COUNT)
    sweep.wait_for(2)
    sweep.signal(signal.SIGUSR1)
    sweep.signal(signal.SIGINT)
    ended = sweep.finish()
    assert ended.code == ExitCode.SIGNAL_BASE + signal.SIGINT, ended.stderr
    assert outcomes(ended.summary) == ["stopped"] * 2


@pytest.mark.parametrize("stop", [None, signal.SIGINT, signal.SIGKILL])
def test_no_folder_that_imports_made_is_left(
    sweep: RealSweep, temporary: Path, stop: signal.Signals | None
) -> None:
    """All but the folders of wandb-core's sockets, which it leaves where it is killed.

    Where nothing stops it, all of its processes import for themselves; else the fork server does. What a
    killed supervisor leaves a sweep may remove that another test starts now, a moment after it has killed it.
    """
    if stop is None:
        sweep.launcher = ANEW
    sweep.starts = (SERVER,)
    sweep.start("brief", count=COUNT)
    sweep.wait_for(1)
    assert list(temporary.glob("parallel_hpo-*"))
    processes = sweep.tree()
    if stop is not None:
        sweep.signal(stop)
    sweep.finish()
    psutil.wait_procs(processes, timeout=GONE_WITHIN_S)

    def left() -> list[Path]:
        return [path for path in temporary.iterdir() if not path.name.startswith("wandb-")]

    sweep.comes(lambda: not left(), within_s=GONE_WITHIN_S)
    assert left() == []
