"""Nodes and sweeps on a real Slurm of two hosts: steps of an allocation, jobs, and shares that are tasks."""

from __future__ import annotations

import json
import os
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, Final

import pytest

from parallel_hpo.cluster.base import NodeTaskEnd
from parallel_hpo.cluster.slurm import SlurmEngine
from parallel_hpo.core.errors import ExitCode, MissingExtraError, UsageError
from tests.cluster.nodes import HeldNode, begun, expect_nothing_left_of_a_killed_driver, next_end
from tests.commands import MODULE
from tests.processes.conftest import (
    MAINS,
    RealSweep,
    comes,
    expect_exact_on_two_machines,
    outcomes,
    sweep_in,
    with_own_python,
)
from tests.slurm import CORES, NoSlurmError, Slurm, running_slurm

HOSTS: Final = ("m1", "m2")
JOIN: Final = Path(__file__).parents[2] / "scripts" / "batch" / "slurm-join.sh"


@pytest.fixture(scope="module")
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Slurm]:
    try:
        with running_slurm(tmp_path_factory.mktemp("slurm"), os.environ, HOSTS) as made:
            yield made
    except NoSlurmError as error:
        pytest.skip(str(error))


@pytest.fixture
def env(slurm: Slurm) -> dict[str, str]:
    return {**os.environ, **slurm.variables}


Engines = Callable[..., SlurmEngine]


@pytest.fixture
def engines(env: dict[str, str]) -> Iterator[Engines]:
    """Make engines for `count` jobs, with variables; stop their nodes at the end."""
    made: list[SlurmEngine] = []

    def make(count: Any = "auto", **variables: str) -> SlurmEngine:
        made.append(SlurmEngine(count, env | variables))
        return made[-1]

    yield make
    for engine in made:
        engine.stop()


@pytest.fixture
def allocation(slurm: Slurm) -> Iterator[dict[str, str]]:
    """Both hosts, as a script of `sbatch` has them in its environment."""
    slurm.call("salloc", "--no-shell", "--nodes=2", "--exclusive")
    number = next(iter(slurm.jobs()))
    yield {"SLURM_JOB_ID": number, "SLURM_JOB_NODELIST": "m[1-2]", "SLURM_NNODES": "2", "SLURM_NTASKS": "2"}
    slurm.call("scancel", number)
    slurm.wait_for_all()


def test_within_an_allocation_each_of_its_hosts_is_a_machine(
    engines: Engines, allocation: dict[str, str], tmp_path: Path
) -> None:
    engine = engines(**allocation)
    assert [machine.name for machine in engine.machines()] == list(HOSTS)
    for machine, node in begun(engine, tmp_path).items():
        assert node.facts()["environment"]["SLURMD_NODENAME"] == machine.name
        node.let_go()
        assert next_end(engine) == NodeTaskEnd(machine, returned=True, exit_code=0)


def test_outside_an_allocation_each_machine_is_a_job_and_pending_jobs_are_cancelled(
    engines: Engines, slurm: Slurm, tmp_path: Path
) -> None:
    """Two hosts, and three jobs that want one each."""
    engine = engines(3, SRUN_CPUS_PER_TASK=str(CORES))
    nodes = begun(engine, tmp_path)
    assert comes(lambda: sum(node.told.exists() for node in nodes.values()) == len(HOSTS))
    assert sorted(slurm.jobs().values()) == ["PENDING", "RUNNING", "RUNNING"]
    processes = [node.process() for node in nodes.values() if node.told.exists()]
    engine.stop()
    assert not any(process.is_running() for process in processes)
    ends = engine.ended()
    assert {end.machine for end in ends} == set(nodes)
    assert sorted((end.returned, end.exit_code or 0) for end in ends) == [(False, 0), (True, 75), (True, 75)]
    assert "PENDING" not in slurm.wait_for_all()


def test_a_cancelled_job_lets_its_node_exit_with_code_75(
    engines: Engines, slurm: Slurm, node: HeldNode
) -> None:
    engine = engines(1)
    engine.start(engine.machines()[0], node.command)
    node.facts()
    slurm.call("scancel", *slurm.jobs())
    assert next_end(engine) == NodeTaskEnd(engine.machines()[0], returned=True, exit_code=75)


@pytest.mark.thorough
def test_a_node_is_signalled_before_its_time_limit(engines: Engines, node: HeldNode) -> None:
    """A minute is Slurm's shortest limit; it looks twice a minute whether a notice is due."""
    engine = engines(1, SLURM_TIMELIMIT="1", SLURM_SIGNAL="USR1@60")
    engine.start(engine.machines()[0], node.command)
    node.facts()
    assert next_end(engine) == NodeTaskEnd(engine.machines()[0], returned=True, exit_code=76)


STUB: Final = """#!/usr/bin/env bash
# Stands for `parallel-hpo`: its first task waits for the notice, and ends as a node does that hears of it,
# or that doesn't listen yet.
[[ $HEARS == no ]] || trap 'kill "$!"; exit 75' USR1
echo "$*" >>"$CALLS"
[[ $(wc -l <"$CALLS") == 1 ]] || exit 0
[[ $HEARS == yes ]] || exec sleep 600
sleep 600 & wait
"""


@pytest.mark.parametrize("hears", ["yes", "no"])
def test_an_array_task_that_is_signalled_to_leave_is_requeued_and_joins_again(
    slurm: Slurm, env: dict[str, str], tmp_path: Path, hears: str
) -> None:
    """Its job is put back into the queue."""
    stub, calls = tmp_path / "parallel-hpo", tmp_path / "calls"
    stub.write_text(STUB)
    stub.chmod(0o755)
    variables = {"SWEEP": "abc", "CALLS": str(calls), "HEARS": hears, "PATH": f"{tmp_path}:{env['PATH']}"}
    options = ("--parsable", "--array=1", "--export=ALL", f"--chdir={tmp_path}")
    task = slurm.call("sbatch", *options, str(JOIN), **env | variables).strip() + "_1"
    assert comes(calls.exists)
    slurm.call("scancel", "--signal=USR1", "--batch", task)
    assert comes(lambda: slurm.jobs().get(task) == "PENDING")
    # Two minutes is what Slurm waits; a job whose last end is not a second old is refused by the node.
    slurm.call("scontrol", "update", f"JobId={task}", "StartTime=now+2")
    slurm.wait_for_all()
    name = f"{socket.gethostname().partition('.')[0]}-1"
    assert calls.read_text().splitlines() == [f"join abc --name {name}"] * 2


def test_a_killed_driver_leaves_no_node_process(slurm: Slurm, env: dict[str, str], node: HeldNode) -> None:
    expect_nothing_left_of_a_killed_driver(node, "slurm", env=env)
    slurm.wait_for_all()


def test_a_killed_sruns_node_ends_and_is_reported_as_not_returned(engines: Engines, node: HeldNode) -> None:
    engine = engines(1)
    engine.start(engine.machines()[0], node.command)
    process = node.process()
    (started,) = engine._nodes
    started.kill()
    assert not next_end(engine).returned
    assert comes(lambda: not process.is_running())


@pytest.fixture
def sweep(slurm: Slurm, tmp_path: Path) -> Iterator[RealSweep]:
    """A sweep to be started, whose commands find Slurm's programs."""
    with sweep_in(tmp_path) as made:
        with_own_python(made).env |= slurm.variables
        yield made
    slurm.wait_for_all()


def test_a_sweep_on_two_slurm_jobs_performs_exactly_its_count(sweep: RealSweep) -> None:
    expect_exact_on_two_machines(sweep, engine="slurm", count=2)


SHARES: Final = 2


def start_tasks(sweep: RealSweep, sweep_id: str) -> RealSweep:
    """Start all shares as the tasks of one `srun`."""
    sweep.launcher = ("srun", f"--ntasks={SHARES}", "--output=tasks.out")
    part = ("--sweep-id", sweep_id, "--share", "slurm")
    return sweep.python(*MODULE, "run", "config.json", f"{MAINS}:held", *part)


def shares_of(sweep: RealSweep, sweep_id: str) -> list[Any]:
    summaries = (sweep.directory / sweep_id).glob(f"share-*-of-{SHARES}/summary.json")
    return [json.loads(summary.read_text()) for summary in summaries]


def test_shares_of_a_drained_and_a_terminated_job_are_completed_by_later_jobs(
    sweep: RealSweep, slurm: Slurm
) -> None:
    """Slurm signals every process of a job: a drain cuts no run, a terminated run can be resumed."""
    sweep_id = sweep.create(count=5, workers=1)
    start_tasks(sweep, sweep_id).wait_for(SHARES)
    slurm.call("scancel", "--signal=USR1", *slurm.jobs())
    output = sweep.folder / "tasks.out"
    sweep.wait_until(lambda: output.read_text().count("SIGUSR1: no new runs") == SHARES, "the drain")
    sweep.go()
    assert sweep.finish().code == ExitCode.RESUMABLE
    drained = {entry.run_id for entry in sweep.entries()}
    slurm.wait_for_all()

    (sweep.folder / "go").unlink()
    start_tasks(sweep, sweep_id).wait_for(2 * SHARES)
    slurm.call("scancel", *slurm.jobs())
    assert sweep.finish().code == ExitCode.SIGNAL_BASE + signal.SIGTERM
    shares = shares_of(sweep, sweep_id)
    assert [sorted(outcomes(share)) for share in shares] == [["finished", "stopped"]] * SHARES

    sweep.go()
    assert start_tasks(sweep, sweep_id).finish().code == ExitCode.COMPLETE
    shares = shares_of(sweep, sweep_id)
    assert sorted(share["finished"] for share in shares) == [2, 3]
    run_ids = {run["run_id"] for share in shares for run in share["runs"]}
    assert {entry.run_id for entry in sweep.entries()} == run_ids
    assert {entry.attempt for entry in sweep.entries() if entry.run_id in drained} == {1}


def test_the_own_address_is_the_one_used_to_reach_the_controller(engines: Engines) -> None:
    with closing(engines(1)) as engine:
        assert engine.own_address() == "127.0.0.1"


def test_slurm_requires_machines_count(env: dict[str, str]) -> None:
    with pytest.raises(UsageError, match=r"machines\.count"):
        SlurmEngine("auto", env)


def test_a_missing_srun_raises_an_error() -> None:
    with pytest.raises(MissingExtraError, match="no srun here"):
        SlurmEngine(1, {"PATH": "/nowhere"})
