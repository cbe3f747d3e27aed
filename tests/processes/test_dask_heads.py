"""A sweep on the machines of a real Dask cluster, which joblib knows and nobody else has named."""

from __future__ import annotations

import json
import shutil
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import psutil
import pytest

from parallel_hpo.core.errors import ExitCode
from tests.cluster.dasks import DaskCluster, running_dask
from tests.commanding import CommandLine
from tests.processes.conftest import MAINS, RANDOM, RealSweep, ending, outcomes
from tests.spares import FORK_SERVER, GUARD, HOST

pytest.importorskip("distributed", reason="the extra dask is not installed")
HOSTS: Final = ("127.0.0.2", "127.0.0.3")
GRACE_S: Final = 4.0
NODES: Final = (GUARD,) * 4
"""One for each test that has a node on each worker."""


@pytest.fixture(scope="module")
def cluster(new_sweep: Callable[[], RealSweep], commands: CommandLine) -> Iterator[DaskCluster]:
    """A cluster that a file's tests share, one after the other."""
    sweep = new_sweep()
    with running_dask(commands, sweep.folder, sweep.env, HOSTS, starts=NODES) as made:
        yield made


@pytest.fixture
def sweep(cluster: DaskCluster, commands: CommandLine) -> Iterator[RealSweep]:
    """A sweep whose runs find the cluster's environment, and nothing that an earlier one has left there."""
    shutil.rmtree(cluster.folder / "sweeps", ignore_errors=True)
    for name in ("journal.jsonl", "go"):
        (cluster.folder / name).unlink(missing_ok=True)
    with ending(RealSweep(cluster.folder, cluster.env, commands)) as made:
        yield made


def optimize(sweep: RealSweep, cluster: DaskCluster, main: str, **section: object) -> RealSweep:
    """Start the user's script."""
    keys = {"sweep_configuration": RANDOM, "workers": 1, "grace_period_s": GRACE_S}
    config = sweep.folder / "config.json"
    config.write_text(json.dumps({"hpo": keys | {"directory": str(sweep.directory)} | section}))
    return sweep.start_command("-m", "tests.processes.in_dask", str(config), cluster.address, main)


def test_within_joblibs_dask_backend_a_sweep_runs_on_the_clusters_machines(
    sweep: RealSweep, cluster: DaskCluster
) -> None:
    optimize(sweep, cluster, "held", count=4)
    sweep.wait_for(2)
    (sweep.folder / "go").touch()
    ended = sweep.finish()
    assert (ended.code, outcomes(ended.summary)) == (ExitCode.COMPLETE, ["finished"] * 4), ended.stderr
    assert {machine["name"] for machine in ended.summary["machines"]} == set(HOSTS)
    assert "on the machines of Dask" in ended.stderr


def test_an_interrupt_ends_what_dask_would_let_run_on(sweep: RealSweep, cluster: DaskCluster) -> None:
    optimize(sweep, cluster, "held", count=4)
    pids = [entry.pid for entry in sweep.wait_for(2)]
    began = time.monotonic()
    sweep.signal(signal.SIGINT)
    ended = sweep.finish()
    assert time.monotonic() - began < GRACE_S + 5
    assert [pid for pid in pids if psutil.pid_exists(pid)] == []
    assert outcomes(ended.summary) == ["stopped"] * 2, ended.stderr


@pytest.mark.thorough
def test_on_a_local_cluster_every_line_comes_once(
    tmp_path: Path, clean_env: dict[str, str], commands: CommandLine
) -> None:
    with ending(RealSweep(tmp_path, clean_env, commands)) as sweep:
        config = sweep.folder / "config.json"
        keys = {"sweep_configuration": RANDOM, "workers": 1, "count": 2, "directory": str(sweep.directory)}
        config.write_text(json.dumps({"hpo": keys}))
        ended = sweep.start_command("-m", "tests.processes.in_dask", str(config), "local", "chatty").finish()
    assert (ended.code, outcomes(ended.summary)) == (ExitCode.COMPLETE, ["finished"] * 2), ended.stderr
    lines = [line for line in ended.stderr.splitlines() if "run " in line or "says" in line]
    said = Counter(word for line in lines for word in ("started", "finished in", "says") if word in line)
    assert said == {"started": 2, "finished in": 2, "says": 2}, ended.stderr


@pytest.mark.thorough
def test_a_dask_worker_that_dies_takes_no_run_with_it(
    tmp_path: Path, clean_env: dict[str, str], commands: CommandLine
) -> None:
    with (
        ending(RealSweep(tmp_path, clean_env, commands)) as sweep,
        running_dask(commands, tmp_path, sweep.env, HOSTS, starts=NODES) as cluster,
    ):
        expect_that_a_worker_takes_no_run_with_it(sweep, cluster)


def expect_that_a_worker_takes_no_run_with_it(sweep: RealSweep, cluster: DaskCluster) -> None:
    optimize(sweep, cluster, "held", count=3, machines={"engine": "dask", "node_timeout_s": 6.0})
    pids = [entry.pid for entry in sweep.wait_for(2)]
    cluster.workers[HOSTS[0]].kill()
    sweep.wait_until(lambda: not all(map(psutil.pid_exists, pids)), "the end of what the worker had started")
    (sweep.folder / "go").touch()
    ended = sweep.finish()
    assert (ended.code, outcomes(ended.summary)) == (ExitCode.COMPLETE, ["finished"] * 3), ended.stderr
    assert Counter(run["attempts"] for run in ended.summary["runs"]) == {1: 2, 2: 1}


@pytest.mark.thorough
def test_when_the_script_is_killed_nothing_is_left_on_the_cluster(
    sweep: RealSweep, cluster: DaskCluster
) -> None:
    optimize(sweep, cluster, "held", count=4, machines={"engine": "dask", "node_timeout_s": 6.0})
    pids = [entry.pid for entry in sweep.wait_for(2)]
    sweep.signal(signal.SIGKILL)
    assert sweep.comes(lambda: not any(map(psutil.pid_exists, pids)), within_s=6.0 + 5)


def test_the_doctor_looks_on_each_machine_of_the_cluster(sweep: RealSweep, cluster: DaskCluster) -> None:
    config = sweep.folder / "config.json"
    machines = {"engine": "dask", "address": cluster.address}
    config.write_text(
        json.dumps(
            {"hpo": {"directory": str(sweep.directory), "machines": machines, "sweep_configuration": RANDOM}}
        )
    )
    sweep.starts = (FORK_SERVER, HOST)
    words = ("doctor", str(config), f"{MAINS}:quick", "--machines", "--json")
    ended = sweep.start_command("-m", "parallel_hpo", *words).finish()
    found = json.loads(ended.stdout)
    assert (ended.code, found["ok"]) == (ExitCode.COMPLETE, True), ended.stdout
    assert {machine["name"] for machine in found["machines"]} == set(HOSTS)
    for machine in found["machines"]:
        subjects = {finding["subject"] for finding in machine["findings"]}
        assert {"versions", "reach", "clock", "workers", "directory", "target"} <= subjects
    assert not list(sweep.directory.glob("*/ledger.db"))
