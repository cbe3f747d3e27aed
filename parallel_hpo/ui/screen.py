"""Draws a sweep on a console: lines as they come, and below them a row for each worker and the progress line.

Those exist only on a terminal that can erase them; elsewhere there are lines
alone. Used by one thread, `terminal`'s. The cursor is never hidden, so that even a
SIGKILL leaves a sane terminal.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Final

from rich.console import Console
from rich.style import Style
from rich.text import Text

from parallel_hpo.notices import Notice, OutputLine, RunOver, SweepOpened, WorkerChanged
from parallel_hpo.ui.painting import Painting, Size
from parallel_hpo.ui.rows import Workers, advance_workers, rows_of
from parallel_hpo.ui.summary import describe_briefly, describe_result, is_left_over
from parallel_hpo.ui.tally import Tally, advance
from parallel_hpo.ui.tracebacks import TracebackFilter
from parallel_hpo.ui.wording import Varied, Verbosity, describe, is_chatter, prefix, progress
from parallel_hpo.words import Slot

if TYPE_CHECKING:
    from parallel_hpo.supervisor.records.summary import SweepResult

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
        self._tally = Tally()
        self._tracebacks = TracebackFilter()
        self._live = live
        self._workers: Workers = {}
        self._painting = Painting(console, size or (lambda: (console.width, console.height)))

    def show(self, notice: Notice) -> None:
        """Show a notice at its verbosity."""
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
        if self._verbosity is Verbosity.QUIET:
            for line in describe_briefly(result, self._tally, self._varied):
                self._print(line)
            return
        for line in describe_result(result, self._tally, self._varied):
            self._print(line)
        if go_on and is_left_over(result):
            self._print(Text(f"go on with it: {go_on}"))

    def say(self, text: str) -> None:
        """Show a line of our own."""
        if self._verbosity is not Verbosity.QUIET:
            self._print(Text(text, style="dim"))

    def _output(self, slot: Slot, lines: list[str]) -> None:
        if self._verbosity is Verbosity.QUIET:
            return
        for line in lines:
            # from_ansi keeps the colours, and drops what would move the cursor; most lines have neither.
            text = line if line.isprintable() else Text.from_ansi(line)
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
