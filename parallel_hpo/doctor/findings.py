"""Findings of the doctor, and the messages by which it examines a cluster's machines.

doctor ── MachineCheck, in a variable ───▶ engine ─▶ python -m parallel_hpo.doctor, on the machine
       ◀─ the last line of its output ──── engine ◀─┘

An engine passes on only the tail of a node's output, so the line is short; good findings are left out first.
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
    """Severity of a finding."""

    GOOD = "good"
    WARNING = "warning"
    BAD = "bad"
    """A sweep would fail, or not do as it was asked."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the report; `advice` says what to do, if anything."""

    level: Level
    subject: str
    text: str
    advice: str = ""


def good(subject: str, text: str) -> Finding:
    """Return a finding that needs no action."""
    return Finding(Level.GOOD, subject, text)


def warning(subject: str, text: str, advice: str) -> Finding:
    """Return a finding that may explain a surprise."""
    return Finding(Level.WARNING, subject, text, advice)


def bad(subject: str, text: str, advice: str) -> Finding:
    """Return a finding that needs action."""
    return Finding(Level.BAD, subject, text, advice)


QUESTION: Final = "PARALLEL_HPO_EXAMINE"
"""Variable with the MachineCheck."""
BEGINNING: Final = "parallel_hpo found: "
MOST_BYTES: Final = 1800
"""Maximum size of the line in bytes; an engine keeps 2000, some of which may be printed after it."""
_WORSE: Final = (Level.BAD, Level.WARNING, Level.GOOD)


@dataclass(frozen=True, slots=True)
class ServerToReach:
    """A server that a node must reach."""

    what: str
    """Displayed name: the coordinator, W&B."""
    url: str


@dataclass(frozen=True, slots=True)
class MachineCheck:
    """The request to examine a machine."""

    name: str
    """The engine's name of the machine."""
    versions: Versions
    """The coordinator's versions."""
    servers: tuple[ServerToReach, ...]
    section: Mapping[str, Any]
    """The nodes' section, as in a configuration file."""
    main: str = field(default="", repr=False)
    """The runs' `main` as in a pool; '' if unknown."""


def to_text(question: MachineCheck) -> str:
    """Return the request as text for a variable."""
    return json.dumps(as_json(question))


def from_text(text: str) -> MachineCheck:
    """Return the request in a variable's text; ValueError if it is not one."""
    return read(MachineCheck, json.loads(text))


def to_line(findings: Sequence[Finding], most_bytes: int = MOST_BYTES) -> str:
    """Return findings as a line of at most `most_bytes` bytes, with the number of those left out."""
    by_need = sorted(range(len(findings)), key=lambda index: _WORSE.index(findings[index].level))
    for number in range(len(findings), 0, -1):
        kept = [findings[index] for index in sorted(by_need[:number])]
        if left := len(findings) - number:
            kept.append(good("the rest", f"{left} more findings did not fit in the machine's answer"))
        line = _packed(kept)
        if len(line) <= most_bytes:
            return line
    return _packed([])


def from_output(output: str) -> tuple[Finding, ...] | None:
    """Return the findings in a machine's output; None if there are none."""
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
