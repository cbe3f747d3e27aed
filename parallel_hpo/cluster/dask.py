"""Dask: each host with a worker is a machine; a task pinned to one of its workers runs the node.

When its worker dies, a pinned task waits for that worker forever, so a death is seen by the worker's absence.
Dask can't end a running task: `stop` asks the worker's process to do it.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import urlsplit
from uuid import uuid4

from parallel_hpo.cluster.base import ClusterMachine, NodeCommand, NodeTaskEnd, address_towards
from parallel_hpo.cluster.node_process import (
    NodeExit,
    error_text,
    hinted,
    proven,
    run_node,
    stop_node,
    time_to_end,
)
from parallel_hpo.core.errors import BackendError
from parallel_hpo.core.version import library

ANSWER_S: Final = 10.0
"""Timeout for a scheduler's answer, in seconds."""
FIRST: Final = 1000
"""Priority of a node's task, above the cluster's other waiting tasks."""
LOOK_S: Final = 0.05
"""Interval between checks for ended nodes, in seconds."""


class DaskEngine:
    """A Dask cluster, through a client of our own."""

    name = "Dask"

    def __init__(self, address: str | None, security: Any = None) -> None:
        """`address` and `security` are arguments of `distributed.Client`; None: Dask's configuration."""
        distributed = library("distributed", extra="dask")
        where = address or _configured("scheduler-address")
        if where is None:
            raise BackendError("Dask: which scheduler? Give machines.address, or set DASK_SCHEDULER_ADDRESS")
        try:
            self._client = distributed.Client(
                where, security=security, timeout=ANSWER_S, set_as_default=False
            )
        except (OSError, ValueError) as error:
            raise BackendError(f"Dask: no scheduler answers at {where}: {error_text(error)}") from None
        self._tasks: dict[Any, tuple[ClusterMachine, NodeCommand]] = {}

    def machines(self) -> tuple[ClusterMachine, ...]:
        first = {_host(address): address for address in sorted(self._workers(), reverse=True)}
        return tuple(ClusterMachine(host, address) for host, address in sorted(first.items()))

    def start(self, machine: ClusterMachine, command: NodeCommand) -> None:
        token = f"parallel_hpo-node-{uuid4().hex}"
        pinned = {"workers": [machine.address], "allow_other_workers": False, "retries": 0, "priority": FIRST}
        task = self._client.submit(perform, token, command, key=token, pure=False, **pinned)
        self._tasks[task] = machine, command

    def ended(self) -> tuple[NodeTaskEnd, ...]:
        workers = self._workers()
        ends = {task: end for task in self._tasks if (end := self._end(task, workers)) is not None}
        for task in ends:
            del self._tasks[task]
            task.cancel()  # else it starts when a new worker gets the address of a dead one
        return tuple(ends.values())

    def stop(self) -> None:
        going = {task: node for task, node in self._tasks.items() if task.status == "pending"}
        workers = self._workers()
        for task, (machine, _) in going.items():
            if machine.address in workers:
                self._client.run(stop_node, task.key, workers=[machine.address], on_error="ignore")
        there = [task for task, (machine, _) in going.items() if machine.address in workers]
        until = time.monotonic() + time_to_end(command for _, command in going.values())
        while any(task.status == "pending" for task in there) and time.monotonic() < until:
            time.sleep(LOOK_S)  # nodes that don't answer stay out of `ended`

    def close(self) -> None:
        self._client.cancel(list(self._tasks))
        self._client.close(timeout=ANSWER_S)

    def own_address(self) -> str | None:
        return address_towards(_host(self._client.scheduler.address))

    def _workers(self) -> Mapping[str, int]:
        threads: Mapping[str, int] = self._client.nthreads()
        return threads

    def _end(self, task: Any, workers: Mapping[str, int]) -> NodeTaskEnd | None:
        machine, _ = self._tasks[task]
        if task.status == "finished":
            return proven(machine, task.result(timeout=ANSWER_S))
        if task.status in ("error", "cancelled"):
            return hinted(machine, task.exception(timeout=ANSWER_S))
        if machine.address not in workers:
            return hinted(machine, f"Dask has lost its worker {machine.address}")
        return None


def perform(token: str, command: NodeCommand) -> NodeExit:
    """Run a node as a worker's task."""
    return run_node(token, command, own_environment(os.environ))


def own_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """Return a worker's environment without its nanny's variables, which limit libraries to one thread."""
    nannys = _configured("distributed.nanny.pre-spawn-environ") or {}
    return {name: value for name, value in environment.items() if value != str(nannys.get(name))}


def _configured(key: str) -> Any:
    return library("dask", extra="dask").config.get(key, None)


def _host(address: str) -> str:
    return urlsplit(address).hostname or address
