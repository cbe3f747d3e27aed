"""What processes of this room tell each other: one message a line, as JSON."""

from __future__ import annotations

import json
from typing import Any, TypeVar

from parallel_hpo.protocol.wire import as_json, read

Told = TypeVar("Told")


def to_line(message: Any) -> str:
    """Return a message as a line, its end included."""
    return json.dumps(as_json(message)) + "\n"


def read_line(kind: type[Told], line: bytes | str) -> Told:
    """Return the message of that kind; ValueError where the line is none, or was cut short."""
    return read(kind, json.loads(line))
