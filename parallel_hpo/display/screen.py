"""The part of a terminal that is drawn again and again: lines below all others, erased before those go on.

Nothing is ever hidden or set that a killed process would leave so: each drawing begins by going up over
the last one. Where the terminal's size changed meanwhile, nobody can say where that stands (some
terminals wrap its lines anew, others cut them): the screen is then drawn anew from what is remembered.

Shows the same traceback once, and after that only that it came again, and how often.

A sweep's runs fail alike: fifty copies of one traceback hide everything else. And one failure is printed
twice where `main` fails within `with wandb.init()`: by the client, from there on, then by the worker, with
what called that. The workers' logs keep them all. Pure but for its memory; used by one thread.

Draws a sweep on a console: lines as they come, and below them a row for each worker and the progress line.

Those exist only on a terminal that can erase them; elsewhere there are lines
alone. Used by one thread, `terminal`'s. The cursor is never hidden, so that even a
SIGKILL leaves a sane terminal.
"""

from __future__ import annotations

import re
from collections import Counter, deque
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Final

from rich.console import Console
from rich.control import Control
from rich.segment import ControlType
from rich.style import Style
from rich.text import Text

from parallel_hpo.core.notices import Notice, OutputLine, RunOver, SweepOpened, WorkerChanged
from parallel_hpo.core.types import Slot
from parallel_hpo.core.visible import visible, visible_output, visible_value
from parallel_hpo.display.rows import Workers, advance_workers, rows_of
from parallel_hpo.display.text import (
    RunCounts,
    Varied,
    Verbosity,
    advance,
    describe,
    describe_briefly,
    describe_result,
    is_chatter,
    is_left_over,
    prefix,
    progress,
)

if TYPE_CHECKING:
    from parallel_hpo.analysis.result import SweepResult

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


_HEADER: Final = "Traceback (most recent call last):"


class TracebackFilter:
    """Holds back each slot's traceback until it is whole, then passes it on once."""

    def __init__(self) -> None:
        self._held: dict[Slot, list[str]] = {}
        self._seen: Counter[str] = Counter()
        self._last: dict[Slot, list[str]] = {}

    def feed(self, slot: Slot, line: str) -> list[str]:
        """Take a line that a slot has printed; return the lines to show now."""
        if line.strip() == _HEADER:
            shown = self.flush(slot)
            self._held[slot] = [line]
            return shown
        held = self._held.get(slot)
        if held is None:
            return [line]
        held.append(line)
        return [] if line[:1].isspace() else self._whole(slot)

    def flush(self, slot: Slot) -> list[str]:
        """Return what is held back of a slot, whose process prints no more of it."""
        return self._held.pop(slot, [])

    def _whole(self, slot: Slot) -> list[str]:
        lines = self.flush(slot)
        before, self._last[slot] = self._last.get(slot, []), lines
        if _tells_more_of(lines, before):
            return []
        text = "\n".join(lines)
        self._seen[text] += 1
        times = self._seen[text]
        return lines if times == 1 else [f"{lines[-1]}  (the same traceback for the {_ordinal(times)} time)"]


def _tells_more_of(lines: list[str], before: list[str]) -> bool:
    """Say whether a traceback is of the same failure as the one before, seen from further away."""
    inner = before[1:]
    return bool(inner) and len(lines) > len(before) and lines[-len(inner) :] == inner


def _ordinal(number: int) -> str:
    if number % 100 in (11, 12, 13):
        return f"{number}th"
    return f"{number}{ {1: 'st', 2: 'nd', 3: 'rd'}.get(number % 10, 'th') }"


ROWS_PART: Final = 2
"""The rows take one of so many parts of the terminal's height: the lines above them are to be read too."""


class Screen:
    """What is shown of one sweep."""

    def __init__(
        self,
        console: Console,
        *,
        live: bool,
        verbosity: Verbosity,
        varied: Varied,
        clock: Callable[[], float],
        size: Callable[[], Size] | None = None,
    ) -> None:
        """Show on `console`; `live`: with rows and a progress line; `clock` is monotonic, in seconds.

        `size` is the terminal's, in columns and lines; None: as the console knows it.
        """
        self._console = console
        self._verbosity = verbosity
        self._varied = varied
        self._clock = clock
        self._tally = RunCounts()
        self._tracebacks = TracebackFilter()
        self._live = live
        self._workers: Workers = {}
        self._painting = Painting(console, size or (lambda: (console.width, console.height)))

    def show(self, notice: Notice) -> None:
        """Show a notice at its verbosity, with nothing in it that the terminal would obey."""
        if not isinstance(notice, OutputLine):
            notice = visible_value(notice)
        self._tally = advance(self._tally, notice, self._clock())
        self._workers = advance_workers(self._workers, notice, self._clock())
        if isinstance(notice, OutputLine):
            self._output(notice.slot, self._tracebacks.feed(notice.slot, notice.text))
            return
        if isinstance(notice, RunOver | WorkerChanged):
            self._output(notice.slot, self._tracebacks.flush(notice.slot))
        line = describe(notice, self._tally, self._varied, self._verbosity)
        if line is not None:
            if isinstance(notice, SweepOpened) and self._live and notice.url:
                line.highlight_regex(re.escape(notice.url), Style(link=notice.url))
            self._print(line)

    def frame(self) -> AbstractContextManager[object]:
        """Within the block nothing is written: all of it is at its end, at once."""
        return self._console if self._live else nullcontext()

    def redraw(self) -> None:
        """Draw the rows and the progress line anew, where there are any."""
        if self._live and self._tally.opened:
            (width, height), now = self._painting.size, self._clock()
            last = progress(self._tally, now)
            last.truncate(max(1, width - 1), overflow="ellipsis")
            rows = rows_of(
                self._workers, now, self._tally.name_of, width=width - 1, most=height // ROWS_PART - 1
            )
            self._painting.draw([*rows, last])

    def erase(self) -> None:
        """Take the rows and the progress line away."""
        self._painting.erase()

    def conclude(self, result: SweepResult, go_on: str = "") -> None:
        """Show a sweep's result, and what goes on with it where something is left to do."""
        result = visible_value(result)
        if self._verbosity is Verbosity.QUIET:
            for line in describe_briefly(result, self._tally, self._varied):
                self._print(line)
            return
        for line in describe_result(result, self._tally, self._varied):
            self._print(line)
        if go_on and is_left_over(result):
            self._print(Text(f"go on with it: {visible(go_on)}"))

    def say(self, text: str) -> None:
        """Show a line of our own."""
        if self._verbosity is not Verbosity.QUIET:
            self._print(Text(text, style="dim"))

    def _output(self, slot: Slot, lines: list[str]) -> None:
        if self._verbosity is Verbosity.QUIET:
            return
        for line in lines:
            line = visible_output(line.rstrip("\r").rpartition("\r")[2])
            text = line if line.isprintable() else Text.from_ansi(line)  # most lines have no colours
            if self._verbosity is Verbosity.VERBOSE or not is_chatter(str(text)):
                self._print(Text.assemble((prefix(slot, self._tally), "cyan"), text))

    def _print(self, line: Text) -> None:
        self.erase()
        if self._live:
            self._painting.remember(line)
        elif self._console.color_system is None and line.plain.isprintable():
            print(line.plain, file=self._console.file, flush=True)  # ten times as fast
            return
        self._console.print(line, soft_wrap=True, highlight=False)
