"""Makes control characters visible in text that is shown on a terminal: what users and their runs say.

Otherwise such text could set the terminal's title, move its cursor or write to its clipboard. Whatever shows
text to a person passes it through here. Pure.
"""

from __future__ import annotations

import re
from dataclasses import fields, is_dataclass, replace
from enum import Enum
from typing import Any, Final, TypeVar, cast

_Value = TypeVar("_Value")

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


def visible_value(value: _Value) -> _Value:
    """Return a value with all texts in it made visible, in dataclasses and containers, too."""
    return cast(_Value, _visible_value(value))


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
