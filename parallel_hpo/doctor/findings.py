"""What the doctor says: a subject, a state, and what to do where it is not good."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Level(StrEnum):
    """How a thing is."""

    GOOD = "good"
    WARNING = "warning"
    BAD = "bad"
    """A sweep would fail, or do other than it was asked to."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One line; `advice` says what to do, and is empty where there is nothing to."""

    level: Level
    subject: str
    text: str
    advice: str = ""


def good(subject: str, text: str) -> Finding:
    """Return a finding that asks for nothing."""
    return Finding(Level.GOOD, subject, text)


def warning(subject: str, text: str, advice: str) -> Finding:
    """Return a finding that may explain a surprise."""
    return Finding(Level.WARNING, subject, text, advice)


def bad(subject: str, text: str, advice: str) -> Finding:
    """Return a finding that has to be dealt with."""
    return Finding(Level.BAD, subject, text, advice)
