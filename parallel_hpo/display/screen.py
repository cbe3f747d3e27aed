"""A sweep on a console: lines, and on a terminal live rows below them, with the progress and each worker.

On a terminal, lines wait for the next `refresh`, which prints them and the rows at once. Used by `terminal`'s
thread.
"""

from __future__ import annotations

import os
import re
from collections import Counter, deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from rich.console import Console, ConsoleDimensions, Group
from rich.live import Live
from rich.style import Style
from rich.text import Text

from parallel_hpo.core.notices import Notice, OutputLine, RunOver, SweepOpened, WorkerChanged
from parallel_hpo.core.types import Slot
from parallel_hpo.core.values import TRACEBACK, visible, visible_output, visible_value
from parallel_hpo.display.rows import Workers, advance_workers, rows_of
from parallel_hpo.display.text import (
    RunCounts,
    Varied,
    Verbosity,
    advance,
    best_so_far,
    describe,
    describe_briefly,
    describe_result,
    is_chatter,
    is_left_over,
    prefix,
    progress,
    progress_bar,
)

if TYPE_CHECKING:
    from parallel_hpo.analysis.result import SweepResult


class OpenConsole(Console):
    """A console that follows its terminal's size and never hides the cursor, in case SIGKILL ends it."""

    @property
    def size(self) -> ConsoleDimensions:
        """Current size of the terminal; the variable COLUMNS would not follow changes."""
        try:
            columns, lines = os.get_terminal_size(self.file.fileno())
        except (OSError, ValueError):  # no terminal, no descriptor, or closed
            columns = lines = 0
        return ConsoleDimensions(columns, lines) if columns and lines else super().size

    @size.setter
    def size(self, new_size: tuple[int, int]) -> None:
        self.width, self.height = new_size

    def show_cursor(self, show: bool = True) -> bool:
        """Leave the cursor as it is."""
        return False


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
        if line.strip() == TRACEBACK:
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
BAR_PART: Final = 5
"""Divisor of the terminal's width for the progress bar."""
_BAR_CELLS: Final = 5
"""Minimum width of the progress bar, in cells."""
_REMEMBERED: Final = 200
"""Number of lines that are printed again after a change of the terminal's size; more than a screen holds."""


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
    ) -> None:
        """Show on `console`; `live`: with rows and progress; `clock` is monotonic, in seconds."""
        self._console = console
        self._verbosity = verbosity
        self._varied = varied
        self._clock = clock
        self._counts = RunCounts()
        self._tracebacks = TracebackFilter()
        self._workers: Workers = {}
        self._is_live = live
        self._live = self._new_live()
        self._size = console.size
        self._waiting: list[Text] = []
        self._printed: deque[Text] = deque(maxlen=_REMEMBERED)

    def show(self, notice: Notice) -> None:
        """Show a notice if the verbosity includes it, without control characters."""
        if not isinstance(notice, OutputLine):
            notice = visible_value(notice)
        self._counts = advance(self._counts, notice, self._clock())
        self._workers = advance_workers(self._workers, notice, self._clock())
        if isinstance(notice, OutputLine):
            self._output(notice.slot, self._tracebacks.feed(notice.slot, notice.text))
            return
        if isinstance(notice, RunOver | WorkerChanged):
            self._output(notice.slot, self._tracebacks.flush(notice.slot))
        line = describe(notice, self._counts, self._varied, self._verbosity)
        if line is not None:
            if isinstance(notice, SweepOpened) and self._is_live and notice.url:
                line.highlight_regex(re.escape(notice.url), Style(link=notice.url))
            self._print(line)

    def refresh(self) -> None:
        """Print the lines that wait, and redraw the live rows below them."""
        if not self._is_live:
            return
        if self._console.size != self._size:
            self._redraw()
        if self._counts.opened:
            self._live.start()
        lines, self._waiting = self._waiting, []
        self._printed.extend(lines)
        if lines:
            self._console.print(Text("\n").join(lines), soft_wrap=True, highlight=False)
        elif self._live.is_started:
            self._live.refresh()

    def close(self) -> None:
        """Print the lines that wait, and erase the live rows."""
        self.refresh()
        self._live.stop()

    def _new_live(self) -> Live:
        return Live(
            self,
            console=self._console,
            auto_refresh=False,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
        )

    def __rich__(self) -> Group:
        """Return the live rows: the progress, the best run, and each worker below them."""
        now, (width, height) = self._clock(), self._size
        width -= 1
        first = progress(self._counts, now)
        cells = min(width // BAR_PART, width - first.cell_len - 1)
        if cells >= _BAR_CELLS:
            first = progress_bar(self._counts, cells).append_text(first)
        best = best_so_far(self._counts, self._varied)
        head = [first] if best is None else [first, best]
        for line in head:
            line.truncate(max(1, width), overflow="ellipsis")
        most = height // ROWS_PART - len(head)
        return Group(*head, *rows_of(self._workers, now, self._counts.name_of, width=width, most=most))

    def _redraw(self) -> None:
        """Clear the screen after a change of its size, and let the last lines be printed again.

        The rows' position is unknown then: some terminals wrap lines again, others cut them.
        """
        self._live.stop()
        self._live = self._new_live()
        self._size = self._console.size
        self._console.clear()
        self._waiting[:0] = list(self._printed)[-self._size.height :]

    def conclude(self, result: SweepResult, go_on: str = "") -> None:
        """Show a sweep's result, and the command that resumes it if it is incomplete."""
        result = visible_value(result)
        if self._verbosity is Verbosity.QUIET:
            for line in describe_briefly(result, self._counts, self._varied):
                self._print(line)
            return
        for line in describe_result(result, self._counts, self._varied):
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
                self._print(Text.assemble((prefix(slot, self._counts), "cyan"), text))

    def _print(self, line: Text) -> None:
        if self._is_live:
            self._waiting.append(line)
        elif self._console.color_system is None and line.plain.isprintable():
            print(line.plain, file=self._console.file, flush=True)  # ten times as fast
        else:
            self._console.print(line, soft_wrap=True, highlight=False)
