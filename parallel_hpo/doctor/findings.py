"""What the doctor says: a subject, a state, and what to do where it is not good.

What the doctor asks a machine of a cluster, and the line in which its findings come back.

doctor ── MachineQuestion, in a variable ─▶ engine ─▶ python -m parallel_hpo.doctor, on the machine
       ◀─ the last line of its output ──── engine ◀─┘

An engine passes on the end of a node's output alone, and so the line is small: where it is too small for
all, what is good is left out first.
"""

from __future__ import annotations

import json
import zlib
from base64 import b85decode, b85encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final

from parallel_hpo.core.pool_messages import Versions, as_json, read


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


QUESTION: Final = "PARALLEL_HPO_EXAMINE"
"""The variable."""
BEGINNING: Final = "parallel_hpo found: "
MOST_BYTES: Final = 1800
"""Of the 2000 that an engine keeps: something may be printed after it."""
_WORSE: Final = (Level.BAD, Level.WARNING, Level.GOOD)


@dataclass(frozen=True, slots=True)
class ServerToReach:
    """A server that a node would have to reach."""

    what: str
    """In words: the head's, W&B's."""
    url: str


@dataclass(frozen=True, slots=True)
class MachineCheck:
    """What a machine is examined for."""

    name: str
    """What the engine calls the machine."""
    versions: Versions
    """The head's."""
    servers: tuple[ServerToReach, ...]
    section: Mapping[str, Any]
    """The nodes' own, as a configuration file has it."""
    main: str = field(default="", repr=False)
    """As a pool has it; '': nobody says what runs would call."""


def to_text(question: MachineCheck) -> str:
    """Return a question as a variable holds it."""
    return json.dumps(as_json(question))


def from_text(text: str) -> MachineCheck:
    """Return the question; ValueError where it is none."""
    return read(MachineCheck, json.loads(text))


def to_line(findings: Sequence[Finding], most_bytes: int = MOST_BYTES) -> str:
    """Return findings as a line of so many bytes at the most; it says how many did not fit."""
    by_need = sorted(range(len(findings)), key=lambda place: _WORSE.index(findings[place].level))
    for number in range(len(findings), 0, -1):
        told = [findings[place] for place in sorted(by_need[:number])]
        if left := len(findings) - number:
            told.append(good("the rest", f"{left} findings more did not fit in the machine's answer"))
        line = _packed(told)
        if len(line) <= most_bytes:
            return line
    return _packed([])


def from_output(output: str) -> tuple[Finding, ...] | None:
    """Return the findings that an output ends with; None where it has none."""
    lines = [line for line in output.splitlines() if line.startswith(BEGINNING)]
    if not lines:
        return None
    try:
        text = zlib.decompress(b85decode(lines[-1].removeprefix(BEGINNING)))
        return tuple(read(Finding, {**each, "level": Level(each["level"])}) for each in json.loads(text))
    except (ValueError, zlib.error):  # cut short
        return None


def _packed(findings: Sequence[Finding]) -> str:
    text = json.dumps([as_json(each) for each in findings])
    return BEGINNING + b85encode(zlib.compress(text.encode(), 9)).decode()
