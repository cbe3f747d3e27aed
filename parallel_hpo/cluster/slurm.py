"""Slurm: each node is the only task of an `srun`, which connects stdin and stdout to the node's guard.

Within an allocation its hosts are the machines, and each node is a job step on one host. Otherwise each node
is a job that waits in the queue; srun's own variables set its resources.
"""

from __future__ import annotations

import shutil
import subprocess
import threading
import time
from collections.abc import Mapping
from queue import SimpleQueue
from typing import Final, Literal

from parallel_hpo.cluster.base import ClusterMachine, NodeCommand, NodeTaskEnd, OutputTail, address_towards
from parallel_hpo.cluster.node_process import (
    NodeProcess,
    NodeStateUnknownError,
    error_text,
    hinted,
    proven,
    time_to_end,
)
from parallel_hpo.core.errors import BackendError, MissingExtraError, UsageError

ONE_TASK: Final = ("--nodes=1", "--ntasks=1", "--job-name=parallel_hpo", "--kill-on-bad-exit=0")
ALL_OF_THE_HOST: Final = ("--whole", "--overlap", "--mem=0", "--cpu-bind=none")
"""Options of a job step; without them it gets one core, and waits for the coordinator's own step to end."""
ANSWER_S: Final = 10.0
"""Timeout for an answer of Slurm's controller, in seconds."""


class SlurmEngine:
    """Slurm, through its commands on this machine."""

    name = "Slurm"

    def __init__(self, count: int | Literal["auto"], environment: Mapping[str, str]) -> None:
        """`count` is the number of jobs, and is ignored within an allocation."""
        self._environment = dict(environment)
        if shutil.which("srun", path=environment.get("PATH")) is None:
            raise MissingExtraError("Slurm: there is no srun here: start this where jobs can be submitted")
        self._found = self._hosts() or _jobs(count)
        self._nodes: dict[NodeProcess, tuple[NodeCommand, threading.Thread]] = {}
        self._ends: SimpleQueue[NodeTaskEnd] = SimpleQueue()

    def machines(self) -> tuple[ClusterMachine, ...]:
        return self._found

    def start(self, machine: ClusterMachine, command: NodeCommand) -> None:
        host = (f"--nodelist={machine.address}", *ALL_OF_THE_HOST) if machine.address else ()
        srun = ("srun", *ONE_TASK, *host)
        node = NodeProcess(command, srun, env=self._environment, stderr=subprocess.PIPE)
        thread = threading.Thread(target=self._wait_for, args=(node, machine), daemon=True)
        self._nodes[node] = command, thread
        thread.start()

    def ended(self) -> tuple[NodeTaskEnd, ...]:
        self._nodes = {node: (command, t) for node, (command, t) in self._nodes.items() if t.is_alive()}
        return tuple(self._ends.get() for _ in range(self._ends.qsize()))

    def stop(self) -> None:
        for node in self._nodes:
            node.stop()
        until = time.monotonic() + time_to_end(command for command, _ in self._nodes.values())
        for node, (_, thread) in self._nodes.items():
            thread.join(max(0.0, until - time.monotonic()))
            if thread.is_alive():
                node.kill()

    def close(self) -> None:
        """Do nothing: there is no connection."""

    def own_address(self) -> str | None:
        answer = self._ask("scontrol", "show", "config")
        controllers = [
            line.partition("=")[2] for line in answer.splitlines() if line.startswith("SlurmctldHost[")
        ]
        # HOST(ADDRESS), or HOST alone
        return address_towards(controllers[0].strip().rstrip(")").rpartition("(")[2]) if controllers else None

    def _hosts(self) -> tuple[ClusterMachine, ...]:
        """Return the hosts of the allocation that this process is in, if any."""
        hosts = self._environment.get("SLURM_JOB_NODELIST")
        if hosts is None:
            return ()
        return tuple(
            ClusterMachine(host, host) for host in self._ask("scontrol", "show", "hostnames", hosts).split()
        )

    def _ask(self, *command: str) -> str:
        env = self._environment
        try:
            done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=ANSWER_S)
        except (OSError, subprocess.TimeoutExpired) as error:
            raise BackendError(f"Slurm: {error_text(error)}") from None
        if done.returncode:
            raise BackendError(f"Slurm: {' '.join(command)}: {error_text(done.stderr)}")
        return done.stdout

    def _wait_for(self, node: NodeProcess, machine: ClusterMachine) -> None:
        assert node.stderr is not None
        output = OutputTail(node.stderr)
        try:
            self._ends.put(proven(machine, node.wait()))
        except NodeStateUnknownError as error:
            self._ends.put(hinted(machine, output.last_words() or error))


def _jobs(count: int | Literal["auto"]) -> tuple[ClusterMachine, ...]:
    """Return `count` machines yet to be found, each for a job of its own."""
    if count == "auto":
        how = "give machines.count, or start this within an allocation (sbatch, salloc)"
        raise UsageError(f"Slurm: how many jobs shall be submitted? {how}")
    return tuple(ClusterMachine(f"job-{number}", "") for number in range(1, count + 1))
