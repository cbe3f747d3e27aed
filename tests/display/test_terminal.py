from __future__ import annotations

import errno
import io
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Literal

import pytest
from rich.console import Console
from rich.text import Text

from parallel_hpo.cli.output import LateSignals
from parallel_hpo.core.notices import Message, OutputLine, RunBegan, RunOver, SweepOpened, shows_memory
from parallel_hpo.core.types import Outcome, RunId, Slot, SweepId, SweepPath
from parallel_hpo.display import Terminal, Verbosity
from parallel_hpo.display.screen import Screen

PATH = SweepPath("local", "digits", SweepId("s1"))
OPENED = SweepOpened(PATH, "http://x/s1", "local", 2, 1, (2,), "/logs/s1", "loss", "minimize")
BEGAN = RunBegan(Slot(0), RunId("ab12"), 1, {"lr": 0.1})
OVER = RunOver(Slot(0), RunId("ab12"), 1, Outcome.FINISHED, "", 0.5, 3.0)


def line(text: str) -> OutputLine:
    return OutputLine(Slot(0), text)


class Blocked(io.StringIO):
    """A terminal that accepts nothing until it is released."""

    def __init__(self) -> None:
        super().__init__()
        self.free = threading.Event()

    def write(self, text: str, /) -> int:
        self.free.wait()
        return super().write(text)


class Broken(io.StringIO):
    """A stream that can't be written."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self._error = error
        self.attempts = 0

    def write(self, text: str, /) -> int:
        self.attempts += 1
        raise self._error


def screen_on(*, terminal: bool, verbosity: Verbosity = Verbosity.NORMAL) -> tuple[Screen, io.StringIO]:
    stream = io.StringIO()
    colours: Literal["standard"] | None = "standard" if terminal else None
    console = Console(file=stream, force_terminal=terminal, width=40, color_system=colours, _environ={})
    screen = Screen(console, live=terminal, verbosity=verbosity, varied=None, clock=lambda: 0.0)
    return screen, stream


def test_there_are_only_plain_lines_without_a_terminal() -> None:
    stream = io.StringIO()
    with Terminal(stream) as terminal:
        for notice in (OPENED, BEGAN, line("epoch 1: \x1b[31mbad\x1b[0m [bold]"), OVER):
            terminal(notice)
    assert stream.getvalue().splitlines()[3:] == [
        "w0 run ab12 started  lr=0.1",
        "[w0] epoch 1: bad [bold]",
        "w0 run ab12 finished in 3.0 s  loss=0.5",
    ]


def test_forced_colours_do_not_make_a_file_a_terminal(clean_env: dict[str, str]) -> None:
    program = """if True:
        import sys
        from parallel_hpo.display import Terminal
        from parallel_hpo.core.notices import *
        from parallel_hpo.core.types import *
        with Terminal(sys.stderr) as terminal:
            path = SweepPath("e", "p", SweepId("s"))
            terminal(SweepOpened(path, "", "local", 2, 1, (2,), "", "loss", "minimize"))
    """
    environment = clean_env | {"FORCE_COLOR": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True)
    assert "2 runs on 1 worker" in done.stderr
    assert "\x1b[2K" not in done.stderr


def test_a_quiet_display_shows_no_output() -> None:
    stream = io.StringIO()
    with Terminal(stream, verbosity=Verbosity.QUIET) as terminal:
        terminal(line("epoch 1"))
    assert stream.getvalue() == ""


def test_a_long_line_is_not_wrapped() -> None:
    screen, stream = screen_on(terminal=False)
    screen.show(line("x" * 500))
    assert stream.getvalue() == f"[w0] {'x' * 500}\n"


def test_on_a_terminal_the_rows_fit_its_width() -> None:
    screen, stream = screen_on(terminal=True)
    for notice in (OPENED, BEGAN, OVER, BEGAN):
        screen.show(notice)
    screen.refresh()
    head, row = Text.from_ansi(stream.getvalue()).plain.splitlines()[-2:]
    assert (head[-1], len(head), row) == ("…", 39, "w0 ab12 0.0 s")


def test_the_sweeps_address_is_a_link_on_a_terminal() -> None:
    screen, stream = screen_on(terminal=True)
    screen.show(OPENED)
    screen.refresh()
    assert re.search(r"\x1b]8;[^;]*;http://x/s1\x1b\\http://x/s1\x1b]8;;\x1b\\", stream.getvalue())


def test_the_address_is_plain_without_a_terminal_even_if_colours_are_forced() -> None:
    stream = io.StringIO()
    console = Console(file=stream, force_terminal=True, color_system="standard", _environ={})
    screen = Screen(console, live=False, verbosity=Verbosity.NORMAL, varied=None, clock=lambda: 0.0)
    screen.show(OPENED)
    assert "http://x/s1" in stream.getvalue()
    assert "\x1b]8;" not in stream.getvalue()


def test_colours_of_workers_are_kept_on_a_terminal() -> None:
    screen, stream = screen_on(terminal=True)
    screen.show(line("\x1b[31mred\x1b[0m"))
    screen.refresh()
    assert "\x1b[31mred\x1b[0m" in stream.getvalue()


def test_a_worker_cannot_move_the_cursor() -> None:
    screen, stream = screen_on(terminal=True)
    screen.show(line("50%\r100%\x1b[2J\x1b[10A"))
    screen.refresh()
    assert "100%" in stream.getvalue()
    assert "\x1b[2J" not in stream.getvalue()
    assert "\x1b[10A" not in stream.getvalue()


def test_no_color_disables_colours(clean_env: dict[str, str]) -> None:
    program = """if True:
        import io, sys
        from parallel_hpo.display import Terminal
        from parallel_hpo.core.notices import *
        from parallel_hpo.core.types import *
        class Tty(io.StringIO):
            def isatty(self): return True
        stream = Tty()
        with Terminal(stream) as terminal:
            terminal(OutputLine(Slot(0), "\\x1b[31mred"))
        print(repr(stream.getvalue()))
    """
    environment = clean_env | {"TERM": "xterm", "PYTHONPATH": os.pathsep.join(sys.path)}
    coloured = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True
    )
    plain = subprocess.run(
        [sys.executable, "-c", program], env=environment | {"NO_COLOR": "1"}, capture_output=True, text=True
    )
    assert "[31m" in coloured.stdout
    assert "[31m" not in plain.stdout
    assert "red" in plain.stdout


def tell(terminal: Terminal) -> None:
    for _ in range(50):
        terminal(line("whole line"))


def test_many_threads_may_send_notices_at_once() -> None:
    stream = io.StringIO()
    with Terminal(stream) as terminal:
        threads = [threading.Thread(target=tell, args=(terminal,)) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert stream.getvalue() == "[w0] whole line\n" * 200


def test_a_blocked_terminal_delays_nobody() -> None:
    stream = Blocked()
    with Terminal(stream) as terminal:
        for number in range(10_500):  # none of them waits for the stream, or the test would hang here
            terminal(line(f"line {number}"))
        stream.free.set()
    assert "line 0\n" in stream.getvalue()


def test_the_end_waits_for_a_blocked_terminal_only_for_a_time() -> None:
    stream = Blocked()
    began_s = time.monotonic()
    try:
        with Terminal(stream) as terminal:
            terminal(OPENED)
        assert time.monotonic() - began_s < 10
    finally:
        stream.free.set()


def test_dropped_lines_are_counted() -> None:
    stream = Blocked()
    with Terminal(stream) as terminal:
        for _ in range(10_005):
            terminal(line("x"))
        stream.free.set()
        wait_until(lambda: "not shown here" in stream.getvalue())
    assert " lines of output not shown here; the workers' logs have them" in stream.getvalue()


def test_a_closed_stream_is_no_error() -> None:
    stream = io.StringIO()
    stream.close()
    with Terminal(stream) as terminal:
        terminal(OPENED)


def test_no_stream_is_no_error() -> None:
    with Terminal(None) as terminal:
        terminal(OPENED)


@pytest.mark.parametrize(
    "error", [BrokenPipeError(), OSError(errno.ENOSPC, "full"), ValueError("I/O operation on closed file")]
)
def test_a_broken_stream_is_not_written_again(error: Exception) -> None:
    broken = Broken(error)
    with Terminal(broken) as terminal:
        terminal(OPENED)
        terminal(BEGAN)
    assert broken.attempts == 1


def test_a_busy_stream_is_written_again() -> None:
    busy = Broken(BlockingIOError())
    with Terminal(busy) as terminal:
        terminal(OPENED)
        terminal(BEGAN)
    assert busy.attempts > 1


def test_a_closed_pipe_ends_no_process() -> None:
    program = """if True:
        import sys
        from parallel_hpo.display import Terminal
        from parallel_hpo.core.notices import *
        from parallel_hpo.core.types import *
        with Terminal(sys.stderr) as terminal:
            for _ in range(1000):
                terminal(OutputLine(Slot(0), "x"))
        print("alive")
    """
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    read_end, write_end = os.pipe()
    os.close(read_end)
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, stdout=subprocess.PIPE, stderr=write_end, text=True
    )
    os.close(write_end)
    assert (done.returncode, done.stdout) == (0, "alive\n")


def wait_until(true: Callable[[], bool], deadline_s: float = 10.0) -> None:
    end_s = time.monotonic() + deadline_s
    while not true():
        assert time.monotonic() < end_s
        threading.Event().wait(0.01)


@pytest.mark.parametrize(
    ("is_terminal", "verbosity"),
    [(True, Verbosity.NORMAL), (False, Verbosity.NORMAL), (True, Verbosity.QUIET)],
)
def test_memory_is_measured_only_for_live_rows(
    monkeypatch: pytest.MonkeyPatch, is_terminal: bool, verbosity: Verbosity
) -> None:
    monkeypatch.setenv("TERM", "xterm")
    stream = io.StringIO()
    stream.isatty = lambda: is_terminal  # type: ignore[method-assign]
    with Terminal(stream, verbosity=verbosity) as terminal:
        watched = LateSignals().watching(terminal)
        has_rows = is_terminal and verbosity is Verbosity.NORMAL
        assert (shows_memory(terminal), shows_memory(watched)) == (has_rows, has_rows)
    assert shows_memory(lambda notice: None)


HOSTILE = "\x1b]0;owned\x07\x9b2J[bold]x[/bold]"
SEEN = r"\x1b]0;owned\x07\x9b2J[bold]x[/bold]"


@pytest.mark.parametrize("terminal", [True, False])
def test_control_characters_of_users_and_runs_are_visible(terminal: bool) -> None:
    screen, stream = screen_on(terminal=terminal)
    for notice in (
        replace(OPENED, folder=HOSTILE),
        replace(BEGAN, parameters={"lr": HOSTILE}),
        line(f"\x1b[31mred\x1b[0m {HOSTILE}\x1b[K"),
        replace(OVER, outcome=Outcome.FAILED, reason=HOSTILE),
        Message(HOSTILE, warning=True),
    ):
        screen.show(notice)
    screen.refresh()
    shown = stream.getvalue()
    assert shown.count(SEEN) == 5
    assert "\x1b]0" not in shown
    assert not {"\x07", "\x9b"} & set(shown)
    assert ("\x1b[31mred" in shown) is terminal
