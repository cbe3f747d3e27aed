"""Draws a sweep on a console: lines as they come, and below them the progress line.

The progress line exists only on a terminal that can erase it; elsewhere there
are lines alone. Used by one thread, `terminal`'s. The cursor is never hidden, so
that even a SIGKILL leaves a sane terminal.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from rich.console import Console
from rich.control import Control
from rich.segment import ControlType
from rich.text import Text

from parallel_hpo.notices import Notice, OutputLine, RunOver, WorkerChanged
from parallel_hpo.ui.summary import describe_briefly, describe_result, is_left_over
from parallel_hpo.ui.tally import Tally, advance
from parallel_hpo.ui.tracebacks import TracebackFilter
from parallel_hpo.ui.wording import Varied, Verbosity, describe, is_chatter, prefix, progress
from parallel_hpo.words import Slot

if TYPE_CHECKING:
    from parallel_hpo.supervisor.records.summary import SweepResult

_ERASE: Final = Control((ControlType.ERASE_IN_LINE, 2), ControlType.CARRIAGE_RETURN)


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
    ) -> None:
        """Show on `console`; `live`: with a progress line; `clock` is monotonic, in seconds."""
        self._console = console
        self._verbosity = verbosity
        self._varied = varied
        self._clock = clock
        self._tally = Tally()
        self._tracebacks = TracebackFilter()
        self._live = live
        self._drawn = False

    def show(self, notice: Notice) -> None:
        """Show a notice at its verbosity."""
        self._tally = advance(self._tally, notice, self._clock())
        if isinstance(notice, OutputLine):
            self._output(notice.slot, self._tracebacks.feed(notice.slot, notice.text))
            return
        if isinstance(notice, RunOver | WorkerChanged):
            self._output(notice.slot, self._tracebacks.flush(notice.slot))
        line = describe(notice, self._tally, self._varied, self._verbosity)
        if line is not None:
            self._print(line)

    def redraw(self) -> None:
        """Draw the progress line anew, where there is one."""
        if self._live and self._tally.opened:
            line = progress(self._tally, self._clock())
            line.truncate(self._console.width - 1, overflow="ellipsis")
            self.erase()
            self._console.print(line, end="", soft_wrap=True, highlight=False)
            self._drawn = True

    def erase(self) -> None:
        """Take the progress line away."""
        if self._drawn:
            self._console.control(_ERASE)
            self._drawn = False

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
                self._print(Text.assemble((prefix(slot), "cyan"), text))

    def _print(self, line: Text) -> None:
        self.erase()
        if self._console.color_system is None and line.plain.isprintable():
            print(line.plain, file=self._console.file, flush=True)  # ten times as fast
        else:
            self._console.print(line, soft_wrap=True, highlight=False)
