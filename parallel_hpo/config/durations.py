"""Durations such as `3h30m`, and deadlines as moments; without pydantic, which a server does without."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Final

UNITS_S: Final = {"w": 604800.0, "d": 86400.0, "h": 3600.0, "m": 60.0, "s": 1.0}
_DURATION: Final = re.compile(
    "".join(rf"(?:(?P<{unit}>\d+(?:\.\d+)?)\s*{unit}\s*)?" for unit in UNITS_S), re.ASCII | re.IGNORECASE
)


def deadline_at(deadline: str, began_at: float) -> float:
    """Return the moment in seconds since the epoch; a duration is counted from `began_at`."""
    seconds = duration_s(deadline)
    return began_at + seconds if seconds is not None else datetime.fromisoformat(deadline).timestamp()


def is_duration(deadline: str) -> bool:
    """Whether each launch has a time of its own until the deadline."""
    return duration_s(deadline) is not None


def duration_s(text: str) -> float | None:
    """Return the seconds of a text such as `3h30m`; None where it is no duration."""
    found = _DURATION.fullmatch(text.strip())
    if found is None or not any(found.groups()):
        return None
    return sum(float(number) * UNITS_S[unit] for unit, number in found.groupdict().items() if number)
