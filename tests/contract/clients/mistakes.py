"""What a wrong name, configuration or key gets."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import wandb

api: Any = wandb.Api()


def answer(call: Callable[[], object]) -> str:
    try:
        call()
    except Exception as error:  # noqa: BLE001  # whatever kind of error it is, its words count
        return str(error)
    return ""


answers = {
    "no run": answer(lambda: api.run("local/p/nobody")),
    "no sweep": answer(lambda: api.sweep("local/p/nobody")),
    "agent": answer(lambda: wandb.agent("local/p/nobody", lambda: None, count=1)),
    "config": answer(lambda: wandb.sweep({"method": "bayes", "parameters": {"x": {"min": 0, "max": 1}}})),
    "key": answer(lambda: wandb.login(key="b" * 40, verify=True, relogin=True)),
}
print(json.dumps(answers))
