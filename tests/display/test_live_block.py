"""The live block below the lines, drawn in a terminal emulator."""

from __future__ import annotations

import io

import pyte
from rich.console import Console
from rich.text import Text

from parallel_hpo.display.screen import LiveBlock


class Shown:
    """A live block and its terminal."""

    def __init__(self, columns: int = 40, lines: int = 10) -> None:
        self.screen = pyte.Screen(columns, lines)
        self.screen.set_mode(pyte.modes.LNM)  # as a terminal's line discipline has it
        self._stream = pyte.Stream(self.screen)
        self._file = io.StringIO()
        self._console = Console(file=self._file, force_terminal=True, color_system="standard", _environ={})
        self.painting = LiveBlock(self._console, lambda: (self.screen.columns, self.screen.lines))

    def print(self, text: str) -> None:
        self.painting.erase()
        self.painting.remember(Text(text))
        self._console.print(text, soft_wrap=True, highlight=False)
        self._pass_on()

    def draw(self, *lines: str) -> None:
        self.painting.draw([Text(line) for line in lines])
        self._pass_on()

    def resize(self, columns: int, lines: int) -> None:
        self.screen.resize(lines, columns)

    def rows(self) -> list[str]:
        return [line.rstrip() for line in self.screen.display if line.strip()]

    def _pass_on(self) -> None:
        self._stream.feed(self._file.getvalue())
        self._file.seek(0)
        self._file.truncate()


def test_a_block_is_drawn_in_the_place_of_the_last_one() -> None:
    shown = Shown()
    shown.print("line 1")
    shown.draw("a", "b", "c")
    shown.draw("d", "e")
    assert shown.rows() == ["line 1", "d", "e"]


def test_lines_go_on_above_the_block() -> None:
    shown = Shown(lines=6)
    for number in range(20):
        shown.print(f"line {number}")
        shown.draw("a", "b")
    assert shown.rows() == ["line 16", "line 17", "line 18", "line 19", "a", "b"]


def test_a_long_line_above_is_wrapped_by_the_terminal() -> None:
    shown = Shown(columns=10)
    shown.print("0123456789abc")
    shown.draw("block")
    shown.print("next")
    shown.draw("block")
    assert shown.rows() == ["0123456789", "abc", "next", "block"]


def test_after_each_change_of_size_there_is_one_block_below_the_last_lines() -> None:
    shown = Shown(columns=60, lines=20)
    for number in range(30):
        shown.print(f"line {number} " + "x" * 30)
    shown.draw("a" * 59, "b" * 59)
    for columns, lines in ((20, 20), (60, 6), (100, 30), (40, 20)):
        shown.resize(columns, lines)
        shown.draw("a" * (columns - 1), "b" * (columns - 1))
        rows = shown.rows()
        assert rows[-2:] == ["a" * (columns - 1), "b" * (columns - 1)]
        assert not [row for row in rows[:-2] if row.startswith(("a", "b"))]
        assert "x" in rows[-3]
        wrapped = "".join(row for row in rows[:-2])
        assert wrapped.endswith("line 29 " + "x" * 30)


def test_nothing_that_is_drawn_hides_the_cursor_or_sets_a_mode() -> None:
    shown = Shown()
    before = set(shown.screen.mode)
    shown.draw("a", "b")
    shown.resize(20, 10)
    shown.draw("a", "b")
    shown.painting.erase()
    assert shown.screen.mode == before
    assert not shown.screen.cursor.hidden
