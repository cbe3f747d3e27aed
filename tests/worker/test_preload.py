from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Final

import pytest

from parallel_hpo.core.errors import ConfigError
from parallel_hpo.processes.fork_server import COMMAND
from parallel_hpo.processes.pool import ChildPool
from parallel_hpo.processes.reaper import MARK
from parallel_hpo.worker.preload import Imports, find_runtime
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


def test_imports_survive_a_round_trip_as_one_argument() -> None:
    imports = Imports(("wandb",), ("a.b", "c"), ("/x y", ""))
    assert Imports.from_argument(imports.to_argument()) == imports


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


def warning_after(preload: str, folder: Path, command: tuple[str, ...] = BARE) -> str:
    """Return the warning of a pool that preloads this module of the folder."""
    pool = ChildPool(
        environment={**os.environ, MARK: "test", "PYTHONPATH": str(ROOT)},
        fresh=False,
        preload=(preload,),
        sys_path=(str(folder), *sys.path),
        command=command,
    )
    pool.open()
    try:
        pool.wait_until_ready()
        return pool.warning
    finally:
        pool.close()


def test_a_module_that_only_imports_is_preloaded(tmp_path: Path) -> None:
    (tmp_path / "harmless.py").write_text("import json\n")
    assert warning_after("harmless", tmp_path, COMMAND) == ""


@pytest.mark.parametrize(
    ("source", "threads"), [(THREAD, "idler"), (NATIVE_THREAD, "1 of native code")], ids=["python", "native"]
)
def test_a_module_that_starts_threads_is_left_out(tmp_path: Path, source: str, threads: str) -> None:
    (tmp_path / "busy.py").write_text(source)
    warning = warning_after("busy", tmp_path)
    assert f"hpo.preload: importing busy has started threads ({threads})" in warning
    assert "workers start without it" in warning


def test_a_module_whose_thread_has_ended_is_preloaded(tmp_path: Path) -> None:
    source = "import threading, time\nthreading.Thread(target=time.sleep, args=[0.05]).start()\n"
    (tmp_path / "brief.py").write_text(source)
    assert warning_after("brief", tmp_path) == ""


def test_threads_of_openblas_are_ignored(tmp_path: Path) -> None:
    (tmp_path / "counting.py").write_text("import numpy, scipy.linalg\n")
    assert warning_after("counting", tmp_path) == ""


@pytest.mark.parametrize("source", ["import nonsuch_module\n", "raise ValueError('no good')\n"])
def test_a_module_that_can_not_be_imported_is_an_error_with_its_traceback(
    tmp_path: Path, source: str
) -> None:
    (tmp_path / "broken.py").write_text(source)
    with pytest.raises(ConfigError, match=r"hpo\.preload: importing broken failed:(.|\n)*broken\.py"):
        warning_after("broken", tmp_path)
