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


def test_signal_handlers_are_put_back() -> None:
    before = {number: signal.getsignal(number) for number in signal.valid_signals()}
    with restored():
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGALRM):
            signal.signal(number, signal.SIG_IGN)
    assert {number: signal.getsignal(number) for number in signal.valid_signals()} == before


def test_arguments_are_put_back() -> None:
    before = list(sys.argv)
    with restored():
        sys.argv.append("--changed")
    assert sys.argv == before


def test_a_signal_that_was_blocked_comes_through_again() -> None:
    with restored():
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        assert signal.SIGINT in blocked()
    assert signal.SIGINT not in blocked()


def test_an_alarm_that_was_set_never_rings() -> None:
    with restored():
        signal.setitimer(signal.ITIMER_REAL, 100.0)
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)


def test_streams_that_were_closed_or_replaced_are_there_again() -> None:
    replacement = io.StringIO()
    with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
        with restored():
            sys.stdout.close()
            sys.stderr = replacement
        assert not sys.stdout.closed
        assert sys.stderr is not replacement


def test_a_stream_that_was_closed_is_open_again_as_the_object_that_was_wrapped(
    tmp_path: Path,
) -> None:
    stream = (tmp_path / "old").open("w")
    stream.close()
    with (tmp_path / "new").open("w") as file:
        assert reopen_stream(stream, file.fileno()) is stream
        print("at once", file=stream)
        assert (tmp_path / "new").read_text() == "at once\n"


def test_the_working_directory_is_the_old_one_again(tmp_path: Path) -> None:
    before = Path.cwd()
    with restored():
        os.chdir(tmp_path)
    assert Path.cwd() == before


def test_the_working_directory_is_the_old_one_again_after_the_new_one_is_gone(tmp_path: Path) -> None:
    before = Path.cwd()
    doomed = tmp_path / "doomed"
    doomed.mkdir()
    with restored():
        os.chdir(doomed)
        doomed.rmdir()
    assert Path.cwd() == before


def test_where_the_old_working_directory_is_gone_too_there_is_another(tmp_path: Path) -> None:
    doomed = tmp_path / "doomed"
    doomed.mkdir()
    with restored():
        os.chdir(doomed)
        with restored():
            doomed.rmdir()
        assert Path.cwd().is_dir()


def test_a_chained_hook_for_exceptions_is_the_interpreters_own_in_the_next_run() -> None:
    before = sys.excepthook
    try:
        with restored():
            sys.excepthook = lambda *arguments: before(*arguments)
        with restored():
            assert sys.excepthook is before
    finally:
        sys.excepthook = before


def test_a_wrapped_exit_is_the_interpreters_own_in_the_next_run() -> None:
    before = sys.exit
    try:
        with restored():
            sys.exit = lambda code=None: before(code)
        with restored():
            assert sys.exit is before
    finally:
        sys.exit = before


def test_the_environment_is_put_back_but_for_what_is_the_clients_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CHANGED", "before")
    monkeypatch.setenv("TAKEN", "before")
    before = dict(os.environ)
    with restored() as changed:
        os.environ |= {"CHANGED": "after", "ADDED": "after", "WANDB_SERVICE": "1-2-3"}
        del os.environ["TAKEN"]
    assert os.environ.pop("WANDB_SERVICE") == "1-2-3"
    assert dict(os.environ) == before
    assert changed == []


def test_the_temporary_folder_and_the_limits_are_put_back() -> None:
    folder, limit = tempfile.tempdir, resource.getrlimit(resource.RLIMIT_NOFILE)
    with restored() as changed:
        tempfile.tempdir = "/nonexistent"
        resource.setrlimit(resource.RLIMIT_NOFILE, (64, limit[1]))
    assert (tempfile.tempdir, resource.getrlimit(resource.RLIMIT_NOFILE)) == (folder, limit)
    assert changed == []


def test_a_process_that_nobody_has_touched_is_well() -> None:
    assert health_problem() is None


def test_what_a_run_has_patched_is_named_with_its_error() -> None:
    probes: dict[str, Callable[[], object]] = {"json": dict, "socket": refuse}
    assert health_problem(probes) == "its last run left socket broken: RuntimeError: patched by main"
