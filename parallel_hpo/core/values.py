"""Metric values of runs, nested values by name and as strict JSON, durations, and text to show. Pure.

A run's value is the sweep's metric in its summary: a number (the last one logged, or set by the user), or
for `define_metric(summary=…)` one entry of an object:

    the goal's extremum ("min" or "max") ─▶ "best" ─▶ "mean" ─▶ "last" ─▶ the only other one

While a run is active, its value follows from its history in the same way. Without pydantic, for the server.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import fields, is_dataclass, replace
from datetime import datetime
from enum import Enum
from typing import Any, Final, TypeVar, cast

MISSING: Final = object()
_LAST: Final = "last"


def lookup(values: Mapping[str, Any], name: str) -> Any:
    """Return the value called `name`, whose dots may lead into nested objects, or MISSING."""
    if name in values:
        return values[name]
    value: Any = values
    for part in name.split("."):
        if not isinstance(value, Mapping) or part not in value:
            return MISSING
        value = value[part]
    return value


def find_value(summary: Mapping[str, Any], name: str, goal: str) -> float | None:
    """Return the metric `name` of a summary or row if it is a finite number, else None."""
    value = counting(lookup(summary, name), goal)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None  # an integer may have any length
    return number if math.isfinite(number) else None


def counting(value: Any, goal: str) -> Any:
    """Return the value of a summary's entry: of an object the entry that counts, if known."""
    entry = _entry(value, goal)
    return value if entry is None else value[entry]


def statistic(summary: Mapping[str, Any], name: str, goal: str) -> str:
    """Return which statistic of the logged values a summary's value is: `min`, `mean` and so on.

    wandb client: the summary has it with or before the first row. `_wandb.value.m` of the run's config comes
    later, has globs, and has the definition of a dotted key even if it has no effect.
    """
    return _entry(lookup(summary, name), goal) or _LAST


def values_so_far(
    logged: Iterable[float], statistic: str, goal: str, *, rows: int = 0, value: float | None = None
) -> Iterator[float]:
    """Yield the summary's value after each logged value; `value` is that after `rows` earlier ones."""
    for count, new in enumerate(logged, rows + 1):
        value = new if value is None or count == 1 else _then(statistic, goal, value, new, count)
        yield value


def _then(statistic: str, goal: str, value: float, new: float, count: int) -> float:
    match statistic:
        case "best":
            return _then(_extremum(goal), goal, value, new, count)
        case "min":
            return min(value, new)
        case "max":
            return max(value, new)
        case "mean":
            return value + (new - value) / count
        case "first":
            return value
    return new


def _entry(value: Any, goal: str) -> str | None:
    """Return the key of the entry that counts in an object of statistics; None for other values."""
    if not isinstance(value, Mapping) or "_type" in value:
        return None
    known = (key for key in (_extremum(goal), "best", "mean", _LAST) if key in value)
    return next(known, next(iter(value)) if len(value) == 1 else None)


def _extremum(goal: str) -> str:
    return "max" if goal == "maximize" else "min"


NestedName = tuple[str, ...]


def leaves(values: Mapping[str, Any], outer: NestedName = ()) -> Iterator[tuple[NestedName, Any]]:
    """Yield each innermost value with its names from the outside in.

    An empty object is a value, and so are W&B's media.
    """
    for name, value in values.items():
        if isinstance(value, dict) and value and "_type" not in value:
            yield from leaves(value, (*outer, name))
        else:
            yield (*outer, name), value


def dotted(values: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield each innermost value with its dotted name."""
    for names, value in leaves(values):
        yield ".".join(names), value


def strict(value: Any) -> Any:
    """Return a value for strict JSON: NaN and infinities become strings that wandb reads back."""
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    if isinstance(value, Mapping):
        return {key: strict(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [strict(item) for item in value]
    return value


UNITS_S: Final = {"w": 604800.0, "d": 86400.0, "h": 3600.0, "m": 60.0, "s": 1.0}
_DURATION: Final = re.compile(
    "".join(rf"(?:(?P<{unit}>\d+(?:\.\d+)?)\s*{unit}\s*)?" for unit in UNITS_S), re.ASCII | re.IGNORECASE
)


def deadline_at(deadline: str, began_at: float) -> float:
    """Return a deadline in seconds since the epoch; a duration counts from `began_at`."""
    seconds = duration_s(deadline)
    return began_at + seconds if seconds is not None else datetime.fromisoformat(deadline).timestamp()


def is_duration(deadline: str) -> bool:
    """Return whether the deadline is a duration, which each launch counts from its own start."""
    return duration_s(deadline) is not None


def duration_s(text: str) -> float | None:
    """Return the seconds of a text such as `3h30m`; None if it is not a duration."""
    found = _DURATION.fullmatch(text.strip())
    if found is None or not any(found.groups()):
        return None
    return sum(float(number) * UNITS_S[unit] for unit, number in found.groupdict().items() if number)


TRACEBACK: Final = "Traceback (most recent call last):"
WORDS_CHARS: Final = 500
"""Maximum length of last words."""
_COLOURS: Final = re.compile(r"\x1b\[[0-9;]*m")


def last_words(printed: str, *, ignored: str | None = None) -> str:
    """Return the last exception in a process's output with its message, else the last line, or ''.

    Lines that begin with `ignored` are skipped.
    """
    lines = [line for line in _COLOURS.sub("", printed).splitlines() if line.strip()]
    if ignored is not None:
        lines = [line for line in lines if not line.startswith(ignored)]
    if TRACEBACK not in lines:
        return _in_one_line(lines[-1:])
    message = lines[len(lines) - lines[::-1].index(TRACEBACK) :]
    while message and message[0].startswith(" "):  # frames: files, source, markers
        del message[0]
    return _in_one_line(message)


def _in_one_line(lines: list[str]) -> str:
    return " ".join(" ".join(lines).split())[:WORDS_CHARS]


# --- text for terminals ----------------------------------------------------------------
# Control characters could set the terminal's title, move its cursor or write to its clipboard. All text that
# users and their runs have written is shown by these functions.

ShownT = TypeVar("ShownT")

_CONTROL: Final = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")
"""All but tab and line feed: C0, DEL, C1, and what changes the direction or the lines of text."""
_COLOUR: Final = r"\x1b\[[0-9;:]*m"
"""SGR, which changes the looks of text alone."""
_ERASE: Final = r"\x1b\[[0-2]?K|\x1b\(B"
"""What progress bars and `tput` add to each line, and a whole line has no need of."""
_OUTPUT: Final = re.compile(f"({_COLOUR})|({_ERASE})|({_CONTROL.pattern})")


def visible(text: str) -> str:
    r"""Return a text with its control characters as escapes, such as `\x1b`; tabs and line feeds stay."""
    return _CONTROL.sub(_escape, text)


def visible_on_one_line(text: str) -> str:
    r"""Return the same with line feeds as `\n`, and tabs as `\t`."""
    return visible(text).replace("\n", "\\n").replace("\t", "\\t")


def visible_output(line: str) -> str:
    """Return a line that a worker has printed, with its colours; other control characters as escapes."""
    return line if line.isprintable() else _OUTPUT.sub(_of_output, line)


def visible_value(value: ShownT) -> ShownT:
    """Return a value with all texts in it made visible, in dataclasses and containers, too."""
    return cast(ShownT, _visible_value(value))


def _visible_value(value: Any) -> Any:
    if isinstance(value, str):
        return value if isinstance(value, Enum) or value.isprintable() else visible(value)
    if isinstance(value, dict):
        return {_visible_value(key): _visible_value(each) for key, each in value.items()}
    if type(value) in (list, tuple):
        return type(value)(map(_visible_value, value))
    if is_dataclass(value) and not isinstance(value, type):
        old = {field.name: getattr(value, field.name) for field in fields(value) if field.init}
        new = {name: _visible_value(each) for name, each in old.items()}
        changed = {name: each for name, each in new.items() if each != old[name]}
        return replace(value, **changed) if changed else value
    return value


def _of_output(match: re.Match[str]) -> str:
    colour, _, control = match.groups()
    return colour or (_escape(control) if control else "")


def _escape(found: re.Match[str] | str) -> str:
    code = ord(found if isinstance(found, str) else found[0])
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"
