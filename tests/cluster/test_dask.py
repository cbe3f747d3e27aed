"""Nodes and a sweep on a real Dask cluster: two workers, on addresses of two hosts."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

import joblib
import pytest

from parallel_hpo.cluster.base import NodeTaskEnd
from parallel_hpo.cluster.dask import DaskEngine, own_environment
from parallel_hpo.cluster.hosted import ClusterChoice, HostedEngine, chosen_engine
from parallel_hpo.config.tables import MachineEngine
from parallel_hpo.core.errors import BackendError, UsageError
from tests.cluster.nodes import (
    DEADLINE_S,
    HeldNode,
    begun,
    expect_nothing_left_of_a_killed_driver,
    named,
    next_end,
)
from tests.processes.conftest import MAINS, RealSweep, comes, outcomes

distributed = pytest.importorskip("distributed", reason="Dask is not installed")
HOSTS: Final = ("127.0.0.1", "127.0.0.2")
QUIET: Final = {
    "DASK_DISTRIBUTED__ADMIN__SYSTEM_MONITOR__INTERVAL": "10s",
    "DASK_DISTRIBUTED__ADMIN__TICK__INTERVAL": "1s",
    "DASK_DISTRIBUTED__WORKER__PROFILE__ENABLED": "False",
}
"""Settings for less self-monitoring: otherwise three idle processes take a tenth of a core."""


class DaskCluster:
    """Its scheduler and workers, each a process."""

    def __init__(self, folder: Path, env: Mapping[str, str]) -> None:
        self.folder = folder
        self.env = {**env, **QUIET}
        self.workers: dict[str, subprocess.Popen[bytes]] = {}
        self._all: list[subprocess.Popen[bytes]] = []

    def start(self) -> None:
        file = self.folder / "scheduler.json"
        self._start("scheduler", "--host", "127.0.0.1", "--port", "0", "--scheduler-file", str(file))
        assert comes(lambda: file.exists() and file.read_text().endswith("}"))
        self.address: str = json.loads(file.read_text())["address"]
        self.workers = {host: self.start_worker(host) for host in HOSTS}
        logs = [self.folder / f"worker-{host}.log" for host in HOSTS]
        assert comes(lambda: all("Registered to:" in log.read_text() for log in logs))

    def start_worker(self, host: str) -> subprocess.Popen[bytes]:
        alone = ("--nthreads", "1", "--no-nanny", "--local-directory", str(self.folder))
        return self._start("worker", self.address, "--host", host, *alone, name=f"-{host}")

    def stop(self) -> None:
        for process in self._all:
            process.kill()  # a worker whose scheduler has gone waits for it when it is asked to end
        for process in self._all:
            process.wait(DEADLINE_S)

    def _start(self, kind: str, *words: str, name: str = "") -> subprocess.Popen[bytes]:
        with (self.folder / f"{kind}{name}.log").open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", f"distributed.cli.dask_{kind}", *words, "--no-dashboard"],
                cwd=self.folder,
                env=self.env,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        self._all.append(process)
        return process


@pytest.fixture(scope="module")
def cluster(sweep: RealSweep) -> Iterator[DaskCluster]:
    made = DaskCluster(sweep.folder, sweep.env)
    try:
        made.start()
        yield made
    finally:
        made.stop()


@pytest.fixture(scope="module")
def client(cluster: DaskCluster) -> Iterator[HostedEngine]:
    made = HostedEngine(ClusterChoice(MachineEngine.DASK, cluster.address))
    yield made
    made.close()


def test_each_host_is_a_machine(engine: HostedEngine) -> None:
    assert [machine.name for machine in engine.machines()] == list(HOSTS)
    assert engine.own_address() == HOSTS[0]
    assert engine.name == "Dask"


def test_a_node_descends_from_the_worker_of_its_machine_and_returns(
    engine: HostedEngine, cluster: DaskCluster, node: HeldNode
) -> None:
    machine = named(engine, HOSTS[1])
    engine.start(machine, node.command)
    assert cluster.workers[HOSTS[1]].pid in [parent.pid for parent in node.process().parents()]
    node.let_go()
    assert next_end(engine) == NodeTaskEnd(machine, returned=True, exit_code=0)


def test_the_end_of_a_node_that_cannot_start_contains_the_error(engine: HostedEngine) -> None:
    command = HeldNode(Path("no such folder") / "told").command
    engine.start(engine.machines()[0], command)
    end = next_end(engine)
    assert end.exit_code == 1
    assert "No such file" in end.error


def test_stopping_the_engine_lets_nodes_exit_with_code_75(engine: HostedEngine, tmp_path: Path) -> None:
    processes = [node.process() for node in begun(engine, tmp_path).values()]
    engine.stop()
    assert not any(process.is_running() for process in processes)
    assert [(end.returned, end.exit_code) for end in engine.ended()] == [(True, 75)] * 2


def test_a_killed_driver_leaves_no_node_process(cluster: DaskCluster, node: HeldNode) -> None:
    """Dask itself would let the task run on."""
    expect_nothing_left_of_a_killed_driver(node, "dask", cluster.address)


def test_a_killed_dask_workers_node_ends_and_is_reported_as_not_returned(
    engine: HostedEngine, cluster: DaskCluster, node: HeldNode
) -> None:
    worker = cluster.start_worker("127.0.0.3")
    assert comes(lambda: len(engine.machines()) == len(HOSTS) + 1)
    machine = named(engine, "127.0.0.3")
    engine.start(machine, node.command)
    process = node.process()
    worker.kill()
    worker.wait()
    end = next_end(engine)
    assert (end.machine, end.returned) == (machine, False)
    assert f"lost its worker {machine.address}" in end.error
    assert comes(lambda: not process.is_running())
    assert [machine.name for machine in engine.machines()] == list(HOSTS)


OPTIMIZE: Final = """
import sys
import joblib
from distributed import Client
from parallel_hpo import ConfigLoader
from tests.processes.mains import held
hpo, client = ConfigLoader(sys.argv[1]).hpo, Client(sys.argv[2], set_as_default=False)
with client, joblib.parallel_config(backend="dask", client=client):
    sys.exit(hpo.optimize(held).exit_code)
"""


def test_within_joblibs_dask_backend_a_sweep_runs_on_the_clusters_machines(
    sweep: RealSweep, cluster: DaskCluster
) -> None:
    config = sweep.configure(workers=1, grace_period_s=4, count=4)
    sweep.python("-c", OPTIMIZE, config, cluster.address).wait_for(2)
    sweep.go()
    ended = sweep.finish()
    assert (ended.code, outcomes(ended.summary)) == (0, ["finished"] * 4), ended.stderr
    assert {machine["name"] for machine in ended.summary["machines"]} == set(HOSTS)


@pytest.mark.thorough
def test_the_doctor_examines_each_machine_of_the_cluster(sweep: RealSweep, cluster: DaskCluster) -> None:
    config = sweep.configure(machines={"engine": "dask", "address": cluster.address})
    examined = sweep.beside().run("doctor", config, f"{MAINS}:quick", "--machines", "--json")
    examined.unlike = "no sweep is started"
    ended = examined.finish()
    found = json.loads(ended.stdout)
    assert (ended.code, found["ok"]) == (0, True), ended.stdout
    assert {machine["name"] for machine in found["machines"]} == set(HOSTS)
    for machine in found["machines"]:
        subjects = {finding["subject"] for finding in machine["findings"]}
        assert {"versions", "reach", "clock", "workers", "directory", "target"} <= subjects


def test_a_nodes_environment_excludes_the_nannys_variables() -> None:
    nannys = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    assert own_environment({"CUDA_VISIBLE_DEVICES": "3", **nannys}) == {"CUDA_VISIBLE_DEVICES": "3"}
    assert own_environment({"OMP_NUM_THREADS": "4"}) == {"OMP_NUM_THREADS": "4"}


def test_an_unreachable_dask_scheduler_raises_a_backend_error() -> None:
    with pytest.raises(BackendError, match="Dask: no scheduler answers at nonsense://"):
        HostedEngine(ClusterChoice(MachineEngine.DASK, "nonsense://x"))


def test_a_missing_dask_address_raises_and_names_the_settings_for_it() -> None:
    with pytest.raises(BackendError, match=r"machines\.address, or set DASK_SCHEDULER_ADDRESS"):
        DaskEngine(None)


def test_joblibs_dask_backend_chooses_the_existing_clients_cluster(cluster: DaskCluster) -> None:
    with distributed.Client(cluster.address) as client:
        with joblib.parallel_config(backend="dask"):
            assert chosen_engine(None) == ClusterChoice(MachineEngine.DASK, client.scheduler.address)
        assert chosen_engine(None) is None


def test_dask_workers_within_this_process_are_refused() -> None:
    with (
        distributed.Client(processes=False, dashboard_address=":0", n_workers=1, threads_per_worker=1),
        joblib.parallel_config(backend="dask"),
        pytest.raises(UsageError, match="processes=True"),
    ):
        chosen_engine(None)
