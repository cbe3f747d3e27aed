"""The modules of a worker's process before any user code."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

from parallel_hpo.core.errors import ConfigError
from parallel_hpo.processes.pool import ChildPool
from parallel_hpo.processes.reaper import MARK
from parallel_hpo.worker.preload import find_runtime
from tests.process_pool.pooling import BARE

ROOT: Final = Path(__file__).parents[2]
THREAD: Final = (
    "import threading\nthreading.Thread(target=threading.Event().wait, daemon=True, name='idler').start()\n"
)
NATIVE_THREAD: Final = """
import ctypes
libc = ctypes.CDLL(None)
libc.pthread_create(ctypes.byref(ctypes.c_void_p()), None, libc.pause, None)
"""


@pytest.mark.parametrize(
    ("files", "found"),
    [
        (["/dev/null", "pipe:[1]"], None),
        (["/dev/nvidiactl", "/dev/nvidia0"], None),
        (["/dev/nvidiactl", "/dev/nvidia-uvm"], "/dev/nvidia-uvm"),
        (["/dev/kfd", "/dev/dri/renderD128"], "/dev/kfd"),
    ],
)
def test_an_initialised_runtime_is_known_by_its_open_files(files: list[str], found: str | None) -> None:
    assert find_runtime(files) == found


def warning_after(preload: str, folder: Path) -> str:
    """Return the warning of a pool that preloads this module of the folder."""
    pool = ChildPool(
        environment={**os.environ, MARK: "test", "PYTHONPATH": str(ROOT)},
        fresh=False,
        preload=(preload,),
        sys_path=(str(folder), *sys.path),
        command=BARE,
    )
    pool.open()
    try:
        pool.wait_until_ready()
        return pool.warning
    finally:
        pool.close()


@pytest.mark.parametrize(
    ("source", "threads"),
    [
        ("import json\n", None),
        ("import threading, time\nthreading.Thread(target=time.sleep, args=[0.05]).start()\n", None),
        ("import numpy, scipy.linalg\n", None),  # OpenBLAS has threads of its own
        (THREAD, "idler"),
        (NATIVE_THREAD, "1 of native code"),
    ],
    ids=["harmless", "brief", "openblas", "python", "native"],
)
def test_a_module_is_preloaded_unless_it_leaves_threads(
    tmp_path: Path, source: str, threads: str | None
) -> None:
    (tmp_path / "loaded.py").write_text(source)
    warning = warning_after("loaded", tmp_path)
    if threads is None:
        assert warning == ""
    else:
        assert f"hpo.preload: importing loaded has started threads ({threads})" in warning
        assert "workers start without it" in warning


@pytest.mark.parametrize("source", ["import nonsuch_module\n", "raise ValueError('no good')\n"])
def test_a_module_that_can_not_be_imported_is_an_error_with_its_traceback(
    tmp_path: Path, source: str
) -> None:
    (tmp_path / "broken.py").write_text(source)
    with pytest.raises(ConfigError, match=r"hpo\.preload: importing broken failed:(.|\n)*broken\.py"):
        warning_after("broken", tmp_path)


PREPARE: Final = """
import json, os, sys
from parallel_hpo.core.child_spec import Preload
from parallel_hpo.worker.preload import preload
answer = preload(Preload(dict(os.environ), ours=("wandb", "parallel_hpo.worker.worker")))
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


def test_a_worker_is_prepared_once_and_imports_only_core(clean_env: dict[str, str]) -> None:
    environment = clean_env | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", PREPARE], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    modules = set(found["modules"])
    assert (found["error"], found["again"], found["watched"]) == ("", True, True)
    assert {"wandb.agents.pyagent", "requests"} <= modules
    assert not OURS_ONLY & modules
    rooms = {name.split(".")[1] for name in modules if name.startswith("parallel_hpo.")}
    assert rooms <= {"core", "worker"}
