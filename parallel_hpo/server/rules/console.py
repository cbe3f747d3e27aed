"""A run's console output, line by line, as the client sent it: `ERROR <time> <text>` for stderr. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class LogLine:
    """One line; `timestamp` in ISO 8601, or None where the client sent none."""

    number: int
    timestamp: str | None
    level: str | None
    label: str | None
    line: str


def read_line(number: int, text: str) -> LogLine:
    """Take a stored line apart."""
    level = "error" if text.startswith("ERROR ") else None
    rest = text.removeprefix("ERROR ")
    stamp, space, line = rest.partition(" ")
    if not space or not _is_time(stamp):
        return LogLine(number, None, level, None, rest)
    return LogLine(number, f"{stamp}Z", level, None, line)


def _is_time(text: str) -> bool:
    try:
        datetime.fromisoformat(text)
    except ValueError:
        return False
    return "T" in text
