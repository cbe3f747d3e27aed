"""A Ray of one's own in a process: two raylets with made-up devices, until its stdin ends.

python raylets.py 2 3 ─▶ {"address": …, "raylets": [PID, PID]}
"""

from __future__ import annotations

import json
import sys

from ray.cluster_utils import Cluster

SMALL = {"num_cpus": 1, "object_store_memory": 80 * 2**20}


def main() -> None:
    cluster = Cluster()
    first, *others = map(int, sys.argv[1:])
    nodes = [cluster.add_node(num_gpus=first, include_dashboard=False, **SMALL)]
    nodes += [cluster.add_node(num_gpus=number, **SMALL) for number in others]
    raylets = [node.all_processes["raylet"][0].process.pid for node in nodes]
    print(json.dumps({"address": cluster.address, "raylets": raylets}), flush=True)
    sys.stdin.read()
    cluster.shutdown()


if __name__ == "__main__":
    main()
