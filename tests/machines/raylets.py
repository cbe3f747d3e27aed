"""A Ray of one's own in a process: two raylets with made-up devices, until its stdin ends.

python raylets.py 2 3 ─▶ {"address": …, "raylets": [PID, PID]}
"""

from __future__ import annotations

import json
import select
import sys

from ray.cluster_utils import Cluster

SMALL = {"num_cpus": 1, "object_store_memory": 80 * 2**20}


def main() -> None:
    cluster = Cluster()
    first, *others = map(int, sys.argv[1:])
    nodes = [cluster.add_node(num_gpus=first, include_dashboard=False, **SMALL)]
    nodes += [cluster.add_node(num_gpus=number, **SMALL) for number in others]
    raylets = [node.all_processes["raylet"][0].process for node in nodes]
    print(json.dumps({"address": cluster.address, "raylets": [raylet.pid for raylet in raylets]}), flush=True)
    while not select.select([sys.stdin], [], [], 0.1)[0]:
        for raylet in raylets:
            raylet.poll()  # a zombie is alive to its workers, which end with it
    cluster.shutdown()


if __name__ == "__main__":
    main()
