"""A run that logs during an outage of its server; it waits for a line on stdin in between."""

from __future__ import annotations

import json
from typing import Any

import wandb

with wandb.init(project="p", id="outage") as run:
    run.log({"a": 0})
    print("logged", flush=True)
    input()
    for value in range(1, 100):
        run.log({"a": value})
api: Any = wandb.Api()
stored = api.run("local/p/outage")
print(json.dumps({"state": stored.state, "rows": [row["a"] for row in stored.scan_history()]}))
