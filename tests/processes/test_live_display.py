"""What a person sees of a sweep on a real terminal: a row for each worker, below the lines that go on."""

from __future__ import annotations

import re
import signal
import sys
from collections.abc import Iterator
from typing import Final

import pytest

from tests.processes.conftest import MAINS, RealSweep, grid
from tests.pseudo_terminal import PseudoTerminal

ROW: Final = re.compile(r"^w(\d+) +([a-z0-9]{8}) .*?(\d+)/400 .*loss=")
"""The row of a worker whose run has logged something."""


@pytest.fixture
def terminal(sweep: RealSweep) -> Iterator[PseudoTerminal]:
    """A sweep of two workers, on a terminal; its runs end once there is a file `go`."""
    sweep.configure(sweep_configuration=grid(x=[1, 2], epochs=[400]), workers=2, count=2)
    command = (sys.executable, "-m", "parallel_hpo", "run", "config.json", f"{MAINS}:stepping")
    with PseudoTerminal(command, env=sweep.env, folder=sweep.folder) as shown:
        yield shown


def rows_of(lines: list[str]) -> dict[int, int]:
    """Return how many epochs each worker's row shows; nothing where one has two rows."""
    found = [match for line in lines if (match := ROW.match(line))]
    slots = {int(match[1]): int(match[3]) for match in found}
    return slots if len(slots) == len(found) else {}


def is_whole(lines: list[str]) -> bool:
    """Whether there is a row for each worker, and the progress above them, at the end."""
    return len(rows_of(lines[-2:])) == 2 and "0/2 runs · 2 running" in lines[-3]


def test_each_worker_has_a_row_in_its_place_also_after_a_resize_until_ctrl_c(
    terminal: PseudoTerminal,
) -> None:
    lines = terminal.wait_for(lambda lines: is_whole(lines) and "MB" in lines[-1], "rows with memory")
    assert [line.split()[0] for line in lines[-2:]] == ["w0", "w1"]
    assert re.search(r"\d+%  loss=\S+ +[\d.]+ s +\d+ MB$", lines[-1])
    for columns, height in ((40, 30), (100, 40), (60, 20)):
        terminal.resize(columns, height)
        before = rows_of(terminal.wait_for(is_whole, f"rows at {columns} columns"))
        terminal.wait_for(
            lambda lines: all(done > before[slot] for slot, done in rows_of(lines).items()),  # noqa: B023
            "progress",
        )
        assert all(len(line) <= columns for line in terminal.wait_for(is_whole, "rows"))
    modes = re.findall(rb"\x1b\[\?(\d+)[hl]", terminal.raw)
    assert modes == [], "a SIGKILL would not leave the terminal as it was"
    terminal.type(b"\x03")
    assert terminal.finish() == 128 + signal.SIGINT
    lines = terminal.rows()
    assert not rows_of(lines)
    assert any("resume with: " in line for line in lines)
    assert not terminal.hides_cursor
    link = re.search(rb"\x1b\]8;[^;]*;(http\S+?)\x1b\\", terminal.raw)
    assert link is not None and b"/sweeps/" in link[1]
