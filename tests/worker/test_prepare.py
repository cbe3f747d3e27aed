"""The modules of a worker's process before any user code."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).parents[2]
PREPARE: Final = """
import json, sys
from parallel_hpo.worker.preload import Imports, preload
answer = preload(Imports(ours=("wandb", "parallel_hpo.worker.worker")))
import wandb
from parallel_hpo.worker.worker import prepare
print(json.dumps({
    "error": answer.error,
    "modules": sorted(sys.modules),
    "again": prepare() is prepare(),
    "watched": hasattr(wandb.init, "__wrapped__") and not hasattr(wandb.init.__wrapped__, "__wrapped__"),
}))
"""
OURS_ONLY: Final = {"typer", "rich", "sqlalchemy", "starlette", "optuna", "alembic", "graphql", "joblib"}
"""Libraries of other packages that wandb does not import itself."""


def prepared(env: dict[str, str]) -> Any:
    done = subprocess.run(
        [sys.executable, "-c", PREPARE],
        env=env | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_a_worker_is_prepared_once_and_imports_only_core(
    clean_env: dict[str, str],
) -> None:
    found = prepared(clean_env)
    modules = set(found["modules"])
    assert found["error"] == ""
    assert found["again"] and found["watched"]
    assert {"wandb.agents.pyagent", "requests"} <= modules
    assert not OURS_ONLY & modules
    rooms = {name.split(".")[1] for name in modules if name.startswith("parallel_hpo.")}
    assert rooms <= {"core", "worker"}
