from __future__ import annotations

import io
import os
import resource
import signal
import sys
import tempfile
import threading
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import pytest

from parallel_hpo.worker.restore import health_problem, reopen_stream, restored
from tests.processes.usages import refuse

pytestmark = pytest.mark.skipif(
    threading.current_thread() is not threading.main_thread(), reason="signals belong to the main thread"
)


def blocked() -> set[signal.Signals]:
    return {signal.Signals(number) for number in signal.pthread_sigmask(signal.SIG_BLOCK, ())}


def test_signal_handlers_are_restored() -> None:
    before = {number: signal.getsignal(number) for number in signal.valid_signals()}
    with restored():
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGALRM):
            signal.signal(number, signal.SIG_IGN)
    assert {number: signal.getsignal(number) for number in signal.valid_signals()} == before


def test_arguments_are_restored() -> None:
    before = list(sys.argv)
    with restored():
        sys.argv.append("--changed")
    assert sys.argv == before


def test_a_blocked_signal_is_unblocked() -> None:
    with restored():
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        assert signal.SIGINT in blocked()
    assert signal.SIGINT not in blocked()


def test_an_alarm_is_cancelled() -> None:
    with restored():
        signal.setitimer(signal.ITIMER_REAL, 100.0)
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)


def test_closed_and_replaced_streams_are_restored() -> None:
    replacement = io.StringIO()
    with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
        with restored():
            sys.stdout.close()
            sys.stderr = replacement
        assert not sys.stdout.closed
        assert sys.stderr is not replacement


def test_a_closed_stream_is_reopened_as_the_same_object(
    tmp_path: Path,
) -> None:
    stream = (tmp_path / "old").open("w")
    stream.close()
    with (tmp_path / "new").open("w") as file:
        assert reopen_stream(stream, file.fileno()) is stream
        print("at once", file=stream)
        assert (tmp_path / "new").read_text() == "at once\n"


def test_the_working_directory_is_restored(tmp_path: Path) -> None:
    before = Path.cwd()
    with restored():
        os.chdir(tmp_path)
    assert Path.cwd() == before


def test_the_working_directory_is_restored_if_the_new_one_was_deleted(tmp_path: Path) -> None:
    before = Path.cwd()
    doomed = tmp_path / "doomed"
    doomed.mkdir()
    with restored():
        os.chdir(doomed)
        doomed.rmdir()
    assert Path.cwd() == before


def test_a_run_gets_another_working_directory_if_the_old_one_was_deleted(tmp_path: Path) -> None:
    doomed = tmp_path / "doomed"
    doomed.mkdir()
    with restored():
        os.chdir(doomed)
        with restored():
            doomed.rmdir()
        assert Path.cwd().is_dir()


def test_the_exception_hook_is_restored() -> None:
    before = sys.excepthook
    try:
        with restored():
            sys.excepthook = lambda *arguments: before(*arguments)
        with restored():
            assert sys.excepthook is before
    finally:
        sys.excepthook = before


def test_the_exit_function_is_restored() -> None:
    before = sys.exit
    try:
        with restored():
            sys.exit = lambda code=None: before(code)
        with restored():
            assert sys.exit is before
    finally:
        sys.exit = before


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


def test_the_temporary_folder_and_the_limits_are_restored() -> None:
    folder, limit = tempfile.tempdir, resource.getrlimit(resource.RLIMIT_NOFILE)
    with restored() as changed:
        tempfile.tempdir = "/nonexistent"
        resource.setrlimit(resource.RLIMIT_NOFILE, (64, limit[1]))
    assert (tempfile.tempdir, resource.getrlimit(resource.RLIMIT_NOFILE)) == (folder, limit)
    assert changed == []


def test_an_unchanged_process_is_healthy() -> None:
    assert health_problem() is None


def test_a_broken_module_is_named_with_its_error() -> None:
    probes: dict[str, Callable[[], object]] = {"json": dict, "socket": refuse}
    assert health_problem(probes) == "its last run left socket broken: RuntimeError: patched by main"
