"""Queries the W&B server, and deletes what was created there, by the public API of wandb's client.

It runs in a separate process, so that the client sees only the rows' environment, and prints JSON.

    python -m scripts.cloud_rows.asking who                     the entity of the key
    python -m scripts.cloud_rows.asking sweep ENTITY/PROJECT/ID its state and its runs
    python -m scripts.cloud_rows.asking remove ENTITY/PROJECT   delete the runs, and then the project
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Mapping
from typing import Any, Final

import requests
import wandb

LIMIT_S: Final = 60.0
DELETE_PROJECT: Final = "mutation D($id: String!) { deleteModel(input: {id: $id}) { success } }"
"""W&B calls projects models. wandb's client has this mutation for registries, and no public function."""


def who(_path: str) -> dict[str, Any]:
    """Return the default entity of runs."""
    return {"entity": os.environ.get("WANDB_ENTITY") or _api().default_entity}


def sweep(path: str) -> dict[str, Any]:
    """Return a sweep's state, and its runs' states by id."""
    found = _api().sweep(path)
    return {"state": found.state, "runs": {run.id: run.state for run in found.runs}}


def remove(path: str) -> dict[str, Any]:
    """Delete a project's runs with their artifacts, and the project; return what is deleted and left."""
    entity, _, name = path.partition("/")
    try:
        runs = list(_api().runs(path))
    except ValueError as error:
        if "Could not find project" not in str(error):
            raise
        return {"deleted": 0, "left": 0, "why_project_is_left": None, "url": None}
    for run in runs:
        run.delete(delete_artifacts=True)
    left = len(list(_api().runs(path)))
    project = _api().project(name, entity)
    answer = None if left else _delete_project(str(project.id))
    return {"deleted": len(runs) - left, "left": left, "why_project_is_left": answer, "url": project.url}


def _delete_project(project_id: str) -> str | None:
    """Delete an empty project; return why it couldn't be deleted, or None."""
    address = os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai").rstrip("/") + "/graphql"
    body: Any = {"query": DELETE_PROJECT, "variables": {"id": project_id}}
    key = os.environ["WANDB_API_KEY"]
    answer = requests.post(address, json=body, auth=("api", key), timeout=LIMIT_S).json()
    errors = answer.get("errors")
    return None if not errors else str(errors[0].get("message"))


def _api() -> Any:
    """Return a client without an earlier one's cache."""
    return wandb.Api(timeout=int(LIMIT_S))


QUESTIONS: Final[Mapping[str, Callable[[str], dict[str, Any]]]] = {
    "who": who,
    "sweep": sweep,
    "remove": remove,
}

if __name__ == "__main__":
    print(json.dumps(QUESTIONS[sys.argv[1]](sys.argv[2])))
