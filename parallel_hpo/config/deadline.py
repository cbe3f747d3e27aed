"""The key `deadline` of the `hpo` section: a duration, or a time of day with its date. Pure.

Whatever was written, the section has it as text: `5400s`, `1h30m`, or a time with its zone, so that
every machine of a sweep reads the same moment.
"""

from __future__ import annotations

import re
from datetime import datetime
from decimal import Decimal
from typing import Annotated, Any, Final

from pydantic import BeforeValidator, WithJsonSchema

from parallel_hpo.config.durations import duration_s
from parallel_hpo.config.tables import Allowed

_NUMBER: Final = re.compile(r"\d+(\.\d+)?", re.ASCII)
_DATE_ALONE: Final = len("2026-12-24")


def _as_text(value: Any) -> str | None:
    """Return a deadline as text, a local time with its zone; ValueError for what is none."""
    if value is None or isinstance(value, datetime):
        return None if value is None else _with_zone(value)
    if isinstance(value, int | float) and not isinstance(value, bool):
        value = f"{Decimal(str(value)).normalize():f}s"  # digits alone: 1e-05s is no duration
    if not isinstance(value, str):
        raise ValueError("no deadline")
    if _NUMBER.fullmatch(value.strip()):  # as a flag or the environment has it
        return _as_text(float(value))
    seconds = duration_s(value)
    if seconds is not None:
        if not 0 < seconds < float("inf"):
            raise ValueError("no time at all, or no end of it")
        return value.strip()
    if len(value.strip()) <= _DATE_ALONE:
        raise ValueError("a day, of which no time is said")
    return _with_zone(datetime.fromisoformat(value.strip()))


def _with_zone(moment: datetime) -> str:
    try:
        return moment.astimezone().isoformat()
    except (OverflowError, OSError):
        raise ValueError("beyond what a clock can say") from None


Deadline = Annotated[
    str | None,
    BeforeValidator(_as_text),
    Allowed(
        "a number of seconds above 0, a duration (22s, 3h30m, 1d), a time of day with its date"
        " (2026-12-24 18:00), or null"
    ),
    WithJsonSchema(
        {"anyOf": [{"type": "number", "exclusiveMinimum": 0}, {"type": "string"}, {"type": "null"}]}
    ),
]
