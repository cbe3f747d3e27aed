"""The live display of a sweep in the notebook cell that started it, as HTML and text. All texts are escaped.

    any thread ── notice ──▶ queue ──▶ one writer thread ── display_id ──▶ the cell

Updates by `display_id` reach their cell while another one runs; output that a thread prints would not.
"""

from __future__ import annotations

import queue
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from html import escape
from typing import TYPE_CHECKING, Any, Final
from uuid import uuid4

from parallel_hpo.core.messages import MissingMetric
from parallel_hpo.core.notices import Message, Notice, OutputLine, RunOver
from parallel_hpo.core.types import Outcome, Parameters
from parallel_hpo.core.values import visible, visible_value
from parallel_hpo.display.terminal import Writer
from parallel_hpo.display.text import (
    RunCounts,
    Varied,
    Verbosity,
    advance,
    best_so_far,
    brief,
    describe,
    describe_result,
    duration,
    is_left_over,
    metric_name,
    metric_value,
    progress,
    some,
)

if TYPE_CHECKING:
    from parallel_hpo.analysis.result import SweepResult

SHOWN_ENDS: Final = 5
SHOWN_WARNINGS: Final = 5
"""Number of latest runs and warnings that are shown; summary and logs have all."""

HEADINGS: Final = ("worker", "run", "outcome", "value", "time", "parameters")
STARTING: Final = "opening the sweep"
SHOWN_RUNNING: Final = 32
"""Maximum number of workers with a row; the rest are only counted."""
_WIDTH, _HEIGHT, _LEFT = 480, 100, 72
"""Size of the curve and start of its axis, in pixels."""
_WIDE: Final = f'style="display: block; width: 100%; max-width: {_WIDTH}px; margin: 4px 0"'
Row = tuple[str, ...]
"""The cells of a run, in the order of the headings."""


@dataclass(frozen=True, slots=True)
class EndedRun:
    """An ended run with its parameters."""

    over: RunOver
    parameters: Parameters


@dataclass(frozen=True, slots=True)
class NotebookView:
    """The state of a sweep as the cell shows it."""

    counts: RunCounts = field(default_factory=RunCounts)
    ended: tuple[EndedRun, ...] = ()
    """The last runs, latest first."""
    warnings: tuple[Notice, ...] = ()
    end: tuple[str, ...] = ()
    """Lines that are shown after the sweep's end."""


def advance_view(view: NotebookView, notice: Notice, now: float) -> NotebookView:
    """Return the view after a notice at `now` (monotonic seconds)."""
    changed = replace(view, counts=advance(view.counts, notice, now))
    match notice:
        case RunOver(again=False):
            began = view.counts.running.get(notice.slot)
            ended = EndedRun(notice, began.parameters if began else {})
            return replace(changed, ended=(ended, *view.ended)[:SHOWN_ENDS])
        case Message(warning=True) | MissingMetric():
            return replace(changed, warnings=(*view.warnings, notice)[-SHOWN_WARNINGS:])
    return changed


def as_text(view: NotebookView, varied: Varied, now: float) -> str:
    """Return the view at `now` (on the counts' clock) as text."""
    rows = [HEADINGS, *rows_of(view, varied)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEADINGS))]
    table = ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows] if len(rows) > 1 else []
    return "\n".join([*_above(view, varied, now), *table, *_below(view)])


def as_html(view: NotebookView, varied: Varied, now: float) -> str:
    """Return the view as HTML in the notebook's style: progress bar, link, curve of the best value, table."""
    first, *more = _above(view, varied, now)
    parts = [f"<div><b>{escape(first)}</b></div>", _bar(view)]
    parts.extend(f"<div>{_linked(line, view)}</div>" for line in more)
    parts.append(_curve(view.counts))
    if rows := list(rows_of(view, varied)):
        body = "".join(_html_row(row, "td") for row in rows)
        parts.append(f"<table>{_html_row(HEADINGS, 'th')}{body}</table>")
    parts.extend(f"<div>{escape(line)}</div>" for line in _below(view))
    return f"<div>{''.join(parts)}</div>"


def _linked(line: str, view: NotebookView) -> str:
    """Return a line as HTML, with a link for the sweep's URL."""
    url = escape(view.counts.opened.url if view.counts.opened else "")
    if not url.startswith(("http://", "https://")):
        return escape(line)
    return escape(line).replace(url, f'<a href="{url}" target="_blank" rel="noopener">{url}</a>')


def rows_of(view: NotebookView, varied: Varied) -> Iterator[Row]:
    """Yield the running runs by slot, then the last ended ones."""
    for slot, run in sorted(view.counts.running.items())[:SHOWN_RUNNING]:
        again = f" again ({run.attempt})" if run.attempt > 1 else ""
        yield (
            view.counts.name_of(slot),
            str(run.run_id),
            f"running{again}",
            "",
            "",
            brief(run.parameters, varied),
        )
    for ended in view.ended:
        yield _ended_row(ended, view, varied)


def _ended_row(run: EndedRun, view: NotebookView, varied: Varied) -> Row:
    over = run.over
    reason = f": {over.reason}" if over.reason and over.outcome is not Outcome.FINISHED else ""
    value = "" if over.value is None else f"{over.value:.6g}"
    return (
        view.counts.name_of(over.slot),
        str(over.run_id),
        f"{over.outcome}{reason}",
        value,
        duration(over.duration_s),
        brief(run.parameters, varied),
    )


def _above(view: NotebookView, varied: Varied, now: float) -> Iterator[str]:
    opened = view.counts.opened
    if view.end:
        yield view.end[0]
    else:
        yield progress(view.counts, now).plain if opened else STARTING
    if opened:
        yield f"sweep {opened.path} ({opened.backend}): {opened.url}"
    best = best_so_far(view.counts, varied)
    if best is not None and not view.end:
        yield best.plain


def _below(view: NotebookView) -> Iterator[str]:
    if (more := len(view.counts.running) - SHOWN_RUNNING) > 0:
        yield f"and {more} more running"
    for notice in view.warnings:
        if line := describe(notice, view.counts, None, Verbosity.NORMAL):
            yield line.plain
    yield from view.end[1:]


def _bar(view: NotebookView) -> str:
    count = view.counts.opened.count if view.counts.opened else None
    return f'<progress max="{count}" value="{view.counts.over}" {_WIDE}></progress>' if count else ""


def _curve(counts: RunCounts) -> str:
    """Return the best value so far over the ended runs as a picture; empty if there is one run only."""
    if not counts.improvements or counts.over < 2:
        return ""
    values = [each.value for each in counts.improvements]
    low, high = min(values), max(values)

    def x(ended: int) -> float:
        return _LEFT + (ended - 1) / (counts.over - 1) * (_WIDTH - _LEFT - 6)

    def y(value: float) -> float:
        return 8 + (high - value) / ((high - low) or 1.0) * (_HEIGHT - 32)

    first, *others = counts.improvements
    steps = "".join(f"H{x(each.ended):.1f}V{y(each.value):.1f}" for each in others)
    path = f"M{x(first.ended):.1f} {y(first.value):.1f}{steps}H{x(counts.over):.1f}"
    label = f"best {metric_value(counts, values[-1])} so far, after {some(counts.over, 'ended run')}"
    texts = [(y(value) + 4, "end", _LEFT - 8, f"{value:.4g}") for value in sorted({low, high})]
    texts.append(
        (_HEIGHT - 4, "start", _LEFT, f"best {metric_name(counts)} so far over {counts.over} ended runs")
    )
    words = "".join(
        f'<text x="{left}" y="{down:.1f}" text-anchor="{anchor}">{escape(text)}</text>'
        for down, anchor, left, text in texts
    )
    return (
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{escape(label)}" {_WIDE} '
        f'font-size="11" fill="currentColor"><path d="{path}" fill="none" stroke="#2a78d6" '
        f'stroke-width="2"/>{words}</svg>'
    )


def _html_row(cells: Row, tag: str) -> str:
    return f"<tr>{''.join(f'<{tag}>{escape(cell)}</{tag}>' for cell in cells)}</tr>"


REDRAW_S: Final = 0.5
"""Minimum time between two updates of the cell, in seconds."""
TICK_S: Final = 5.0
"""Time between updates without notices, in seconds: the remaining time changes."""

Publish = Callable[..., object]
"""IPython's `publish_display_data`."""
_Step = Callable[[NotebookView], NotebookView]


def find_publisher() -> Publish | None:
    """Return the publish function of this notebook; None if this process is not a notebook's kernel."""
    if getattr(_shell(), "kernel", None) is None:
        return None
    from IPython.display import publish_display_data

    return publish_display_data


def find_cell() -> int | None:
    """Return the number of the cell that this notebook executes; None outside of one."""
    number: int | None = getattr(_shell(), "execution_count", None)
    return number


def _shell() -> Any:
    return getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()


class NotebookCell(Writer[_Step]):
    """Shows notices and the result; a context manager, callable from any thread."""

    shows_memory: Final = False

    def __init__(
        self,
        publish: Publish,
        *,
        varied: Varied = None,
        clock: Callable[[], float] = time.monotonic,
        find_cell: Callable[[], int | None] = find_cell,
    ) -> None:
        """Show the sweep by `publish`; `varied`: names of parameters to show; `clock` in seconds."""
        super().__init__("parallel_hpo cell")
        self._publish = publish
        self._varied = varied
        self._clock = clock
        self._display = {"display_id": f"parallel_hpo-{uuid4().hex}"}
        self._find_cell = find_cell
        self._number = find_cell()
        self._view = NotebookView()
        self._show(update=False)  # in the cell's own thread, which creates the output in this cell

    def __call__(self, notice: Notice) -> None:
        """Queue a notice; the output of runs is only in their logs."""
        if not isinstance(notice, OutputLine):
            shown, now = visible_value(notice), self._clock()
            self._steps.put(lambda view: advance_view(view, shown, now))

    def conclude(self, result: SweepResult, *, go_on: str = "") -> None:
        """Queue the result, shown last; `go_on`: the command that resumes an incomplete sweep."""

        def end(view: NotebookView) -> NotebookView:
            shown = describe_result(visible_value(result), view.counts, self._varied)
            lines = [line.plain for line in shown]
            if go_on and is_left_over(result):
                lines.append(f"resume with: {visible(go_on)}")
            return replace(view, end=tuple(lines))

        self._steps.put(end)

    def html(self) -> str | None:
        """Return what the cell shows; None in this cell itself, which shows it."""
        if self._find_cell() == self._number:
            return None
        return as_html(self._view, self._varied, self._clock())

    def _write(self) -> None:
        """Perform the steps until the end, and show the result of each."""
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
            self._view, is_new = step(self._view), True
        self._show(update=True)

    def _show(self, *, update: bool) -> None:
        now = self._clock()
        data: dict[str, Any] = {
            "text/plain": as_text(self._view, self._varied, now),
            "text/html": as_html(self._view, self._varied, now),
        }
        with suppress(Exception):  # a closed notebook must not end the sweep
            self._publish(data, transient=self._display, update=update)


__all__ = ["NotebookCell", "find_publisher"]
