"""What a person sees of a sweep on a real terminal: a row for each worker, below the lines that go on."""

from __future__ import annotations

import json
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import psutil
import pytest

from tests.commanding import CommandLine
from tests.conftest import QUIET
from tests.pseudo_terminal import DEADLINE_S, PseudoTerminal
from tests.ready import READY

MAINS: Final = Path(__file__).with_name("stepping.py")
PARALLEL_HPO: Final = str(Path(sys.executable).with_name("parallel-hpo"))
ROW: Final = re.compile(r"^w(\d+) +([a-z0-9]{8}) .*?(\d+)/400 .*loss=")
"""A row of a worker with a run that has logged something."""


@contextmanager
def shown(tmp_path: Path, env: dict[str, str], commands: CommandLine) -> Iterator[PseudoTerminal]:
    """A sweep of two workers, on a terminal; its runs end once there is a file `go`."""
    command = (sys.executable, PARALLEL_HPO, *prepare(tmp_path))
    env = env | QUIET | {"GO": str(tmp_path / "go")}
    with PseudoTerminal(command, commands, env=env, folder=tmp_path) as terminal:
        yield terminal


def prepare(folder: Path) -> list[str]:
    parameters = {"epochs": {"value": 400}, "x": {"min": 0.0, "max": 1.0}}
    sweep = {"method": "random", "metric": {"name": "loss"}, "parameters": parameters}
    keys: dict[str, Any] = {"backend": "local", "directory": str(folder / "sweeps"), "workers": 2, "count": 2}
    (folder / "config.json").write_text(json.dumps({"hpo": keys | {"sweep_configuration": sweep}}))
    return ["run", "config.json", f"{MAINS}:stepping"]


def rows_of(lines: list[str]) -> dict[int, int]:
    """Return how many epochs each worker's row says are done; nothing where one has two rows."""
    found = [match for line in lines if (match := ROW.match(line))]
    if len({match[1] for match in found}) < len(found):
        return {}
    return {int(match[1]): int(match[3]) for match in found}


def is_whole(lines: list[str]) -> bool:
    """Whether there is a row for each worker, and the progress above them, at the end."""
    return len(rows_of(lines[-2:])) == 2 and "0/2 runs · 2 running" in lines[-3]


def test_each_worker_has_a_row_that_goes_on_in_its_place(
    tmp_path: Path, clean_env: dict[str, str], commands: CommandLine
) -> None:
    with shown(tmp_path, clean_env, commands) as terminal:
        lines = terminal.wait_for(lambda lines: is_whole(lines) and "MB" in lines[-1], "rows with memory")
        assert [line.split()[0] for line in lines[-2:]] == ["w0", "w1"]
        assert re.search(r"\d+%  loss=\S+ +[\d.]+ s +\d+ MB$", lines[-1])
        before = rows_of(lines)
        terminal.wait_for(
            lambda lines: all(done > before[slot] + 10 for slot, done in rows_of(lines).items()), "progress"
        )
        (tmp_path / "go").touch()
        assert terminal.finish() == 0
        lines = terminal.rows()
        assert not rows_of(lines)
        assert any(line.startswith("2 runs in ") for line in lines)
        assert not terminal.hides_cursor
        url = next(line for line in lines if line.startswith("http"))  # it may go on in the next row
        link = re.search(rb"\x1b\]8;[^;]*;(http\S+?)\x1b\\", terminal.raw)
        assert link is not None
        assert link[1].decode().startswith(url)


def test_the_rows_survive_a_resize_to_forty_columns_and_back(
    tmp_path: Path, clean_env: dict[str, str], commands: CommandLine
) -> None:
    with shown(tmp_path, clean_env, commands) as terminal:
        terminal.wait_for(is_whole, "rows")
        for columns, lines in ((40, 30), (40, 14), (100, 40), (60, 20)):
            terminal.resize(columns, lines)
            before = len(terminal.raw)
            terminal.wait_for(lambda _: b"\x1b[2J" in terminal.raw[before:], "drawn anew")  # noqa: B023
            shown_lines = terminal.wait_for(is_whole, f"rows at {columns} columns")
            assert all(len(line) <= columns for line in shown_lines)
            assert any(re.match(r"\[w\d\] epoch \d+ of ", line) for line in shown_lines)
        (tmp_path / "go").touch()
        assert terminal.finish() == 0


def test_after_a_sigkill_the_terminal_is_as_it_was(
    tmp_path: Path, clean_env: dict[str, str], commands: CommandLine
) -> None:
    with shown(tmp_path, clean_env, commands) as terminal:
        terminal.wait_for(is_whole, "rows")
        terminal.signal(signal.SIGKILL)
        assert terminal.finish() == -signal.SIGKILL
        modes = re.findall(rb"\x1b\[\?(\d+)[hl]", terminal.raw)
        assert modes == []


def test_ctrl_c_ends_a_sweep_below_whose_lines_no_row_is_left(
    tmp_path: Path, clean_env: dict[str, str], commands: CommandLine
) -> None:
    with shown(tmp_path, clean_env, commands) as terminal:
        terminal.wait_for(is_whole, "rows")
        terminal.type(b"\x03")
        assert terminal.finish() == 128 + signal.SIGINT
        assert not rows_of(terminal.rows())
        assert any("resume with: " in line for line in terminal.rows())


@pytest.mark.skipif(
    shutil.which("tmux") is None, reason="tmux is not installed (Debian: apt-get install tmux)"
)
def test_in_tmux_the_rows_survive_a_resize(tmp_path: Path, clean_env: dict[str, str]) -> None:
    """A terminal that wraps its lines anew, and tells the sweep of its size only a moment later."""
    server = ["tmux", "-S", str(tmp_path / "s"), "-f", "/dev/null"]

    def tmux(*words: str) -> str:
        done = subprocess.run([*server, *words], env=env, capture_output=True, text=True, check=True)
        return done.stdout

    def screen() -> list[str]:
        seen = tmux("capture-pane", "-p", "-t", "=s:").splitlines()
        return [line.rstrip() for line in seen if line.strip()]

    terminal = {"TERM": "xterm-256color", "TMUX": "", "LC_ALL": "C.UTF-8"}
    env = clean_env | QUIET | terminal | {"GO": str(tmp_path / "go")}
    tmux(
        "new-session",
        "-d",
        "-s",
        "s",
        "-x",
        "110",
        "-y",
        "30",
        "-c",
        str(tmp_path),
        sys.executable,
        READY,
        "1",
        PARALLEL_HPO,
        *prepare(tmp_path),
    )
    try:
        wait_until(lambda: is_whole(screen()), screen)
        for columns in (40, 110, 55):
            tmux("resize-window", "-t", "=s:", "-x", str(columns), "-y", "30")
            wait_until(lambda: is_whole(screen()) and max(map(len, screen())) <= columns, screen)  # noqa: B023
            time.sleep(0.6)  # two more drawings: what they leave behind would be seen
            lines = screen()
            assert is_whole(lines), "\n".join(lines)
            assert sum(" running · " in line for line in lines) == 1, "\n".join(lines)
        pid = int(tmux("display-message", "-p", "-t", "=s:", "#{pane_pid}"))
        (tmp_path / "go").touch()
        psutil.wait_procs([psutil.Process(pid)], DEADLINE_S)
    finally:
        subprocess.run([*server, "kill-server"], env=env, capture_output=True, check=False)


def wait_until(condition: Callable[[], object], look: Callable[[], list[str]]) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline, "\n".join(look())
        time.sleep(0.05)
