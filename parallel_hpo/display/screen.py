"""A sweep on a console: lines, and on a terminal a live block below them, with workers' rows and progress.

The cursor is never hidden, so that even SIGKILL leaves a usable terminal. The block is redrawn by moving up
over the last one. After a change of the terminal's size its position is unknown, because some terminals wrap
lines anew and others cut them: then the whole screen is redrawn from remembered lines. Used by `terminal`'s
thread.
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
"""Columns and lines of a terminal."""
_REMEMBERED: Final = 500
"""Number of remembered lines; more than a screen holds."""


class LiveBlock:
    """The live block of lines at the end of a terminal."""

    def __init__(self, console: Console, size: Callable[[], Size]) -> None:
        self._console = console
        self._size = size
        self._drawn = 0
        self._drawn_at: Size = (0, 0)
        self._lines: deque[Text] = deque(maxlen=_REMEMBERED)

    @property
    def size(self) -> Size:
        """Current size of the terminal."""
        return self._size()

    def remember(self, line: Text) -> None:
        """Remember a line above the block, for a redraw of the screen."""
        self._lines.extend(line.split("\n"))

    def draw(self, lines: Sequence[Text]) -> None:
        """Replace the block; no line may be wider than the terminal."""
        self.erase()
        self._drawn, self._drawn_at = len(lines), self._size()
        self._console.print(Text("\n").join(lines), end="", soft_wrap=True, highlight=False)

    def erase(self) -> None:
        """Erase the block, and leave the cursor at its start."""
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
        """Clear the screen, and print the last lines again, with room for the block below."""
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
    """Shows each different traceback once, and for repetitions only their number; used by one thread.

    Runs of a sweep fail alike: fifty copies of one traceback would hide everything else. And a failure within
    `with wandb.init()` is printed twice: by the client, from there on, then by the worker, with its callers.
    The workers' logs keep all.
    """

    def __init__(self) -> None:
        self._held: dict[Slot, list[str]] = {}
        self._seen: Counter[str] = Counter()
        self._last: dict[Slot, list[str]] = {}

    def feed(self, slot: Slot, line: str) -> list[str]:
        """Take a line of a slot's output; return the lines to show now."""
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
        """Return the incomplete traceback of a slot whose process has ended."""
        return self._held.pop(slot, [])

    def _whole(self, slot: Slot) -> list[str]:
        lines = self.flush(slot)
        before, self._last[slot] = self._last.get(slot, []), lines
        if _repeats_with_callers(lines, before):
            return []
        text = "\n".join(lines)
        self._seen[text] += 1
        times = self._seen[text]
        return lines if times == 1 else [f"{lines[-1]}  (the same traceback for the {_ordinal(times)} time)"]


def _repeats_with_callers(lines: list[str], before: list[str]) -> bool:
    """Return whether a traceback repeats the previous one with more callers."""
    inner = before[1:]
    return bool(inner) and len(lines) > len(before) and lines[-len(inner) :] == inner


def _ordinal(number: int) -> str:
    if number % 100 in (11, 12, 13):
        return f"{number}th"
    return f"{number}{ {1: 'st', 2: 'nd', 3: 'rd'}.get(number % 10, 'th') }"


ROWS_PART: Final = 2
"""Divisor of the terminal's height for the rows, so that lines above them stay readable."""


class Screen:
    """The display of one sweep on a console."""

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

        `size` returns the terminal's size; None: the console's own.
        """
        self._console = console
        self._verbosity = verbosity
        self._varied = varied
        self._clock = clock
        self._tally = RunCounts()
        self._tracebacks = TracebackFilter()
        self._live = live
        self._workers: Workers = {}
        self._block = LiveBlock(console, size or (lambda: (console.width, console.height)))

    def show(self, notice: Notice) -> None:
        """Show a notice if the verbosity includes it, without control characters."""
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
        """Collect the output within the `with` block and write it at once."""
        return self._console if self._live else nullcontext()

    def redraw(self) -> None:
        """Redraw the rows and the progress line of a live display."""
        if self._live and self._tally.opened:
            (width, height), now = self._block.size, self._clock()
            last = progress(self._tally, now)
            last.truncate(max(1, width - 1), overflow="ellipsis")
            rows = rows_of(
                self._workers, now, self._tally.name_of, width=width - 1, most=height // ROWS_PART - 1
            )
            self._block.draw([*rows, last])

    def erase(self) -> None:
        """Erase the rows and the progress line."""
        self._block.erase()

    def conclude(self, result: SweepResult, go_on: str = "") -> None:
        """Show a sweep's result, and the command that resumes it if it is incomplete."""
        result = visible_value(result)
        if self._verbosity is Verbosity.QUIET:
            for line in describe_briefly(result, self._tally, self._varied):
                self._print(line)
            return
        for line in describe_result(result, self._tally, self._varied):
            self._print(line)
        if go_on and is_left_over(result):
            self._print(Text(f"resume with: {visible(go_on)}"))

    def say(self, text: str) -> None:
        """Show a line about the display itself."""
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
            self._block.remember(line)
        elif self._console.color_system is None and line.plain.isprintable():
            print(line.plain, file=self._console.file, flush=True)  # ten times as fast
            return
        self._console.print(line, soft_wrap=True, highlight=False)
