"""One sweep on many machines: what becomes of it when one dies, leaves, is cut off, or the coordinator does.

Machines join by themselves (`machines`), or a coordinator starts a node on each of its engine's (`head`).
"""

from __future__ import annotations

import shutil
import signal
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import psutil
import pytest

from parallel_hpo.core.errors import ExitCode
from tests.contract.proxy import Harm, proxying
from tests.processes.conftest import MAINS, RealSweep, command_line, expect_gone, outcomes
from tests.processes.machines import Machines, joining

pytestmark = pytest.mark.timeout(400)

NODE_TIMEOUT_S: Final = 8.0


@pytest.fixture
def machines(sweep: RealSweep, standalone: dict[str, str]) -> Iterator[Machines]:
    with joining(sweep, standalone) as made:
        yield made


def test_the_runs_of_a_killed_machine_and_of_one_that_gets_sigterm_start_on_a_late_one(
    machines: Machines,
) -> None:
    machines.create("held", count=6)
    lost, leaving = machines.join("lost"), machines.join("leaving")
    cut = machines.wait_inside(lost, 2) | machines.wait_inside(leaving, 2)
    lost.signal(signal.SIGKILL)
    lost.finish()
    leaving.signal(signal.SIGTERM)
    code, said = leaving.finish()
    assert code == ExitCode.SIGNAL_BASE + signal.SIGTERM, said
    late = machines.join("late")
    machines.wait_inside(late, 2)
    machines.go()
    machines.expect_all_done(late)
    assert machines.run_again(late) == cut


def test_a_machine_that_is_cut_off_kills_its_runs_which_start_elsewhere_and_comes_back(
    machines: Machines, standalone: dict[str, str]
) -> None:
    machines.create("held", count=5)
    with proxying(standalone["WANDB_BASE_URL"]) as cable:
        cut_off, other = machines.join("cut", url=cable.url), machines.join("other")
        cut = machines.wait_inside(cut_off, 2)
        machines.wait_inside(other, 2)
        workers = [entry.pid for entry in machines.entries(cut_off)]
        cable.choose = lambda message: Harm.LOSE_REQUEST
        machines.wait_until(lambda: not any(map(psutil.pid_exists, workers)), "the end of its workers")
        machines.wait_until(lambda: machines.events("left"), "the end of its lease")
        cable.choose = lambda message: Harm.NONE
        machines.wait_until(lambda: len(machines.events("joined")) == 3, "its coming back")
        machines.go()
        machines.expect_all_done(cut_off, other)
    assert cut <= machines.run_again(cut_off) | machines.run_again(other)


class Head:
    """A sweep that a coordinator leads, whose machines are folders (`tests.processes.heading`)."""

    def __init__(self, sweep: RealSweep) -> None:
        self.sweep = sweep
        self.machines = sweep.folder / "machines"

    def lead(self, main: str, *machines: str, resume: str = "", **section: Any) -> RealSweep:
        """Start the coordinator; these machines are there."""
        for name in machines:
            (self.machines / name).mkdir(parents=True)
        lease = {"node_timeout_s": NODE_TIMEOUT_S}
        keys: dict[str, Any] = {"workers": 1, "grace_period_s": 4, "machines": lease}
        words = [self.sweep.configure(**keys | section), f"{MAINS}:{main}", str(self.machines)]
        return self.sweep.python("-m", "tests.processes.heading", *words, *([resume] if resume else []))

    def node(self, name: str) -> psutil.Process:
        """Return the process of a machine's node."""
        named = [each for each in self.sweep.tree() if " join " in command_line(each)]
        return next(each for each in named if name in each.cmdline())


@pytest.fixture
def head(sweep: RealSweep) -> Head:
    sweep.env["PYTHONPATH"] = str(Path(__file__).parents[2])
    return Head(sweep)


def test_a_coordinator_starts_another_node_for_a_killed_one_and_is_resumed_after_an_interrupt(
    head: Head, sweep: RealSweep
) -> None:
    head.lead("held", "gpu1", "gpu2", count=5).wait_for(2)
    head.node("gpu1").kill()
    sweep.wait_for(3)
    processes = sweep.tree()
    sweep.signal(signal.SIGINT)
    ended = sweep.finish()
    expect_gone(processes)
    assert (ended.code, outcomes(ended.summary)) == (130, ["stopped"] * 2), ended.stderr
    sweep.go()
    again = head.lead("held", count=5, resume=sweep.sweep_id).finish()
    assert (again.code, outcomes(again.summary)) == (0, ["finished"] * 5), again.stderr
    assert Counter(run["attempts"] for run in again.summary["runs"]) == {1: 3, 2: 1, 3: 1}
    known = {machine["name"]: machine["runs"] for machine in again.summary["machines"]}
    assert (set(known), sum(known.values())) == ({"gpu1", "gpu2"}, 5)
    assert all(run.state == "finished" for run in sweep.runs_on_the_server().values())


def test_when_the_coordinator_and_its_disk_are_lost_the_sweep_goes_on_from_what_the_server_knows(
    head: Head, sweep: RealSweep, standalone: dict[str, str]
) -> None:
    """1. The coordinator is killed: nothing of its nodes outlives the lease. 2. All folders are deleted."""
    sweep.env |= standalone
    del sweep.env["PARALLEL_HPO_BACKEND"]
    sweep.unlike = "there is no server.db in the coordinator's folder"
    head.lead("held", "gpu1", count=3).wait_for(1)
    name = sweep.sweep_id
    sweep.kill()
    shutil.rmtree(sweep.directory)
    shutil.rmtree(head.machines)
    sweep.go()
    again = head.lead("held", "gpu2", resume=name, count=3).finish()
    assert (again.code, outcomes(again.summary)) == (0, ["finished"] * 3), again.stderr
    runs = {machine["name"]: machine["runs"] for machine in again.summary["machines"]}
    assert runs == {"gpu1": 0, "gpu2": 3}


def test_with_wandbs_server_the_pool_is_at_the_coordinator_and_a_deadline_ends_all_machines(
    head: Head, sweep: RealSweep, standalone: dict[str, str]
) -> None:
    """A server of ours stands in for W&B's: our own routes are not there."""
    sweep.unlike = "the sweep is on a server that stands in for W&B's"
    sweep.env["EACH_S"] = "5"
    del sweep.env["PARALLEL_HPO_BACKEND"]
    with proxying(standalone["WANDB_BASE_URL"]) as wandbs:
        wandbs.choose = lambda message: Harm.GONE_404 if message.path.startswith("/hpo/") else Harm.NONE
        sweep.env |= standalone | {"WANDB_BASE_URL": wandbs.url}
        seeded: dict[str, Any] = {"count": 8, "seed": 7, "seed_parameter": "seed"}
        cut = head.lead("seeded", "gpu1", "gpu2", deadline="15s", **seeded).finish()
        assert (cut.code, cut.summary["backend"]) == (ExitCode.SWEEP_TIMEOUT, "wandb"), cut.stderr
        assert cut.summary["attempted"] < 8
        sweep.env["EACH_S"] = "0"
        ended = head.lead("seeded", resume=sweep.sweep_id, count=8, seed=8).finish()
    assert (ended.code, outcomes(ended.summary)) == (0, ["finished"] * 8), ended.stderr
    assert len({entry.facts["seed"] for entry in sweep.entries()}) == 8
