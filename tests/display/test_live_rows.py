"""The live rows below the lines of a sweep, in a terminal emulator."""

from __future__ import annotations

import io

import pyte

from parallel_hpo.core.notices import Message, RunBegan, RunOver, SweepOpened
from parallel_hpo.core.types import Outcome, RunId, Slot, SweepId, SweepPath
from parallel_hpo.display.screen import OpenConsole, Screen
from parallel_hpo.display.text import RunCounts, Verbosity, progress_bar

OPENED = SweepOpened(
    SweepPath("e", "p", SweepId("s1")), "http://x", "local", 4, 2, (2, 2), "/s1", "loss", "minimize"
)


class Shown:
    """A sweep of two workers with a run each, on a terminal."""

    def __init__(self) -> None:
        self.terminal = pyte.Screen(80, 10)
        self.terminal.set_mode(pyte.modes.LNM)  # as a terminal's line discipline has it
        self._stream = pyte.Stream(self.terminal)
        self._file = io.StringIO()
        self._console = OpenConsole(
            file=self._file, force_terminal=True, color_system="standard", width=80, height=10, _environ={}
        )
        self.screen = Screen(
            self._console, live=True, verbosity=Verbosity.NORMAL, varied=None, clock=lambda: 10.0
        )
        self.screen.show(OPENED)
        for slot in (0, 1):
            self.screen.show(RunBegan(Slot(slot), RunId(f"run{slot}"), 1))

    def say(self, text: str) -> None:
        self.screen.show(Message(text))
        self.screen.refresh()

    def resize(self, columns: int, lines: int) -> None:
        self.terminal.resize(lines, columns)
        self._console.width, self._console.height = columns, lines

    def rows(self) -> list[str]:
        self._stream.feed(self._file.getvalue())
        self._file.seek(0)
        self._file.truncate()
        return [line.rstrip() for line in self.terminal.display if line.strip()]


def test_lines_go_on_above_the_rows_and_no_row_is_left_at_the_end() -> None:
    shown = Shown()
    for number in range(20):
        shown.say(f"line {number}")
    *lines, head, first, second = shown.rows()
    assert lines[-6:] == [f"line {number}" for number in range(14, 20)]
    assert head == "━━━━━━━──────── 0/4 runs · 2 running · 0 failed"
    assert (first.split()[:2], second.split()[:2]) == (["w0", "run0"], ["w1", "run1"])
    shown.screen.close()
    assert shown.rows()[-1] == "line 19"
    assert not shown.terminal.cursor.hidden


def test_the_live_rows_have_a_progress_bar_the_best_value_and_the_remaining_time() -> None:
    shown = Shown()
    shown.screen.show(RunOver(Slot(0), RunId("run0"), 1, Outcome.FINISHED, "", 0.25, 3.0))
    shown.screen.refresh()
    assert "━━━━━━━──────── 1/4 runs · 1 running · 0 failed · best loss=0.25 · 0.0 s" in shown.rows()[-3]


def test_the_progress_bar_is_never_longer_than_its_place() -> None:
    counts = RunCounts(opened=OPENED, done={Outcome.FINISHED: 6}, running={Slot(0): RunId("more")})
    assert progress_bar(counts, 15).plain == "━" * 15 + " "


def test_after_each_change_of_size_there_is_one_block_of_rows_below_the_last_lines() -> None:
    shown = Shown()
    for number in range(30):
        shown.say(f"line {number} " + "x" * 30)
    for columns, lines in ((20, 20), (60, 8), (100, 30), (40, 20)):
        shown.resize(columns, lines)
        shown.screen.refresh()
        *above, head, first, second = shown.rows()
        assert (first.split()[:2], second.split()[:2]) == (["w0", "run0"], ["w1", "run1"])
        assert "".join(above).endswith("line 29 " + "x" * 30)
        assert sum("0/4 runs" in row for row in (*above, head)) == 1
