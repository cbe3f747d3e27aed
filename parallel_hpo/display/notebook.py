"""What a cell shows of a sweep, as a picture that grows with each notice; as HTML, and as text: pure.

Text is for where there is no HTML. Nothing that a run or a user has said becomes markup: all is escaped.

The observer that shows a sweep in the notebook's cell that started it, live.

    any thread ── notice ──▶ queue ──▶ one writer thread ── display_id ──▶ the cell

An update by `display_id` lands in its cell whichever cell runs; whatever a thread prints would not.

Shows a sweep in a notebook's cell; knows notices and results, and decides nothing.
"""

from __future__ import annotations

import queue
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from html import escape
from typing import TYPE_CHECKING, Any, Final
from uuid import uuid4

from parallel_hpo.core.messages import MissingMetric
from parallel_hpo.core.notices import Message, Notice, OutputLine, RunBegan, RunOver
from parallel_hpo.core.types import Outcome, Parameters, Slot
from parallel_hpo.display.terminal import Writer
from parallel_hpo.display.text import (
    RunCounts,
    Varied,
    Verbosity,
    advance,
    brief,
    describe,
    describe_result,
    duration,
    is_left_over,
    metric_value,
    progress,
)

if TYPE_CHECKING:
    from parallel_hpo.analysis.result import SweepResult

SHOWN_ENDS: Final = 5
SHOWN_WARNINGS: Final = 5
"""The last few of each are shown; the summary and the logs have them all."""

HEADINGS: Final = ("worker", "run", "outcome", "value", "time", "parameters")
STARTING: Final = "the sweep is being opened"
SHOWN_RUNNING: Final = 32
"""More workers than this are counted only: a cell is no page."""
Row = tuple[str, ...]
"""A run, in the order of the headings."""


@dataclass(frozen=True, slots=True)
class EndedRun:
    """A run that is over, with its parameters."""

    over: RunOver
    parameters: Parameters


@dataclass(frozen=True, slots=True)
class NotebookView:
    """Where a sweep stands."""

    tally: RunCounts = field(default_factory=RunCounts)
    running: Mapping[Slot, RunBegan] = field(default_factory=dict)
    ended: tuple[EndedRun, ...] = ()
    """The last ones, the latest first."""
    best: EndedRun | None = None
    warnings: tuple[Notice, ...] = ()
    end: tuple[str, ...] = ()
    """What is said once the sweep is over, line by line."""


def draw(picture: NotebookView, notice: Notice, now: float) -> NotebookView:
    """Return the picture after a notice that came at `now` (monotonic seconds)."""
    drawn = replace(picture, tally=advance(picture.tally, notice, now))
    match notice:
        case RunBegan(slot=slot):
            return replace(drawn, running={**picture.running, slot: notice})
        case RunOver():
            return _after_run(drawn, notice)
        case Message(warning=True) | MissingMetric():
            return replace(drawn, warnings=(*picture.warnings, notice)[-SHOWN_WARNINGS:])
    return drawn


def _after_run(picture: NotebookView, over: RunOver) -> NotebookView:
    began = picture.running.get(over.slot)
    running = {slot: run for slot, run in picture.running.items() if slot != over.slot}
    if over.again:
        return replace(picture, running=running)
    ended = EndedRun(over, began.parameters if began else {})
    is_best = over.outcome is Outcome.FINISHED and over.value is not None and over.value == picture.tally.best
    return replace(
        picture,
        running=running,
        ended=(ended, *picture.ended)[:SHOWN_ENDS],
        best=ended if is_best else picture.best,
    )


def as_text(picture: NotebookView, varied: Varied, now: float) -> str:
    """Return what is shown at `now` (on the tally's clock), as lines."""
    rows = [HEADINGS, *rows_of(picture, varied)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEADINGS))]
    table = ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows] if len(rows) > 1 else []
    return "\n".join([*_above(picture, varied, now), *table, *_below(picture)])


def as_html(picture: NotebookView, varied: Varied, now: float) -> str:
    """Return the same with a bar, a link and a table; its looks are the notebook's own."""
    first, *more = _above(picture, varied, now)
    parts = [f"<div><b>{escape(first)}</b></div>", _bar(picture)]
    parts.extend(f"<div>{_linked(line, picture)}</div>" for line in more)
    if rows := list(rows_of(picture, varied)):
        body = "".join(_html_row(row, "td") for row in rows)
        parts.append(f"<table>{_html_row(HEADINGS, 'th')}{body}</table>")
    parts.extend(f"<div>{escape(line)}</div>" for line in _below(picture))
    return f"<div>{''.join(parts)}</div>"


def _linked(line: str, picture: NotebookView) -> str:
    """Return a line as HTML, in which the sweep's address can be clicked."""
    url = escape(picture.tally.opened.url if picture.tally.opened else "")
    if not url.startswith(("http://", "https://")):
        return escape(line)
    return escape(line).replace(url, f'<a href="{url}" target="_blank" rel="noopener">{url}</a>')


def rows_of(picture: NotebookView, varied: Varied) -> Iterator[Row]:
    """Yield the runs that are under way, by slot, then the last that ended."""
    for slot, run in sorted(picture.running.items())[:SHOWN_RUNNING]:
        again = f" again ({run.attempt})" if run.attempt > 1 else ""
        yield (
            picture.tally.name_of(slot),
            str(run.run_id),
            f"running{again}",
            "",
            "",
            brief(run.parameters, varied),
        )
    for ended in picture.ended:
        yield _ended_row(ended, picture, varied)


def _ended_row(run: EndedRun, picture: NotebookView, varied: Varied) -> Row:
    over = run.over
    reason = f": {over.reason}" if over.reason and over.outcome is not Outcome.FINISHED else ""
    value = "" if over.value is None else f"{over.value:.6g}"
    return (
        picture.tally.name_of(over.slot),
        str(over.run_id),
        f"{over.outcome}{reason}",
        value,
        duration(over.duration_s),
        brief(run.parameters, varied),
    )


def _above(picture: NotebookView, varied: Varied, now: float) -> Iterator[str]:
    opened = picture.tally.opened
    if picture.end:
        yield picture.end[0]
    else:
        yield progress(picture.tally, now).plain if opened else STARTING
    if opened:
        yield f"sweep {opened.path} ({opened.backend}): {opened.url}"
    if picture.best and picture.best.over.value is not None and not picture.end:
        found = metric_value(picture.tally, picture.best.over.value)
        yield f"best: run {picture.best.over.run_id}  {found}  {brief(picture.best.parameters, varied)}"


def _below(picture: NotebookView) -> Iterator[str]:
    if (more := len(picture.running) - SHOWN_RUNNING) > 0:
        yield f"and {more} more running"
    for notice in picture.warnings:
        if line := describe(notice, picture.tally, None, Verbosity.NORMAL):
            yield line.plain
    yield from picture.end[1:]


def _bar(picture: NotebookView) -> str:
    count = picture.tally.opened.count if picture.tally.opened else None
    return f'<progress max="{count}" value="{picture.tally.over}"></progress>' if count else ""


def _html_row(cells: Row, tag: str) -> str:
    return f"<tr>{''.join(f'<{tag}>{escape(cell)}</{tag}>' for cell in cells)}</tr>"


REDRAW_S: Final = 0.5
"""At most so often is the cell drawn anew: a person sees no more."""
TICK_S: Final = 5.0
"""So often where nothing happens, for the time that is left."""

Publish = Callable[..., object]
"""IPython's `publish_display_data`."""
_Step = Callable[[NotebookView], NotebookView]


def find_publisher() -> Publish | None:
    """Return what shows something in this notebook; None where this process is no notebook's kernel."""
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    if getattr(shell, "kernel", None) is None:
        return None
    from IPython.display import publish_display_data

    return publish_display_data


class NotebookCell(Writer[_Step]):
    """Shows notices and the result; a context manager, callable from any thread."""

    shows_memory: Final = False

    def __init__(
        self, publish: Publish, *, varied: Varied = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Show by `publish`, from now on; `varied` names the parameters worth showing; `clock` in seconds."""
        super().__init__("parallel_hpo cell")
        self._publish = publish
        self._varied = varied
        self._clock = clock
        self._display = {"display_id": f"parallel_hpo-{uuid4().hex}"}
        self._picture = NotebookView()
        self._show(update=False)  # in the thread that runs the cell: this makes its place there

    def __call__(self, notice: Notice) -> None:
        """Take a notice, at once; what runs print is in their logs alone."""
        if not isinstance(notice, OutputLine):
            now = self._clock()
            self._steps.put(lambda picture: draw(picture, notice, now))

    def conclude(self, result: SweepResult, *, go_on: str = "") -> None:
        """Take the result, to be shown last; `go_on` is what goes on with a sweep that is not complete."""

        def end(picture: NotebookView) -> NotebookView:
            lines = [line.plain for line in describe_result(result, picture.tally, self._varied)]
            if go_on and is_left_over(result):
                lines.append(f"go on with it: {go_on}")
            return replace(picture, end=tuple(lines))

        self._steps.put(end)

    def _write(self) -> None:
        """Perform the steps until the end is asked for, and show what they come to."""
        drawn_at, is_new = self._clock(), False
        while True:
            due_in_s = max(0.0, drawn_at + (REDRAW_S if is_new else TICK_S) - self._clock())
            try:
                step = self._steps.get(timeout=due_in_s)
            except queue.Empty:
                self._show(update=True)
                drawn_at, is_new = self._clock(), False
                continue
            if step is None:
                break
            self._picture, is_new = step(self._picture), True
        self._show(update=True)

    def _show(self, *, update: bool) -> None:
        now = self._clock()
        data: dict[str, Any] = {
            "text/plain": as_text(self._picture, self._varied, now),
            "text/html": as_html(self._picture, self._varied, now),
        }
        with suppress(Exception):  # a notebook that has gone must not end a sweep
            self._publish(data, transient=self._display, update=update)


__all__ = ["NotebookCell", "find_publisher"]
