"""Nodes and a sweep on a real Ray cluster: two raylets on this machine, with made-up devices."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Final

import psutil
import pytest

from parallel_hpo.cluster.base import ClusterMachine, NodeTaskEnd
from parallel_hpo.cluster.hosted import ClusterChoice, HostedEngine
from parallel_hpo.config.tables import MachineEngine
from parallel_hpo.core.errors import BackendError
from tests.cluster.nodes import HeldNode, begun, next_end, next_ends
from tests.processes.conftest import RealSweep, comes, expect_exact_on_two_machines

pytestmark = pytest.mark.skipif(find_spec("ray") is None, reason="Ray is not installed")


RAYLETS: Final = """
import json, select, sys
from ray.cluster_utils import Cluster
cluster, small = Cluster(), {"num_cpus": 1, "object_store_memory": 80 * 2**20}
alone = {"include_dashboard": False, "include_log_monitor": False, "no_monitor": True}
nodes = [cluster.add_node(num_gpus=2, **alone, **small), cluster.add_node(num_gpus=3, **small)]
raylets = [node.all_processes["raylet"][0].process for node in nodes]
print(json.dumps({"address": cluster.address, "raylets": [raylet.pid for raylet in raylets]}), flush=True)
while not select.select([sys.stdin], [], [], 0.1)[0]:
    for raylet in raylets:
        raylet.poll()  # a zombie is alive to its workers, which end with it
cluster.shutdown()
"""
"""Owns two raylets with made-up devices, until its stdin is closed."""


@dataclass(frozen=True)
class Raylets:
    """Where Ray is, and its raylets, by the numbers of their processes."""

    address: str
    raylets: list[int]


@pytest.fixture(scope="module")
def cluster(sweep: RealSweep) -> Iterator[Raylets]:
    """A private Ray, whose raylets have the environment of the sweep."""
    folder = tempfile.mkdtemp(prefix="ray-")  # a short name, as sockets in it need
    words, env, pipe = [sys.executable, "-c", RAYLETS], {**sweep.env, "RAY_TMPDIR": folder}, subprocess.PIPE
    with subprocess.Popen(words, env=env, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL) as process:
        assert process.stdout is not None
        try:
            yield Raylets(**json.loads(process.stdout.readline()))
        finally:
            process.communicate()
            shutil.rmtree(folder)


def new_client(cluster: Raylets) -> HostedEngine:
    return HostedEngine(ClusterChoice(MachineEngine.RAY, cluster.address))


@pytest.fixture(scope="module")
def client(cluster: Raylets) -> Iterator[HostedEngine]:
    made = new_client(cluster)
    yield made
    made.close()


@pytest.fixture
def nodes(engine: HostedEngine, tmp_path: Path) -> dict[ClusterMachine, HeldNode]:
    return begun(engine, tmp_path)


def test_each_raylet_is_a_machine_and_has_one_node_with_all_its_devices(
    engine: HostedEngine, cluster: Raylets, nodes: dict[ClusterMachine, HeldNode]
) -> None:
    assert engine.name == "Ray"
    first, second = (machine.name for machine in engine.machines())
    assert second == f"{first}-2"
    environments = [node.facts()["environment"] for node in nodes.values()]
    assert {environment["CUDA_VISIBLE_DEVICES"] for environment in environments} == {"0,1", "0,1,2"}
    assert not any("OMP_NUM_THREADS" in environment for environment in environments)
    parents = {parent.pid for node in nodes.values() for parent in node.process().parents()}
    assert parents >= set(cluster.raylets)
    for machine, node in nodes.items():
        node.let_go()
        assert next_end(engine) == NodeTaskEnd(machine, returned=True, exit_code=0)


def test_stopping_the_engine_lets_nodes_exit_with_code_75(
    engine: HostedEngine, nodes: dict[ClusterMachine, HeldNode]
) -> None:
    processes = [node.process() for node in nodes.values()]
    engine.stop()
    assert not any(process.is_running() for process in processes)
    assert [(end.returned, end.exit_code) for end in engine.ended()] == [(True, 75)] * 2


def test_killing_the_client_ends_all_nodes_and_reports_each_as_not_returned(
    cluster: Raylets, tmp_path: Path
) -> None:
    before = psutil.Process().children()
    with closing(new_client(cluster)) as engine:
        nodes = begun(engine, tmp_path)
        processes = [node.process() for node in nodes.values()]
        (host,) = (child for child in psutil.Process().children() if child not in before)
        host.kill()
        assert comes(lambda: not any(process.is_running() for process in processes))
        ends = next_ends(engine, len(nodes))
    assert {(end.machine, end.returned) for end in ends} == {(machine, False) for machine in nodes}


def test_a_sweep_on_two_raylets_performs_exactly_its_count(sweep: RealSweep, cluster: Raylets) -> None:
    expect_exact_on_two_machines(sweep, engine="ray", address=cluster.address)


def test_an_unreachable_ray_cluster_raises_and_names_machines_address() -> None:
    with pytest.raises(BackendError, match=r"Ray: no cluster can be reached: .*give machines\.address"):
        HostedEngine(ClusterChoice(MachineEngine.RAY, "nonsense"))


@pytest.mark.thorough
def test_a_killed_raylets_node_ends_and_is_reported_as_not_returned(
    engine: HostedEngine, cluster: Raylets, nodes: dict[ClusterMachine, HeldNode]
) -> None:
    """The other machine's node goes on."""
    lost = next(
        node for node in nodes.values() if cluster.raylets[1] in [p.pid for p in node.process().parents()]
    )
    machine = next(machine for machine, node in nodes.items() if node is lost)
    process = lost.process()
    psutil.Process(cluster.raylets[1]).kill()
    end = next_end(engine)
    assert (end.machine, end.returned) == (machine, False)
    assert end.error
    assert comes(lambda: not process.is_running())
    assert comes(lambda: machine not in engine.machines())
    assert all(node.process().is_running() for node in nodes.values() if node is not lost)
