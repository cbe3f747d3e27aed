"""The live display of a sweep in the notebook cell that started it, as HTML and text. All texts are escaped.

    any thread ── notice ──▶ queue ──▶ one writer thread ── display_id ──▶ the cell

Updates by `display_id` reach their cell while another one runs; output that a thread prints would not.
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
from parallel_hpo.core.values import visible, visible_value
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
"""Number of latest runs and warnings that are shown; summary and logs have all."""

HEADINGS: Final = ("worker", "run", "outcome", "value", "time", "parameters")
STARTING: Final = "opening the sweep"
SHOWN_RUNNING: Final = 32
"""Maximum number of workers with a row; the rest are only counted."""
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
    running: Mapping[Slot, RunBegan] = field(default_factory=dict)
    ended: tuple[EndedRun, ...] = ()
    """The last runs, latest first."""
    best: EndedRun | None = None
    warnings: tuple[Notice, ...] = ()
    end: tuple[str, ...] = ()
    """Lines that are shown after the sweep's end."""


def advance_view(view: NotebookView, notice: Notice, now: float) -> NotebookView:
    """Return the view after a notice at `now` (monotonic seconds)."""
    changed = replace(view, counts=advance(view.counts, notice, now))
    match notice:
        case RunBegan(slot=slot):
            return replace(changed, running={**view.running, slot: notice})
        case RunOver():
            return _after_run(changed, notice)
        case Message(warning=True) | MissingMetric():
            return replace(changed, warnings=(*view.warnings, notice)[-SHOWN_WARNINGS:])
    return changed


def _after_run(view: NotebookView, over: RunOver) -> NotebookView:
    began = view.running.get(over.slot)
    running = {slot: run for slot, run in view.running.items() if slot != over.slot}
    if over.again:
        return replace(view, running=running)
    ended = EndedRun(over, began.parameters if began else {})
    is_best = over.outcome is Outcome.FINISHED and over.value is not None and over.value == view.counts.best
    return replace(
        view,
        running=running,
        ended=(ended, *view.ended)[:SHOWN_ENDS],
        best=ended if is_best else view.best,
    )


def as_text(view: NotebookView, varied: Varied, now: float) -> str:
    """Return the view at `now` (on the counts' clock) as text."""
    rows = [HEADINGS, *rows_of(view, varied)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEADINGS))]
    table = ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows] if len(rows) > 1 else []
    return "\n".join([*_above(view, varied, now), *table, *_below(view)])


def as_html(view: NotebookView, varied: Varied, now: float) -> str:
    """Return the view as HTML with a progress bar, a link and a table, in the notebook's style."""
    first, *more = _above(view, varied, now)
    parts = [f"<div><b>{escape(first)}</b></div>", _bar(view)]
    parts.extend(f"<div>{_linked(line, view)}</div>" for line in more)
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
    for slot, run in sorted(view.running.items())[:SHOWN_RUNNING]:
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
    if view.best and view.best.over.value is not None and not view.end:
        found = metric_value(view.counts, view.best.over.value)
        yield f"best: run {view.best.over.run_id}  {found}  {brief(view.best.parameters, varied)}"


def _below(view: NotebookView) -> Iterator[str]:
    if (more := len(view.running) - SHOWN_RUNNING) > 0:
        yield f"and {more} more running"
    for notice in view.warnings:
        if line := describe(notice, view.counts, None, Verbosity.NORMAL):
            yield line.plain
    yield from view.end[1:]


def _bar(view: NotebookView) -> str:
    count = view.counts.opened.count if view.counts.opened else None
    return f'<progress max="{count}" value="{view.counts.over}"></progress>' if count else ""


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
        """Show the sweep by `publish`; `varied`: names of parameters to show; `clock` in seconds."""
        super().__init__("parallel_hpo cell")
        self._publish = publish
        self._varied = varied
        self._clock = clock
        self._display = {"display_id": f"parallel_hpo-{uuid4().hex}"}
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
