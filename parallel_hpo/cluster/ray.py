"""Ray: each of its nodes is a machine; an actor with all its devices runs our node.

Ray sets the device mask in the actor's process, and our node inherits it. When the driver ends or the actor
is killed, the guard's stdin ends.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

from parallel_hpo.cluster.base import ClusterMachine, MachineNames, NodeCommand, NodeTaskEnd
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

DEVICES: Final = "GPU"
"""Ray's name for devices of any make."""
RAYS_OWN: Final = ("OMP_NUM_THREADS", "PYTHONBREAKPOINT")
"""Variables that Ray sets in an actor's process: one thread, since the actor requests no core."""


class RayEngine:
    """A running Ray cluster."""

    name = "Ray"

    def __init__(self, address: str | None) -> None:
        """`address` is that of `ray.init`; None: RAY_ADDRESS, or the cluster of this machine."""
        self._ray = library("ray", extra="ray")
        try:
            self._ray.init(address=address or "auto", log_to_driver=False, logging_level="ERROR")
        except (OSError, ValueError, RuntimeError) as error:
            how = "start one with `ray start --head`, or give machines.address"
            raise BackendError(f"Ray: no cluster can be reached: {error_text(error)}; {how}") from None
        self._names = MachineNames()
        self._tasks: dict[Any, tuple[ClusterMachine, NodeCommand, Any]] = {}

    def machines(self) -> tuple[ClusterMachine, ...]:
        living = sorted((node["NodeID"], node["NodeManagerHostname"]) for node in self._living())
        return self._names.name(living)

    def start(self, machine: ClusterMachine, command: NodeCommand) -> None:
        nodes = [node for node in self._living() if node["NodeID"] == machine.address]
        if not nodes:
            raise BackendError(f"Ray: machine {machine.name} is no longer there")
        devices = nodes[0]["Resources"].get(DEVICES, 0)
        pinned = library("ray.util.scheduling_strategies", extra="ray").NodeAffinitySchedulingStrategy
        resources = {
            "scheduling_strategy": pinned(machine.address, soft=False),
            "num_gpus": devices,
            "num_cpus": 0,
        }
        never_again = {"max_restarts": 0, "max_task_retries": 0}
        # Two threads: one runs the node, the other receives `stop`.
        actor = self._ray.remote(NodeActor).options(max_concurrency=2, **resources, **never_again).remote()
        mask = {} if devices else {"CUDA_VISIBLE_DEVICES": ""}
        self._tasks[actor.run.remote(command, mask)] = machine, command, actor

    def ended(self) -> tuple[NodeTaskEnd, ...]:
        waiting = list(self._tasks)
        ready = self._ray.wait(waiting, num_returns=len(waiting), timeout=0)[0] if waiting else []
        return tuple(self._end(task) for task in ready)

    def stop(self) -> None:
        going = list(self._tasks)
        if not going:
            return
        for _, _, actor in self._tasks.values():
            actor.stop.remote()
        within_s = time_to_end(command for _, command, _ in self._tasks.values())
        _, deaf = self._ray.wait(going, num_returns=len(going), timeout=within_s)
        for task in deaf:
            self._ray.kill(self._tasks[task][2])

    def close(self) -> None:
        self._ray.shutdown()

    def own_address(self) -> str | None:
        return str(self._ray.util.get_node_ip_address())

    def _living(self) -> list[dict[str, Any]]:
        return [node for node in self._ray.nodes() if node["Alive"]]

    def _end(self, task: Any) -> NodeTaskEnd:
        machine, _, actor = self._tasks.pop(task)
        try:
            return proven(machine, self._ray.get(task))
        except self._ray.exceptions.RayError as error:
            return hinted(machine, error)
        finally:
            self._ray.kill(actor)


class NodeActor:
    """Runs one node, on the machine."""

    def __init__(self) -> None:
        self._token = uuid4().hex

    def run(self, command: NodeCommand, mask: Mapping[str, str]) -> NodeExit:
        return run_node(self._token, command, own_environment(os.environ) | dict(mask))

    def stop(self) -> None:
        stop_node(self._token)


def own_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """Return an actor's environment with its device masks, but without Ray's own variables."""
    before = _environment_at_the_start()
    rays = [name for name in RAYS_OWN if name not in before]
    return {name: value for name, value in environment.items() if name not in rays}


def _environment_at_the_start() -> frozenset[str]:
    """Return the names of the variables that this process was started with."""
    try:
        return frozenset(
            entry.partition("=")[0] for entry in Path("/proc/self/environ").read_text().split("\0")
        )
    except OSError:  # not Linux
        return frozenset(os.environ)
