"""Performs orders, each in a client of its own, and prints what each brought by its name.

It opens a sweep as `wandb.sweep` does; without a request, it looks which server, key and mode are found.
"""

from __future__ import annotations

import json
import multiprocessing
import os
from dataclasses import asdict
from typing import Any

import wandb
from wandb.sdk.lib.wbauth import wbnetrc

from parallel_hpo.client.base import SweepRequest
from parallel_hpo.client.calls import open_sweep


def perform(order: dict[str, Any]) -> dict[str, Any]:
    os.chdir(order["folder"])
    os.environ.update(order["env"])
    if "request" in order:
        return asdict(open_sweep(SweepRequest(**order["request"])))
    settings = wandb.setup().settings
    key = wbnetrc.read_netrc_auth(host=settings.base_url) or settings.api_key
    return {"base_url": settings.base_url, "key": key, "mode": settings.mode}


if __name__ == "__main__":
    orders = json.loads(os.environ["ORDERS"])
    processes = multiprocessing.get_context("forkserver")
    processes.set_forkserver_preload(["wandb", "wandb.cli.cli"])
    with processes.Pool(1, maxtasksperchild=1) as pool:
        brought = pool.map(perform, orders.values(), chunksize=1)
    print(json.dumps(dict(zip(orders, brought, strict=True))))
