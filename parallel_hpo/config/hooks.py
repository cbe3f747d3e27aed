"""What the keys `on_end`, `on_failure` and `notify` of the `hpo` section may hold."""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from typing import Annotated, Any, Final

from pydantic import AfterValidator, BeforeValidator, WithJsonSchema

from parallel_hpo.config.tables import Allowed

COMMAND_FORMAT: Final = "command"
"""What the JSON Schema calls a command, whichever way it is written."""


def words_of(command: str | Sequence[str]) -> tuple[str, ...]:
    """Return a command's words: a text is split as a shell would, and nothing in it is expanded."""
    return tuple(shlex.split(command) if isinstance(command, str) else command)


def _as_list(value: Any) -> Any:
    """Read a list that a flag or the environment gives as JSON; other text is the command itself."""
    if isinstance(value, str) and value.startswith("["):
        try:
            return json.loads(value)
        except ValueError:
            return value  # `[` is a command too
    return value


def _has_words(command: str | list[str]) -> str | list[str]:
    if not words_of(command) or not words_of(command)[0]:
        raise ValueError("empty")
    return command


def _alone(value: Any) -> Any:
    """Take one address for a list of one."""
    return [value] if isinstance(value, str) else value


Command = Annotated[
    str | list[str] | None,
    BeforeValidator(_as_list),
    AfterValidator(lambda command: command if command is None else _has_words(command)),
    Allowed("a command: a text that is split as a shell would, a list of words, or null"),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "string", "format": COMMAND_FORMAT},
                {"type": "array", "minItems": 1, "items": {"type": "string"}, "format": COMMAND_FORMAT},
                {"type": "null"},
            ]
        }
    ),
]
Addresses = Annotated[
    list[str],
    BeforeValidator(_alone),
    Allowed("a list of Apprise addresses, such as mailto://… or slack://…"),
]
