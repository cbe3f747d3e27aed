"""The stop matrix: a signal at every stage of a sweep, and signals that terminals and batch systems send."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from parallel_hpo.core.errors import ExitCode
from tests.processes.conftest import Ended, RealSweep, ServerRun, comes, command_line, expect_gone, outcomes

COUNT = 4


def has_process(words: str) -> Callable[[RealSweep], bool]:
    return lambda sweep: any(words in command_line(process) for process in sweep.tree())


def has_file(pattern: str) -> Callable[[RealSweep], bool]:
    return lambda sweep: any(sweep.directory.glob(pattern))


def entered(number: int) -> Callable[[RealSweep], bool]:
    return lambda sweep: len(sweep.entries()) >= number


STAGES = {
    "the fork server runs": (has_process("parallel_hpo.worker.forkserver"), signal.SIGINT),
    "the sweep's server runs": (has_process("parallel_hpo.server"), signal.SIGTERM),
    "the sweep is open": (has_file("*/ledger.db"), signal.SIGHUP),
    "the first worker is starting": (has_file("*/worker-*"), signal.SIGINT),
    "some runs are over": (entered(3), signal.SIGTERM),
}


def expect_all_accounted_for(ended: Ended, sweep: RealSweep) -> None:
    """Every run that entered `main` is in the summary, and none was lost."""
    assert ended.summary["lost"] == 0
    assert set(outcomes(ended.summary)) <= {"finished", "stopped"}
    known = {run["run_id"] for run in ended.summary["runs"]}
    assert {entry.run_id for entry in sweep.entries()} <= known
    assert ended.summary["exit_code"] == ended.code


@pytest.mark.parametrize("stage", STAGES)
def test_a_signal_ends_a_sweep_with_its_exit_code_and_no_run_is_lost(sweep: RealSweep, stage: str) -> None:
    reached, number = STAGES[stage]
    sweep.start("brief", count=COUNT).wait_until(lambda: reached(sweep), stage)
    sweep.signal(number)
    ended = sweep.finish()
    assert ended.code == ExitCode.SIGNAL_BASE + number, ended.stderr
    if ended.summary is None:
        assert sweep.entries() == [], "the sweep had not begun"
    else:
        expect_all_accounted_for(ended, sweep)


def test_a_signal_at_the_end_loses_no_run(sweep: RealSweep) -> None:
    is_over = has_file("*/summary.json*")
    sweep.start("brief", count=COUNT).wait_until(lambda: is_over(sweep), "the summary is being written")
    sweep.signal(signal.SIGINT)
    ended = sweep.finish()
    assert ended.code in (ExitCode.COMPLETE, ExitCode.SIGNAL_BASE + signal.SIGINT), ended.stderr
    expect_all_accounted_for(ended, sweep)


def test_an_interrupt_ends_the_wait_of_a_drain_and_a_second_one_kills_at_once(sweep: RealSweep) -> None:
    sweep.start("deaf", count=10, grace_period_s=600).wait_for(2)
    sweep.signal(signal.SIGUSR1)
    sweep.read_until("SIGUSR1")
    sweep.signal(signal.SIGINT)
    sweep.wait_for(2, "swallowed")
    sweep.signal(signal.SIGINT)
    ended = sweep.finish()
    assert (ended.code, outcomes(ended.summary)) == (130, ["stopped"] * 2), ended.stderr


def test_a_preemption_signal_to_every_process_is_handled_by_the_session_and_resumable(
    sweep: RealSweep,
) -> None:
    """As `srun` and `scancel` send it: to workers, fork server and sweep server too."""
    sweep.start("held", count=COUNT).wait_for(2)
    for process in reversed(sweep.tree()):
        process.send_signal(signal.SIGUSR2)
    ended = sweep.finish()
    assert (ended.code, outcomes(ended.summary)) == (ExitCode.RESUMABLE, ["stopped"] * 2), ended.stderr
    assert {run.state for run in sweep.runs_on_the_server().values()} == {"preempted"}
    sweep.go()
    sweep.start("held", count=COUNT, arguments=("--resume", sweep.sweep_id)).finish_all(COUNT)


def start_with_grandchildren(sweep: RealSweep) -> list[psutil.Process]:
    """Start a sweep whose runs start processes; return all its processes."""
    sweep.start("with_grandchild", count=10).wait_for(2, "grandchild")
    processes = sweep.tree()
    assert any(process.name() == "wandb-core" for process in processes)
    return processes


def expect_nothing_left(processes: list[psutil.Process], temporary: Path) -> None:
    """Allow folders of wandb-core's sockets, which it leaves where it is killed."""
    expect_gone(processes)

    def is_empty() -> bool:
        return all(path.name.startswith("wandb-") for path in temporary.iterdir())

    assert comes(is_empty)


def test_ctrl_c_in_a_terminal_interrupts_each_main_once_and_leaves_no_process(
    sweep: RealSweep, temporary: Path
) -> None:
    """Ctrl-C goes to a whole process group; wandb-core outlives it to report the end."""
    sweep.own_session = True
    processes = start_with_grandchildren(sweep)
    os.killpg(processes[0].pid, signal.SIGINT)
    ended = sweep.finish()
    assert ended.code == 130, ended.stderr
    assert len(sweep.entries("interrupted")) == 2
    assert set(sweep.runs_on_the_server().values()) == {ServerRun("killed", 255)}
    expect_nothing_left(processes, temporary)


def test_a_killed_sweep_leaves_no_process_or_folder(sweep: RealSweep, temporary: Path) -> None:
    processes = start_with_grandchildren(sweep)
    assert any(temporary.glob("parallel_hpo-*"))
    sweep.signal(signal.SIGKILL)
    sweep.finish()
    expect_nothing_left(processes, temporary)
