"""A private Ray: raylets on this machine with made-up devices, under a process that ends with its stdin.

python raylets.py 2 3 ─▶ {"address": …, "raylets": [PID, PID]}
"""

from __future__ import annotations

import json
import os
import select
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

SMALL = {"num_cpus": 1, "object_store_memory": 80 * 2**20}
ALONE = {"include_dashboard": False, "include_log_monitor": False, "no_monitor": True}
"""Only tests look at the cluster, and it does not grow."""


@dataclass(frozen=True)
class Raylets:
    """Where Ray is, and its raylets, by the numbers of their processes."""

    address: str
    raylets: list[int]


@contextmanager
def running_raylets(*devices: int, env: Mapping[str, str] = os.environ) -> Iterator[Raylets]:
    """Run a Ray whose raylets have these numbers of devices, and this environment."""
    folder = Path(tempfile.mkdtemp(prefix="ray-"))  # a short name, as sockets in it need
    env = {**env, "RAY_TMPDIR": str(folder)}
    words = [sys.executable, __file__, *map(str, devices)]
    pipe = subprocess.PIPE
    with subprocess.Popen(words, env=env, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL) as process:
        assert process.stdout is not None
        try:
            yield Raylets(**json.loads(process.stdout.readline()))
        finally:
            process.communicate()
            shutil.rmtree(folder)


def main() -> None:
    """Run the process that owns the raylets."""
    from ray.cluster_utils import Cluster

    cluster = Cluster()
    first, *others = map(int, sys.argv[1:])
    nodes = [cluster.add_node(num_gpus=first, **ALONE, **SMALL)]
    nodes += [cluster.add_node(num_gpus=number, **SMALL) for number in others]
    raylets = [node.all_processes["raylet"][0].process for node in nodes]
    told = {"address": cluster.address, "raylets": [raylet.pid for raylet in raylets]}
    print(json.dumps(told), flush=True)
    while not select.select([sys.stdin], [], [], 0.1)[0]:
        for raylet in raylets:
            raylet.poll()  # a zombie is alive to its workers, which end with it
    cluster.shutdown()


if __name__ == "__main__":
    main()
