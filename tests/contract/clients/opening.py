"""Creates or joins sweeps by `wandb.sweep`, and prints each path, URL and configuration."""

from __future__ import annotations

import json
import multiprocessing
import os
from dataclasses import asdict
from typing import Any

from parallel_hpo.client.base import SweepRequest
from parallel_hpo.client.calls import open_sweep


def open_one(order: dict[str, Any]) -> dict[str, Any]:
    os.chdir(order["folder"])
    os.environ.update(order["env"])
    return asdict(open_sweep(SweepRequest(**order["request"])))


if __name__ == "__main__":
    orders = json.loads(os.environ["ORDERS"])
    processes = multiprocessing.get_context("forkserver")
    processes.set_forkserver_preload(["wandb", "wandb.cli.cli"])
    with processes.Pool(1, maxtasksperchild=1) as pool:  # each in its own client
        opened = pool.map(open_one, orders.values(), chunksize=1)
    print(json.dumps(dict(zip(orders, opened, strict=True))))
