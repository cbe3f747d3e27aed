"""Whole sweeps on many machines, led from here: machines are folders, each with a node of its own."""

from __future__ import annotations

import json
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from contextlib import closing
from pathlib import Path
from typing import Any, Final

import psutil
import pytest

from parallel_hpo.cli.show import status
from parallel_hpo.core.errors import ExitCode
from parallel_hpo.session.decide.stopping import index_from, seed_of
from tests.commanding import CommandLine
from tests.conftest import make_clean_env
from tests.contract.serving import serving
from tests.processes.conftest import DEADLINE_S, MAINS, RANDOM, RealSweep, outcomes
from tests.processes.stand_in import stand_in
from tests.spares import FORK_SERVER, GUARD, SERVER

TIMEOUT_S: Final = 6.0
"""The nodes' lease."""
GRACE_S: Final = 4.0


class Head:
    """A sweep that is led from here, and its machines."""

    def __init__(self, sweep: RealSweep) -> None:
        self.sweep = sweep
        self.machines = sweep.folder / "machines"
        self.machines.mkdir()

    def add(self, *names: str, broken: bool = False) -> None:
        """Let the engine have these machines, too."""
        for name in names:
            draft = self.sweep.folder / name
            draft.mkdir()
            if broken:
                (draft / "broken").touch()
            draft.rename(self.machines / name)

    def lead(self, main: str, *, resume: str = "", **section: Any) -> RealSweep:
        """Start the head."""
        keys: dict[str, Any] = {"sweep_configuration": RANDOM, "workers": 1, "grace_period_s": GRACE_S}
        keys |= {"directory": str(self.sweep.directory), "machines": {"node_timeout_s": TIMEOUT_S}}
        config = self.sweep.folder / "config.json"
        config.write_text(json.dumps({"hpo": keys | section}))
        words = [str(config), f"{MAINS}:{main}", str(self.machines), *([resume] if resume else [])]
        return self.sweep.start_command("-m", "tests.processes.heading", *words)

    def node(self, name: str) -> psutil.Process:
        """Return the process of a machine's node."""
        found = [each for each in self.sweep.tree() if _is_node(each, name)]
        assert len(found) == 1, found
        return found[0]

    def log(self, name: str) -> str:
        return (self.machines / name / "node.log").read_text()


def _is_node(process: psutil.Process, name: str) -> bool:
    try:
        words = process.cmdline()
    except psutil.Error:
        return False
    return "join" in words and name in words


@pytest.fixture
def head(sweep: RealSweep) -> Head:
    return Head(sweep)


def machines_of(summary: Any) -> dict[str, tuple[int, int]]:
    """The runs and attempts of each machine of a summary."""
    return {machine["name"]: (machine["runs"], machine["attempts"]) for machine in summary["machines"]}


def test_a_count_is_exact_over_machines_and_the_summary_knows_them(
    head: Head, sweep: RealSweep, capfd: pytest.CaptureFixture[str]
) -> None:
    head.add("gpu1", "gpu2")
    ended = head.lead("brief", count=6).finish()
    assert (ended.code, outcomes(ended.summary)) == (ExitCode.COMPLETE, ["finished"] * 6), ended.stderr
    known = machines_of(ended.summary)
    assert set(known) == {"gpu1", "gpu2"}
    assert [sum(each) for each in zip(*known.values(), strict=True)] == [6, 6]
    assert Counter(run["machine"] for run in ended.summary["runs"]) == {
        name: runs for name, (runs, _) in known.items()
    }
    assert len({entry.run_id for entry in sweep.entries()}) == len(sweep.entries()) == 6
    assert "gpu1/w0 run" in ended.stderr
    status(ended.summary["sweep_id"], sweep.directory, as_json=True)
    told = json.loads(capfd.readouterr().out)
    assert (told["finished"], set(told["machines"].split(", "))) == (6, {"gpu1", "gpu2"})
    assert all(run.state == "finished" for run in sweep.runs_on_the_server().values())


def test_an_interrupt_at_the_head_leaves_nothing_and_a_resumed_sweep_performs_the_rest(
    head: Head, sweep: RealSweep
) -> None:
    head.add("gpu1", "gpu2")
    head.lead("held", count=4)
    cut = {entry.run_id for entry in sweep.wait_for(2)}
    processes = sweep.tree()
    began = time.monotonic()
    sweep.signal(signal.SIGINT)
    ended = sweep.finish()
    assert time.monotonic() - began < GRACE_S + 5
    assert [process for process in processes if process.is_running()] == []
    assert ended.code == ExitCode.SIGNAL_BASE + signal.SIGINT, ended.stderr
    assert outcomes(ended.summary) == ["stopped"] * 2
    (sweep.folder / "go").touch()
    again = head.lead("held", count=4, resume=ended.summary["sweep_id"]).finish()
    assert (again.code, outcomes(again.summary)) == (ExitCode.COMPLETE, ["finished"] * 4), again.stderr
    attempts = Counter(entry.run_id for entry in sweep.entries())
    assert {run_id for run_id, number in attempts.items() if number == 2} == cut


def test_a_node_that_is_killed_loses_nothing_and_its_machine_gets_another(
    head: Head, sweep: RealSweep
) -> None:
    head.add("gpu1", "gpu2")
    sweep.starts = (SERVER, FORK_SERVER, GUARD, GUARD, GUARD)
    head.lead("held", count=3)
    sweep.wait_for(2)
    began = time.monotonic()
    head.node("gpu1").kill()
    sweep.wait_for(3)
    assert time.monotonic() - began < 10 + TIMEOUT_S
    (sweep.folder / "go").touch()
    ended = sweep.finish()
    assert (ended.code, outcomes(ended.summary)) == (ExitCode.COMPLETE, ["finished"] * 3), ended.stderr
    assert Counter(run["attempts"] for run in ended.summary["runs"]) == {1: 2, 2: 1}
    assert ended.summary["lost"] == 0


@pytest.mark.thorough
def test_a_machine_that_comes_later_takes_part_and_one_that_always_fails_is_given_up(
    head: Head, sweep: RealSweep
) -> None:
    head.add("gpu1")
    head.add("gpu2", broken=True)
    head.lead("held", count=4)
    sweep.wait_for(1)
    sweep.read_until("machine gpu2 gets no node any more: no torch on this machine")
    head.add("gpu3")
    sweep.wait_for(2)
    (sweep.folder / "go").touch()
    ended = sweep.finish()
    assert (ended.code, outcomes(ended.summary)) == (ExitCode.COMPLETE, ["finished"] * 4), ended.stderr
    assert set(machines_of(ended.summary)) == {"gpu1", "gpu3"}


@pytest.mark.thorough
def test_a_sweep_ends_where_no_machine_can_run_a_node_and_says_why(head: Head, sweep: RealSweep) -> None:
    head.add("gpu1", broken=True)
    ended = head.lead("brief", count=2).finish()
    assert ended.code == ExitCode.FAILURE_POLICY, ended.stderr
    assert "no torch on this machine" in ended.summary["stop_reason"]
    assert ended.summary["attempted"] == 0


def test_when_the_head_is_killed_nothing_is_left_after_the_lease(head: Head, sweep: RealSweep) -> None:
    head.add("gpu1", "gpu2")
    head.lead("held", count=4)
    sweep.wait_for(2)
    processes = sweep.tree()
    sweep.signal(signal.SIGKILL)
    _, living = psutil.wait_procs(processes, timeout=TIMEOUT_S + 5)
    assert living == []


def test_a_sweep_is_resumed_on_another_machine_from_what_the_server_knows(
    head: Head, sweep: RealSweep, tmp_path: Path, commands: CommandLine
) -> None:
    """The head's folder and those of its machines are gone, the sweep's server is not."""
    folder = tmp_path / "server"
    folder.mkdir()
    with serving(folder, make_clean_env(folder / "home"), commands=commands) as server:
        sweep.env |= {name: server.client_env[name] for name in ("WANDB_BASE_URL", "WANDB_API_KEY")}
        del sweep.env["PARALLEL_HPO_BACKEND"]
        sweep.unlike = "there is no server.db in the head's folder"
        head.add("gpu1")
        head.lead("held", count=3)
        sweep.wait_for(1)
        sweep.signal(signal.SIGINT)
        first = sweep.finish()
        shutil.rmtree(sweep.directory)
        shutil.rmtree(head.machines / "gpu1")
        head.add("gpu2")
        (sweep.folder / "go").touch()
        again = head.lead("held", resume=first.summary["sweep_id"], count=3).finish()
    assert (again.code, outcomes(again.summary)) == (ExitCode.COMPLETE, ["finished"] * 3), again.stderr
    assert machines_of(again.summary) == {"gpu1": (0, 1), "gpu2": (3, 3)}


@pytest.mark.thorough
def test_with_wandbs_server_as_the_sweeps_own_the_pool_is_at_the_head(
    head: Head, sweep: RealSweep, tmp_path: Path
) -> None:
    folder = tmp_path / "server"
    folder.mkdir()
    with serving(folder, make_clean_env(folder / "home")) as server, stand_in(server.said["url"]) as url:
        sweep.env |= {"WANDB_BASE_URL": url, "WANDB_API_KEY": server.client_env["WANDB_API_KEY"]}
        del sweep.env["PARALLEL_HPO_BACKEND"]
        sweep.unlike = "the sweep is on a server that stands in for W&B's"
        head.add("gpu1", "gpu2")
        ended = head.lead("seeded", count=4, seed=7, seed_parameter="seed").finish()
        with closing(sqlite3.connect(folder / "server.db")) as database:
            states = database.execute("SELECT state FROM runs").fetchall()
            (state,) = database.execute("SELECT state FROM sweeps").fetchone()
    assert (ended.code, outcomes(ended.summary)) == (ExitCode.COMPLETE, ["finished"] * 4), ended.stderr
    assert "PARALLEL_HPO_POOL_KEY=$(cat" in ended.stderr
    assert ended.summary["backend"] == "wandb"
    assert {entry.facts["seed"] for entry in sweep.entries()} == {
        seed_of(7, index_from(run["parameters"], 0)) for run in ended.summary["runs"]
    }
    assert (states, state) == ([("finished",)] * 4, "FINISHED")


@pytest.mark.thorough
def test_what_would_not_end_before_the_deadline_starts_on_no_machine_and_is_left_to_a_resumed_sweep(
    head: Head, sweep: RealSweep
) -> None:
    sweep.env["EACH_S"] = "3"
    head.add("gpu1", "gpu2")
    cut = head.lead("seeded", count=12, seed=7, seed_parameter="seed", deadline="12s").finish()
    assert cut.code == ExitCode.SWEEP_TIMEOUT, cut.stderr
    assert cut.summary["stop_reason"].startswith("deadline 20"), "machines are given the moment"
    assert cut.summary["attempted"] < 12
    sweep.env["EACH_S"] = "0"
    section = {"count": 12, "seed": 8}
    ended = head.lead("seeded", resume=cut.summary["sweep_id"], **section).finish()
    assert (ended.code, outcomes(ended.summary)) == (ExitCode.COMPLETE, ["finished"] * 12), ended.stderr
    assert {entry.facts["seed"] for entry in sweep.entries()} == {seed_of(7, n) for n in range(12)}


def test_machines_that_nobody_starts_join_by_the_command_that_the_head_prints(sweep: RealSweep) -> None:
    sweep.start("brief", count=4, machines={"node_timeout_s": TIMEOUT_S})
    line = sweep.read_until("other machines can join by: ")
    command = line.partition("can join by: ")[2].replace("parallel-hpo", f"{sys.executable} -m parallel_hpo")
    other = sweep.folder / "other"
    with subprocess.Popen(
        ["bash", "-c", f"{command.strip()} --name byhand --directory {other}"],
        env={name: value for name, value in sweep.env.items() if not name.startswith("PARALLEL_HPO_")},
        cwd=sweep.folder,
        stderr=subprocess.PIPE,
        text=True,
    ) as node:
        ended = sweep.finish()
        _, said = node.communicate(timeout=DEADLINE_S)
    assert (ended.code, outcomes(ended.summary)) == (ExitCode.COMPLETE, ["finished"] * 4), ended.stderr
    assert node.returncode == ExitCode.COMPLETE, said
    assert machines_of(ended.summary) == {"byhand": (4, 4)}
    assert not any(line in log.read_text() for log in other.rglob("*.log") for line in _keys(sweep))


def _keys(sweep: RealSweep) -> list[str]:
    return [path.read_text().strip() for path in sweep.directory.glob("*/sweep.key")]
