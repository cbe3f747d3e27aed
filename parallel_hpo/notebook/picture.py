"""What a cell shows of a sweep, as a picture that grows with each notice; as HTML, and as text: pure.

Text is for where there is no HTML. Nothing that a run or a user has said becomes markup: all is escaped.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from html import escape
from typing import Final

from parallel_hpo.notices import Message, Notice, RunBegan, RunOver
from parallel_hpo.protocol.messages import MissingMetric
from parallel_hpo.ui.tally import Tally, advance
from parallel_hpo.ui.wording import Varied, Verbosity, brief, describe, duration, metric_value, progress
from parallel_hpo.words import Outcome, Parameters, Slot

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
class Picture:
    """Where a sweep stands."""

    tally: Tally = field(default_factory=Tally)
    running: Mapping[Slot, RunBegan] = field(default_factory=dict)
    ended: tuple[EndedRun, ...] = ()
    """The last ones, the latest first."""
    best: EndedRun | None = None
    warnings: tuple[Notice, ...] = ()
    end: tuple[str, ...] = ()
    """What is said once the sweep is over, line by line."""


def draw(picture: Picture, notice: Notice, now: float) -> Picture:
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


def _after_run(picture: Picture, over: RunOver) -> Picture:
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


def as_text(picture: Picture, varied: Varied, now: float) -> str:
    """Return what is shown at `now` (on the tally's clock), as lines."""
    rows = [HEADINGS, *rows_of(picture, varied)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEADINGS))]
    table = ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows] if len(rows) > 1 else []
    return "\n".join([*_above(picture, varied, now), *table, *_below(picture)])


def as_html(picture: Picture, varied: Varied, now: float) -> str:
    """Return the same with a bar, a link and a table; its looks are the notebook's own."""
    first, *more = _above(picture, varied, now)
    parts = [f"<div><b>{escape(first)}</b></div>", _bar(picture)]
    parts.extend(f"<div>{_linked(line, picture)}</div>" for line in more)
    if rows := list(rows_of(picture, varied)):
        body = "".join(_html_row(row, "td") for row in rows)
        parts.append(f"<table>{_html_row(HEADINGS, 'th')}{body}</table>")
    parts.extend(f"<div>{escape(line)}</div>" for line in _below(picture))
    return f"<div>{''.join(parts)}</div>"


def _linked(line: str, picture: Picture) -> str:
    """Return a line as HTML, in which the sweep's address can be clicked."""
    url = escape(picture.tally.opened.url if picture.tally.opened else "")
    if not url.startswith(("http://", "https://")):
        return escape(line)
    return escape(line).replace(url, f'<a href="{url}" target="_blank" rel="noopener">{url}</a>')


def rows_of(picture: Picture, varied: Varied) -> Iterator[Row]:
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


def _ended_row(run: EndedRun, picture: Picture, varied: Varied) -> Row:
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


def _above(picture: Picture, varied: Varied, now: float) -> Iterator[str]:
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


def _below(picture: Picture) -> Iterator[str]:
    if (more := len(picture.running) - SHOWN_RUNNING) > 0:
        yield f"and {more} more running"
    for notice in picture.warnings:
        if line := describe(notice, picture.tally, None, Verbosity.NORMAL):
            yield line.plain
    yield from picture.end[1:]


def _bar(picture: Picture) -> str:
    count = picture.tally.opened.count if picture.tally.opened else None
    return f'<progress max="{count}" value="{picture.tally.over}"></progress>' if count else ""


def _html_row(cells: Row, tag: str) -> str:
    return f"<tr>{''.join(f'<{tag}>{escape(cell)}</{tag}>' for cell in cells)}</tr>"
