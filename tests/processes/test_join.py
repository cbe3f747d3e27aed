"""Machines that join one sweep, and what becomes of it when one dies, leaves, freezes or is cut off."""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from parallel_hpo.client.server_client import PoolClient
from parallel_hpo.core.errors import ExitCode
from tests.commanding import CommandLine
from tests.processes.conftest import RealSweep
from tests.processes.machines import LEASE_S, Machine, Machines, machines_on_a_server

pytestmark = pytest.mark.timeout(400)


@pytest.fixture
def machines(sweep: RealSweep, commands: CommandLine, tmp_path: Path) -> Iterator[Machines]:
    with machines_on_a_server(sweep, commands, tmp_path) as made:
        yield made


def expect_all_done(machines: Machines, *started: Machine) -> None:
    """Expect the machines to leave with 0, and pool, server and journal to say the same."""
    for machine in started:
        code, said = machine.finish()
        assert code == ExitCode.COMPLETE, said
    assert machines.disagreements() == []


def inside(machines: Machines, machine: Machine, number: int) -> set[str]:
    """Wait until so many runs are inside `main` on a machine; return their ids."""
    found = machines.wait_until(
        lambda: len(entries := machines.entries(machine)) >= number and entries,
        f"{number} runs on {machine.name}",
    )
    return {entry.run_id for entry in found}


def attempts(machines: Machines, machine: Machine) -> dict[str, int]:
    return {entry.run_id: entry.attempt for entry in machines.entries(machine)}


def test_two_machines_and_one_that_comes_late_perform_exactly_the_count(machines: Machines) -> None:
    machines.create("held", count=12)
    first = [machines.join("one"), machines.join("two")]
    for machine in first:
        inside(machines, machine, 2)
    late = machines.join("late")
    inside(machines, late, 2)
    machines.go()
    expect_all_done(machines, *first, late)
    assert {event["name"] for event in machines.events("joined")} == {"one", "two", "late"}


def test_commands_know_the_sweep_in_the_servers_folder_and_on_a_machine_that_names_the_server(
    machines: Machines,
) -> None:
    sweep = machines.create("quick", count=2)
    one = machines.join("one")
    expect_all_done(machines, one)
    by_name = {name: machines.env[name] for name in ("WANDB_BASE_URL", "WANDB_API_KEY")}
    for folder, server in ((machines.server.folder, {}), (one.folder / "sweeps", by_name)):
        told = machines.told("status", sweep, folder, **server)
        assert (told["finished"], told["machines"], told["running"]) == (2, "one", False)
        runs = machines.told("runs", sweep, folder, **server)
        assert {run["run_id"] for run in runs} == {entry.run_id for entry in machines.entries(one)}


@pytest.mark.thorough
def test_a_machine_that_comes_after_the_end_has_nothing_to_do(machines: Machines) -> None:
    machines.create("quick", count=1)
    expect_all_done(machines, machines.join("one"))
    code, said = machines.join("late").finish()
    assert code == ExitCode.COMPLETE
    assert "takes no machine any more: all 1 runs performed" in said


def test_the_runs_of_a_killed_machine_start_elsewhere_as_their_next_attempt(machines: Machines) -> None:
    machines.create("held", count=4)
    lost, other = machines.join("lost"), machines.join("other")
    theirs = inside(machines, lost, 2)
    inside(machines, other, 2)
    lost.signal(signal.SIGKILL)
    lost.finish()
    machines.go()
    expect_all_done(machines, other)
    assert {run: number for run, number in attempts(machines, other).items() if number == 2} == dict.fromkeys(
        theirs, 2
    )


@pytest.mark.thorough
def test_a_killed_worker_costs_its_machine_a_retry_and_no_one_else_anything(machines: Machines) -> None:
    machines.create("held", count=2)
    machine = machines.join("one")
    inside(machines, machine, 2)
    victim = machines.entries(machine)[0]
    psutil.Process(victim.pid).kill()
    machines.wait_until(lambda: len(machines.entries()) == 3, "its second attempt")
    machines.go()
    expect_all_done(machines, machine)
    assert attempts(machines, machine)[victim.run_id] == 2
    assert len(machines.events("attempt_ended")) == 1


@pytest.mark.thorough
def test_a_server_that_is_killed_and_comes_back_loses_nothing(machines: Machines) -> None:
    machines.create("held", count=6)
    both = [machines.join("one"), machines.join("two")]
    for machine in both:
        inside(machines, machine, 2)
    machines.server.kill()
    machines.go()
    machines.server.start()
    expect_all_done(machines, *both)
    assert {entry.attempt for entry in machines.entries()} == {1}


def test_a_machine_with_notice_hands_its_runs_on_before_it_leaves(machines: Machines) -> None:
    machines.create("held", count=4)
    leaving = machines.join("leaving")
    theirs = inside(machines, leaving, 2)
    leaving.signal(signal.SIGTERM)
    code, said = leaving.finish()
    assert code == ExitCode.SIGNAL_BASE + signal.SIGTERM, said
    machines.go()
    other = machines.join("other")
    expect_all_done(machines, other)
    assert {run for run, number in attempts(machines, other).items() if number == 2} == theirs


@pytest.mark.thorough
def test_a_machine_that_is_drained_finishes_its_runs_and_hands_on_none(machines: Machines) -> None:
    machines.create("held", count=4)
    drained = machines.join("drained")
    inside(machines, drained, 2)
    drained.signal(signal.SIGUSR1)
    machines.go()
    code, said = drained.finish()
    assert code == ExitCode.RESUMABLE, said
    assert len(machines.events("ended")) == 2
    other = machines.join("other")
    expect_all_done(machines, other)
    assert {entry.attempt for entry in machines.entries()} == {1}


def test_a_machine_that_is_cut_off_lets_go_in_time_and_comes_back(machines: Machines) -> None:
    """1. Its cable is cut: by 0.95 of its lease no worker of it lives. 2. Its runs start elsewhere.
    3. The cable is mended: it joins anew, and takes part.
    """
    machines.create("held", count=5)
    cable = machines.cable()
    cut, other = machines.join("cut", cable=cable), machines.join("other")
    theirs = inside(machines, cut, 2)
    inside(machines, other, 2)
    workers = [psutil.Process(entry.pid) for entry in machines.entries(cut)]
    cable.cut()
    cut_at = time.monotonic()
    machines.wait_until(
        lambda: not any(worker.is_running() for worker in workers),
        "its workers' end",
        within_s=LEASE_S * 0.95,
    )
    assert time.monotonic() - cut_at > LEASE_S * 0.5
    cable.mend()
    machines.wait_until(lambda: len(machines.events("joined")) == 3, "its coming back", within_s=30)
    machines.go()
    expect_all_done(machines, cut, other)
    again = {entry.run_id for entry in machines.entries() if entry.attempt == 2}
    assert theirs <= again
    assert machines.events("left")[0]["name"] == "cut"


@pytest.mark.thorough
def test_a_frozen_machine_changes_nothing_when_it_thaws(machines: Machines) -> None:
    """1. All of a machine is halted for longer than its lease. 2. Its run is performed elsewhere.
    3. It goes on: what it has to say of the run is refused, and it joins anew.
    """
    machines.create("held", count=1, workers=1)
    frozen = machines.join("frozen")
    (run,) = inside(machines, frozen, 1)
    tree = frozen.tree()
    for process in tree:
        process.suspend()
    other = machines.join("other")
    machines.wait_until(lambda: machines.entries(other), "its run elsewhere")
    machines.go()
    code, said = other.finish()
    assert code == ExitCode.COMPLETE, said
    (before,) = machines.query("SELECT state, exitcode, value FROM runs")
    for process in tree:
        process.resume()
    code, said = frozen.finish()
    assert code == ExitCode.COMPLETE, said
    assert "killing all runs here" in said
    assert machines.query("SELECT state, exitcode, value FROM runs") == [before]
    assert machines.disagreements() == []
    assert attempts(machines, other) == {run: 2}


def test_a_machine_with_other_software_is_refused_before_a_run_starts(machines: Machines) -> None:
    sweep = machines.create("quick", count=1)
    machines.query('UPDATE pool_facts SET versions = replace(versions, \'"wandb": "\', \'"wandb": "9.\')')
    facts = PoolClient(machines.server.said["url"], machines.server.said["api_key"], sweep).facts()
    assert facts is not None
    here = facts.versions.wandb
    code, said = machines.join("old").finish()
    assert code == ExitCode.USAGE
    assert f"machine old can't join: wandb {here} there and 9.{here} at" in said
    assert machines.events("refused")[0]["name"] == "old"
    assert machines.entries() == []


def test_where_other_softwares_main_cannot_be_read_the_versions_are_named(machines: Machines) -> None:
    machines.create("quick", count=1)
    for ours, theirs in (('"wandb": "', '"wandb": "9.'), ('"main": "', '"main": "no pickle')):
        machines.query(f"UPDATE pool_facts SET facts = replace(facts, '{ours}', '{theirs}')")
    code, said = machines.join("old").finish()
    assert code == ExitCode.USAGE
    assert "machine old can't join: wandb " in said
    assert "can't be read here" in said


def test_what_main_lacks_on_a_machine_is_named_with_it_here_and_in_the_pool(machines: Machines) -> None:
    sweep = machines.create("quick", count=1)
    config = machines.folder / "config.json"
    code, said = machines.join("bare", str(config), "nowhere.at_all:main").finish()
    assert sweep
    assert code == ExitCode.USAGE
    assert "machine bare: " in said
    assert "nowhere" in said
    (left,) = machines.events("left")
    assert left["name"] == "bare"
    assert "nowhere" in left["reason"]


def test_an_unknown_sweep_a_wrong_key_and_a_directory_that_is_none_are_said_in_a_line(
    machines: Machines,
) -> None:
    machines.create("quick", count=1)
    code, said = machines.join("one", WANDB_API_KEY="0" * 40).finish()
    assert (code, said.count("\n")) == (ExitCode.OUR_FAULT, 1), said
    assert "key" in said
    (machines.folder / "full").mkdir()
    (machines.folder / "full" / "sweeps").touch()
    code, said = machines.join("full").finish()
    assert (code, said.count("\n")) == (ExitCode.USAGE, 1), said
    assert "which can't be written" in said
    machines.sweep_id = "nosuch"
    code, said = machines.join("one").finish()
    assert (code, said.count("\n")) == (ExitCode.USAGE, 1), said
    assert "has no sweep nosuch that machines can join" in said


@pytest.mark.thorough
def test_a_machine_whose_owner_is_gone_hands_its_runs_on(machines: Machines) -> None:
    machines.create("held", count=2)
    owned = machines.join("owned", "--once")
    theirs = inside(machines, owned, 2)
    assert isinstance(owned.process, subprocess.Popen)
    assert owned.process.stdin is not None
    owned.process.stdin.close()
    owned.process.stdin = None
    code, said = owned.finish()
    assert code == ExitCode.RESUMABLE, said
    assert {event["run_id"] for event in machines.events("handed_on")} == theirs


@pytest.mark.thorough
def test_a_grid_is_performed_once_by_all_machines_together(machines: Machines) -> None:
    grid = {"method": "grid", "metric": {"name": "loss"}, "parameters": {"x": {"values": list(range(9))}}}
    machines.create("quick", count=50, sweep_configuration=grid)
    machines.count = 9
    expect_all_done(machines, machines.join("one"), machines.join("two"))
    drawn = [entry.facts["parameters"]["x"] for entry in machines.entries()]
    assert sorted(drawn) == list(range(9))


def test_what_a_lost_machine_leaves_of_a_grid_is_performed_though_the_grid_is_used_up(
    machines: Machines,
) -> None:
    """1. A machine is halted with the last points of a grid. 2. The other one is done, and hears that the
    sweep gives nothing more. 3. The halted one is gone: the other one performs what it had.
    """
    grid = {"method": "grid", "metric": {"name": "loss"}, "parameters": {"x": {"values": list(range(4))}}}
    machines.create("held", count=50, sweep_configuration=grid)
    machines.count = 4
    lost, other = machines.join("lost"), machines.join("other")
    theirs = inside(machines, lost, 2)
    inside(machines, other, 2)
    for process in lost.tree():
        process.suspend()
    machines.go()
    machines.wait_until(
        lambda: machines.query("SELECT 1 FROM pools WHERE exhausted != ''"), "that the grid is used up"
    )
    for process in reversed(lost.tree()):
        process.kill()
    expect_all_done(machines, other)
    assert {run for run, number in attempts(machines, other).items() if number == 2} == theirs


@pytest.mark.thorough
def test_a_new_run_that_the_pool_refuses_goes_back_and_is_performed_later(machines: Machines) -> None:
    """The pool forgets what it has granted: the machine has drawn a run by then that it may not start."""
    machines.create("quick", count=3, workers=1)
    forgets = "ON pool_nodes BEGIN UPDATE pool_nodes SET granted = used; END"
    for change in ("INSERT", "UPDATE"):
        machines.query(f"CREATE TRIGGER forgets_{change} AFTER {change} {forgets}")
    machine = machines.join("one")
    machine.read_until("is not started here: no run is granted to this machine now")
    assert machines.entries() == []
    for change in ("INSERT", "UPDATE"):
        machines.query(f"DROP TRIGGER forgets_{change}")
    expect_all_done(machines, machine)


def test_the_failure_policy_counts_over_all_machines(machines: Machines) -> None:
    machines.create("failing", count=40, failures={"max_initial": 4})
    both = [machines.join("one"), machines.join("two")]
    assert [machine.finish()[0] for machine in both] == [ExitCode.FAILURE_POLICY] * 2
    assert len(machines.events("ended")) < 12
