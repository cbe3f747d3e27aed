"""Imports of a worker's process before any user code, and the state restored after each run."""

from __future__ import annotations

import io
import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Final

import pytest

from parallel_hpo.core.errors import ConfigError
from parallel_hpo.worker.preload import find_runtime
from parallel_hpo.worker.restore import health_problem, reopen_stream, restored
from tests.commands import start_python
from tests.process_pool.pooling import opened_pool

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
def test_an_initialised_runtime_is_detected_by_its_open_files(files: list[str], found: str | None) -> None:
    assert find_runtime(files) == found


def warning_after(preload: str, folder: Path) -> str:
    """Return the warning of a pool that preloads this module of the folder."""
    with opened_pool(os.environ, preload=(preload,), sys_path=(str(folder), *sys.path)) as pool:
        pool.wait_until_ready()
        return pool.warning


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
def test_a_module_that_cannot_be_imported_raises_an_error_with_its_traceback(
    tmp_path: Path, source: str
) -> None:
    (tmp_path / "broken.py").write_text(source)
    with pytest.raises(ConfigError, match=r"hpo\.preload: importing broken failed:(.|\n)*broken\.py"):
        warning_after("broken", tmp_path)


PREPARE: Final = """
import json, sys
from parallel_hpo.core.child_spec import Preload
from parallel_hpo.worker.preload import preload
answer = preload(Preload(ours=("wandb", "parallel_hpo.worker.worker")))
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


pytestmark = pytest.mark.skipif(
    threading.current_thread() is not threading.main_thread(), reason="signals belong to the main thread"
)


def blocked() -> set[signal.Signals]:
    return {signal.Signals(number) for number in signal.pthread_sigmask(signal.SIG_BLOCK, ())}


def test_signals_arguments_folders_and_limits_are_restored(tmp_path: Path) -> None:
    def state() -> list[object]:
        return [
            {number: signal.getsignal(number) for number in signal.valid_signals()},
            list(sys.argv),
            signal.SIGINT in blocked(),
            signal.getitimer(signal.ITIMER_REAL),
            Path.cwd(),
            tempfile.tempdir,
            resource.getrlimit(resource.RLIMIT_NOFILE),
        ]

    signal.setitimer(signal.ITIMER_REAL, 0.0)  # pytest's own
    before = state()
    with restored() as changed:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGALRM):
            signal.signal(number, signal.SIG_IGN)
        sys.argv.append("--changed")
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        signal.setitimer(signal.ITIMER_REAL, 100.0)
        os.chdir(tmp_path)
        tempfile.tempdir = "/nonexistent"
        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (64, hard))
        assert all(now != then for now, then in zip(state(), before, strict=True))
    assert state() == before
    assert changed == []


def test_closed_and_replaced_streams_are_restored() -> None:
    replacement = io.StringIO()
    with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
        with restored():
            sys.stdout.close()
            sys.stderr = replacement
        assert not sys.stdout.closed
        assert sys.stderr is not replacement


def test_a_closed_stream_is_reopened_as_the_same_object(tmp_path: Path) -> None:
    stream = (tmp_path / "old").open("w")
    stream.close()
    with (tmp_path / "new").open("w") as file:
        assert reopen_stream(stream, file.fileno()) is stream
        print("at once", file=stream)
        assert (tmp_path / "new").read_text() == "at once\n"


def test_a_deleted_working_directory_is_replaced_by_the_old_one_or_another(tmp_path: Path) -> None:
    before, doomed = Path.cwd(), tmp_path / "doomed"
    for leaves_first in (True, False):
        doomed.mkdir()
        with restored():
            os.chdir(doomed)
            if leaves_first:
                doomed.rmdir()
                continue
            with restored():
                doomed.rmdir()
            assert Path.cwd().is_dir()
        assert Path.cwd() == before


@pytest.mark.parametrize("name", ["excepthook", "exit"])
def test_the_exception_hook_and_the_exit_function_are_restored(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = getattr(sys, name)
    monkeypatch.setattr(sys, name, before)
    with restored():
        setattr(sys, name, lambda *arguments: before(*arguments))
    with restored():
        assert getattr(sys, name) is before


def test_the_environment_is_restored_except_for_the_clients_own_variables(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("CHANGED", "before")
    monkeypatch.setenv("TAKEN", "before")
    before = dict(os.environ)
    with restored() as changed:
        os.environ |= {"CHANGED": "after", "ADDED": "after", "WANDB_SERVICE": "1-2-3"}
        del os.environ["TAKEN"]
    assert os.environ.pop("WANDB_SERVICE") == "1-2-3"
    assert dict(os.environ) == before
    assert changed == []


def test_a_broken_module_is_named_with_its_error() -> None:
    assert health_problem() is None
    probes: dict[str, Callable[[], object]] = {"json": dict, "socket": lambda: int("x")}
    assert (
        health_problem(probes)
        == "its last run left socket broken: ValueError: invalid literal for int() with base 10: 'x'"
    )


PARENT: Final = """
import os
import sys
import tempfile
from parallel_hpo.worker.cleanup import drop_inherited_exit_functions

made = tempfile.TemporaryDirectory()
child = os.fork()
if child == 0:
    drop_inherited_exit_functions()
    own = tempfile.TemporaryDirectory()
    print(own.name, flush=True)
    {end}
    sys.exit()
os.waitpid(child, 0)
print(made.name, os.path.isdir(made.name))
"""


@pytest.mark.parametrize("end", ["del made  # as where a module is loaded anew", ""])
def test_a_parents_temporary_folder_outlives_its_child(tmp_path: Path, end: str) -> None:
    parent = start_python("-c", PARENT.format(end=end), folder=tmp_path, environment=dict(os.environ))
    stdout, stderr = parent.communicate(timeout=30)
    own, made, stayed = stdout.split()
    assert stayed == "True", stderr
    assert not Path(own).exists()
    assert not Path(made).exists()
