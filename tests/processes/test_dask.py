"""A sweep on the machines of a real Dask cluster, which joblib knows and nobody else has named."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from typing import Final

import pytest

from tests.cluster.dasks import DaskCluster, running_dask
from tests.processes.conftest import MAINS, RealSweep, ending, outcomes

pytest.importorskip("distributed", reason="the extra dask is not installed")
HOSTS: Final = ("127.0.0.2", "127.0.0.3")


@pytest.fixture(scope="module")
def cluster(new_sweep: Callable[[], RealSweep]) -> Iterator[DaskCluster]:
    """A cluster that a file's tests share, one after the other."""
    sweep = new_sweep()
    with running_dask(sweep.folder, sweep.env, HOSTS) as made:
        yield made


@pytest.fixture
def sweep(cluster: DaskCluster) -> Iterator[RealSweep]:
    """A sweep in the cluster's environment, without what an earlier one has left there."""
    shutil.rmtree(cluster.folder / "sweeps", ignore_errors=True)
    for name in ("journal.jsonl", "go"):
        (cluster.folder / name).unlink(missing_ok=True)
    with ending(RealSweep(cluster.folder, cluster.env)) as made:
        yield made


def optimize(sweep: RealSweep, cluster: DaskCluster, main: str, **section: object) -> RealSweep:
    """Start the user's script."""
    config = sweep.configure(**{"workers": 1, "grace_period_s": 4, **section})
    return sweep.python("-m", "tests.processes.in_dask", config, cluster.address, main)


def test_within_joblibs_dask_backend_a_sweep_runs_on_the_clusters_machines(
    sweep: RealSweep, cluster: DaskCluster
) -> None:
    optimize(sweep, cluster, "held", count=4).wait_for(2)
    sweep.go()
    ended = sweep.finish()
    assert (ended.code, outcomes(ended.summary)) == (0, ["finished"] * 4), ended.stderr
    assert {machine["name"] for machine in ended.summary["machines"]} == set(HOSTS)


def test_the_doctor_examines_each_machine_of_the_cluster(sweep: RealSweep, cluster: DaskCluster) -> None:
    config = sweep.configure(machines={"engine": "dask", "address": cluster.address})
    ended = sweep.run("doctor", config, f"{MAINS}:quick", "--machines", "--json").finish()
    found = json.loads(ended.stdout)
    assert (ended.code, found["ok"]) == (0, True), ended.stdout
    assert {machine["name"] for machine in found["machines"]} == set(HOSTS)
    for machine in found["machines"]:
        subjects = {finding["subject"] for finding in machine["findings"]}
        assert {"versions", "reach", "clock", "workers", "directory", "target"} <= subjects
