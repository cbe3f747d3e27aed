"""A run that is resumed in each of wandb's ways."""

from __future__ import annotations

import json
from typing import Any, Literal

import wandb


def refusal(run_id: str, how: Literal["never", "must"]) -> str:
    try:
        wandb.init(project="p", id=run_id, resume=how).finish()
    except wandb.Error as error:
        return str(error)
    return ""


with wandb.init(project="p", id="again", resume="allow") as run:
    run.log({"a": 1})
    run.log({"a": 2})
with wandb.init(project="p", id="again", resume="must") as run:
    resumed = run.resumed
    run.log({"a": 3})
api: Any = wandb.Api()
stored = api.run("local/p/again")
answers = {
    "resumed": resumed,
    "rows": [(row["_step"], row["a"]) for row in stored.scan_history()],
    "state": stored.state,
    "never": refusal("again", "never"),
    "must": refusal("nobody", "must"),
}
print(json.dumps(answers))
