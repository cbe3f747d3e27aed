"""The display's thread, on streams of all kinds."""

from __future__ import annotations

import errno
import io
import os
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from typing import Final
from unittest.mock import Mock

import pytest

from parallel_hpo.cli.output import LateSignals
from parallel_hpo.core.notices import shows_memory
from parallel_hpo.display import Terminal, Verbosity
from tests.commands import Done
from tests.display.conftest import OPENED, began, output, over

DEADLINE_S: Final = 30.0
PROGRAM: Final = """
import sys
from parallel_hpo.display import Terminal
from tests.display.conftest import OPENED, output
sys.stderr.isatty = lambda: sys.argv[1] == "terminal"
with Terminal(sys.stderr) as terminal:
    terminal(OPENED)
    for _ in range(1000):
        terminal(output("\\x1b[31mred"))
print("alive")
"""


class Blocked(io.StringIO):
    """A terminal that accepts nothing until it is released, and notes that lines were dropped."""

    def __init__(self) -> None:
        super().__init__()
        self.free = threading.Event()
        self.has_dropped = threading.Event()

    def write(self, text: str, /) -> int:
        self.free.wait()
        if "not shown here" in text:
            self.has_dropped.set()
        return super().write(text)


@pytest.fixture
def blocked() -> Iterator[Blocked]:
    stream = Blocked()
    yield stream
    stream.free.set()


def run_program(stream: str, environment: Mapping[str, str], *, stderr: int) -> Done:
    """Show a sweep on the stderr of a new process, a terminal or a file."""
    command = [sys.executable, "-c", PROGRAM, stream]
    env = {**environment, "PYTHONPATH": os.pathsep.join(sys.path)}
    return subprocess.run(command, env=env, stdout=subprocess.PIPE, stderr=stderr, text=True)


def test_only_plain_lines_are_written_without_a_terminal() -> None:
    stream = io.StringIO()
    with Terminal(stream) as terminal:
        for notice in (OPENED, began(), output("epoch 1: \x1b[31mbad\x1b[0m [bold]"), over(value=0.5)):
            terminal(notice)
    assert stream.getvalue().splitlines()[3:] == [
        "w0 run r1 started  x=1",
        "[w0] epoch 1: bad [bold]",
        "w0 run r1 finished in 1.5 s  loss=0.5",
    ]


def test_a_quiet_display_shows_no_output() -> None:
    stream = io.StringIO()
    with Terminal(stream, verbosity=Verbosity.QUIET) as terminal:
        terminal(output("epoch 1"))
    assert stream.getvalue() == ""


@pytest.mark.parametrize(
    ("stream", "variables", "has_colours", "has_rows"),
    [
        ("terminal", {}, True, True),
        ("terminal", {"NO_COLOR": "1"}, False, True),
        ("file", {"FORCE_COLOR": "1"}, True, False),
    ],
)
def test_variables_control_colors_but_do_not_make_a_file_a_terminal(
    clean_env: dict[str, str], stream: str, variables: dict[str, str], has_colours: bool, has_rows: bool
) -> None:
    environment = clean_env | {"TERM": "xterm"} | variables
    shown = run_program(stream, environment, stderr=subprocess.PIPE).stderr
    assert "red" in shown
    assert ("[31m" in shown) is has_colours
    assert ("\x1b[2K" in shown) is has_rows


def test_a_closed_pipe_does_not_end_the_process() -> None:
    read_end, write_end = os.pipe()
    os.close(read_end)
    done = run_program("file", os.environ, stderr=write_end)
    os.close(write_end)
    assert (done.returncode, done.stdout) == (0, "alive\n")


def test_many_threads_may_send_notices_at_once() -> None:
    stream = io.StringIO()

    def tell() -> None:
        for _ in range(50):
            terminal(output("whole line"))

    with Terminal(stream) as terminal:
        threads = [threading.Thread(target=tell) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert stream.getvalue() == "[w0] whole line\n" * 200


def test_a_blocked_terminal_does_not_block_senders_and_dropped_lines_are_counted(blocked: Blocked) -> None:
    with Terminal(blocked) as terminal:
        for number in range(10_005):  # the test would hang here if a call waited for the stream
            terminal(output(f"line {number}"))
        blocked.free.set()
        assert blocked.has_dropped.wait(DEADLINE_S)
    assert "line 0\n" in blocked.getvalue()
    assert " lines of output not shown here; the workers' logs have them" in blocked.getvalue()


def test_closing_waits_for_a_blocked_terminal_only_for_a_limited_time(blocked: Blocked) -> None:
    with Terminal(blocked) as terminal:  # or the test would hang here
        terminal(OPENED)
    assert blocked.getvalue() == ""


def test_a_closed_or_missing_stream_is_not_an_error() -> None:
    closed = io.StringIO()
    closed.close()
    for stream in (closed, None):
        with Terminal(stream) as terminal:
            terminal(OPENED)


@pytest.mark.parametrize(
    ("error", "is_final"),
    [
        *((BrokenPipeError(), True), (OSError(errno.ENOSPC, "full"), True), (BlockingIOError(), False)),
        (ValueError("I/O operation on closed file"), True),
    ],
)
def test_only_a_busy_stream_is_written_again_after_an_error(error: Exception, is_final: bool) -> None:
    stream, write = io.StringIO(), Mock(side_effect=error)
    stream.write = write  # type: ignore[method-assign]
    with Terminal(stream) as terminal:
        terminal(OPENED)
        terminal(began())
    assert (write.call_count == 1) is is_final


@pytest.mark.parametrize(
    ("is_terminal", "verbosity", "has_rows"),
    [(True, Verbosity.NORMAL, True), (False, Verbosity.NORMAL, False), (True, Verbosity.QUIET, False)],
)
def test_memory_is_measured_only_for_live_rows(
    monkeypatch: pytest.MonkeyPatch, is_terminal: bool, verbosity: Verbosity, has_rows: bool
) -> None:
    monkeypatch.setenv("TERM", "xterm")
    stream = io.StringIO()
    stream.isatty = lambda: is_terminal  # type: ignore[method-assign]
    with Terminal(stream, verbosity=verbosity) as terminal:
        watched = LateSignals().watching(terminal)
        assert (shows_memory(terminal), shows_memory(watched)) == (has_rows, has_rows)
    assert shows_memory(lambda notice: None)
