"""Selects the cluster engine of a sweep: from its section, else from joblib's active backend."""

from __future__ import annotations

import base64
import pickle
import sys
from typing import Any, Final, Literal

from joblib.parallel import get_active_backend

from parallel_hpo.cluster.hosted import ClusterChoice
from parallel_hpo.config.tables import MachineEngine, Machines
from parallel_hpo.core.errors import UsageError

OF_JOBLIB: Final = {"DaskDistributedBackend": MachineEngine.DASK, "RayBackend": MachineEngine.RAY}
"""Classes of joblib's backends, by name: importing them would import the engines."""


def chosen_engine(machines: Machines | None) -> ClusterChoice | None:
    """Return the engine that finds the machines, or None.

    Must run in the thread in which joblib's backend was set.
    """
    backend = get_active_backend()[0]
    engine = (machines and machines.engine) or OF_JOBLIB.get(type(backend).__name__)
    if engine is None:
        return None
    count = machines.count if machines else "auto"
    address = machines.address if machines else None
    if engine is MachineEngine.SLURM:
        return _slurm(address, count)
    if address is not None:
        return ClusterChoice(engine, address, count)
    if engine is MachineEngine.RAY:
        return ClusterChoice(engine, _address_of_ray(), count)
    return _with_client(getattr(backend, "client", None) or _default_client(), count)


def _slurm(address: str | None, count: int | Literal["auto"]) -> ClusterChoice:
    if address is not None:
        how = "srun's own variables (SLURM_PARTITION, SLURM_ACCOUNT, SLURM_TIMELIMIT, …) say where jobs go"
        raise UsageError(f"machines.address: Slurm has none, got {address!r}; {how}")
    return ClusterChoice(MachineEngine.SLURM, count=count)


def _with_client(client: Any, count: int | Literal["auto"]) -> ClusterChoice:
    """Return Dask with the address and security of the program's own client."""
    if client is None:
        return ClusterChoice(MachineEngine.DASK, count=count)
    address = client.scheduler.address
    if address.startswith("inproc:"):
        how = "make it with processes=True, or give machines.address"
        raise UsageError(
            f"Dask: the cluster at {address} is within this process, not on another machine: {how}"
        )
    encrypted = client.security.require_encryption
    security = base64.b64encode(pickle.dumps(client.security)).decode() if encrypted else ""
    return ClusterChoice(MachineEngine.DASK, address, count, security)


def _default_client() -> Any:
    """Return the program's own Dask client, if any, without importing Dask."""
    distributed = sys.modules.get("distributed")
    if distributed is None:
        return None
    try:
        return distributed.default_client()
    except ValueError:
        return None


def _address_of_ray() -> str | None:
    """Return the address of the Ray cluster this program is connected to, if any, without importing Ray."""
    ray = sys.modules.get("ray")
    if ray is None or not ray.is_initialized():
        return None
    return str(ray.get_runtime_context().gcs_address)
