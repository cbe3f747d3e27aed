"""Which engine a sweep's machines come from."""

from __future__ import annotations

import joblib
import pytest

from parallel_hpo.cluster.hosted import ClusterChoice, chosen_engine
from parallel_hpo.config.tables import MachineEngine, Machines
from parallel_hpo.core.errors import UsageError


def machines(**keys: object) -> Machines:
    return Machines.model_validate(keys)


@pytest.mark.parametrize("backend", ["loky", "threading", "multiprocessing"])
def test_one_machine_is_enough_where_nothing_asks_for_more(backend: str) -> None:
    with joblib.parallel_config(backend=backend):
        assert chosen_engine(None) is None
        assert chosen_engine(machines(node_timeout_s=20)) is None


def test_the_section_chooses() -> None:
    assert chosen_engine(machines(engine="ray")) == ClusterChoice(MachineEngine.RAY)
    dask = machines(engine="dask", address="tcp://there:8786", count=3)
    assert chosen_engine(dask) == ClusterChoice(MachineEngine.DASK, "tcp://there:8786", 3)
    assert chosen_engine(machines(engine="slurm", count=2)) == ClusterChoice(MachineEngine.SLURM, count=2)


def test_slurm_has_no_address_and_it_is_said_what_stands_for_one() -> None:
    with pytest.raises(UsageError, match="'gpu'; srun's own variables"):
        chosen_engine(machines(engine="slurm", address="gpu"))


def test_joblib_chooses_ray() -> None:
    joblib_of_ray = pytest.importorskip("ray.util.joblib", reason="Ray is not installed")
    joblib_of_ray.register_ray()
    with joblib.parallel_config(backend="ray"):
        assert chosen_engine(None) == ClusterChoice(MachineEngine.RAY)
        assert chosen_engine(machines(engine="slurm", count=2)) == ClusterChoice(MachineEngine.SLURM, count=2)
    assert chosen_engine(None) is None
