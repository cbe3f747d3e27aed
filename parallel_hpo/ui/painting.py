"""The part of a terminal that is drawn again and again: lines below all others, erased before those go on.

Nothing is ever hidden or set that a killed process would leave so: each drawing begins by going up over
the last one. Where the terminal's size changed meanwhile, nobody can say where that stands (some
terminals wrap its lines anew, others cut them): the screen is then drawn anew from what is remembered.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Final

from rich.console import Console
from rich.control import Control
from rich.segment import ControlType
from rich.text import Text

Size = tuple[int, int]
"""Of a terminal: columns and lines."""
_REMEMBERED: Final = 500
"""Lines; more than a screen holds."""


class Painting:
    """A block of lines at the end of a console that is a terminal."""

    def __init__(self, console: Console, size: Callable[[], Size]) -> None:
        self._console = console
        self._size = size
        self._drawn = 0
        self._drawn_at: Size = (0, 0)
        self._lines: deque[Text] = deque(maxlen=_REMEMBERED)

    @property
    def size(self) -> Size:
        """The terminal's, now."""
        return self._size()

    def remember(self, line: Text) -> None:
        """Keep what is printed above the block, for a terminal that is to be drawn anew."""
        self._lines.extend(line.split("\n"))

    def draw(self, lines: Sequence[Text]) -> None:
        """Draw the block, in the place of the last one; no line may be wider than the terminal."""
        self.erase()
        self._drawn, self._drawn_at = len(lines), self._size()
        self._console.print(Text("\n").join(lines), end="", soft_wrap=True, highlight=False)

    def erase(self) -> None:
        """Take the block away; the cursor is where it began."""
        if not self._drawn:
            return
        if self._size() != self._drawn_at:
            self._repaint()
        else:
            above = [(ControlType.CURSOR_UP, 1), (ControlType.ERASE_IN_LINE, 2)] * (self._drawn - 1)
            self._console.control(
                Control((ControlType.ERASE_IN_LINE, 2), *above, ControlType.CARRIAGE_RETURN)
            )
        self._drawn = 0

    def _repaint(self) -> None:
        """Clear the screen, and show again what was printed last, above the room that the block takes."""
        width, height = self._size()
        room, shown = height - self._drawn, []
        for line in reversed(self._lines):
            room -= max(1, -(-line.cell_len // max(1, width)))
            if room < 0:
                break
            shown.append(line)
        self._console.control(Control(ControlType.CLEAR, ControlType.HOME))
        for line in reversed(shown):
            self._console.print(line, soft_wrap=True, highlight=False)
