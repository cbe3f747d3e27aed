"""Shows the same traceback once, and after that only that it came again, and how often.

A sweep's runs fail alike: fifty copies of one traceback hide everything else. And one failure is printed
twice where `main` fails within `with wandb.init()`: by the client, from there on, then by the worker, with
what called that. The workers' logs keep them all. Pure but for its memory; used by one thread.
"""

from __future__ import annotations

from collections import Counter
from typing import Final

from parallel_hpo.words import Slot

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
