"""Notices of a sweep of four runs on two workers."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from parallel_hpo.core.notices import Notice, OutputLine, RunBegan, RunOver, SweepOpened
from parallel_hpo.core.types import Outcome, RunId, Slot, SweepId, SweepPath
from parallel_hpo.display.text import RunCounts, advance

PATH: Final = SweepPath("local", "digits", SweepId("s1"))
OPENED: Final = SweepOpened(PATH, "http://x/s1", "local", 4, 2, (2, 2), "/logs/s1", "loss", "minimize")
HOSTILE: Final = "\x1b]0;owned\x07\x9b2J[bold]x[/bold]"
"""A text that would move a terminal's cursor and change its title."""
SEEN: Final = r"\x1b]0;owned\x07\x9b2J[bold]x[/bold]"


def began(number: int = 1, slot: int = 0, *, attempt: int = 1, name: str = "x") -> RunBegan:
    return RunBegan(Slot(slot), RunId(f"r{number}"), attempt, {name: number})


def over(
    number: int = 1,
    value: float | None = None,
    outcome: Outcome = Outcome.FINISHED,
    *,
    slot: int = 0,
    reason: str = "",
    again: bool = False,
) -> RunOver:
    return RunOver(Slot(slot), RunId(f"r{number}"), 1, outcome, reason, value, 1.5, again)


def output(text: str, slot: int = 0) -> OutputLine:
    return OutputLine(Slot(slot), text)


def counts_of(notices: Iterable[Notice], now: float = 0.0) -> RunCounts:
    """Return the counts of a sweep that opened at 0 s, after these notices at `now`."""
    counts = advance(RunCounts(), OPENED, 0.0)
    for notice in notices:
        counts = advance(counts, notice, now)
    return counts
