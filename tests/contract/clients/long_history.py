"""A history of more rows than any page holds, and edits of a run afterwards."""

from __future__ import annotations

import json
from typing import Any

import wandb

ROWS = 2503

with wandb.init(project="p", id="long", tags=["first"], group="g") as run:
    for value in range(ROWS):
        run.log({"a": value} | ({"odd": value} if value % 2 else {}))
api: Any = wandb.Api()
stored = api.run("local/p/long")
answers: dict[str, Any] = {
    "all": [row["a"] for row in stored.scan_history()] == list(range(ROWS)),
    "keys": [row["a"] for row in stored.scan_history(keys=["a"])] == list(range(ROWS)),
    "some": [row["odd"] for row in stored.scan_history(keys=["odd"], page_size=300)]
    == list(range(1, ROWS, 2)),
    "sampled": len(stored.history(samples=50, pandas=False)),
}
stored.config["k"] = 3
stored.tags.append("second")
stored.summary["extra"] = 1.5
stored.update()
edited: Any = wandb.Api().run("local/p/long")
answers |= {
    "config": edited.config,
    "tags": edited.tags,
    "extra": edited.summary["extra"],
    "state": edited.state,
    "found": [run.id for run in api.runs("local/p", filters={"tags": "second", "config.k": 3})],
}
print(json.dumps(answers))
