"""Types of the `hpo` section's keys that are more than a number or a text: nested tables, lists, commands.

The docstring under a key of a table is its option's help text and the JSON Schema's description.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Any, Final, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    WithJsonSchema,
    model_validator,
)


@dataclass(frozen=True, slots=True)
class Allowed:
    """The values that a key allows, for error messages."""

    text: str


STRICT: Final = ConfigDict(
    frozen=True, extra="forbid", strict=True, allow_inf_nan=False, use_attribute_docstrings=True
)
Seconds = Annotated[float, Field(gt=0), Allowed("a number of seconds above 0")]
Limit = Annotated[float | None, Field(gt=0), Allowed("a number of seconds above 0, or null for no limit")]
Most = Annotated[int | None, Field(gt=0), Allowed("a whole number of 1 or more, or null for no limit")]


class Restart(BaseModel):
    """Restart limits of one worker slot."""

    model_config = STRICT

    max_restarts: Annotated[int, Field(ge=0), Allowed("a whole number of 0 or more")] = 5
    """Maximum restarts of a slot within `window_s`, before it stops for good (default: 5)."""
    window_s: Seconds = 600
    """Window in which restarts are counted, in seconds (default: 600)."""
    backoff_s: Seconds = 1
    """Seconds to wait before the second restart in the window, then doubled each time (default: 1)."""
    backoff_max_s: Seconds = 60
    """Longest wait before a restart, in seconds (default: 60)."""


class Failures(BaseModel):
    """Limits of failed runs; a run fails when its `main` raises."""

    model_config = STRICT

    max_consecutive: Most = None
    """Failures in a row that end the sweep (default: no limit)."""
    max_total: Most = None
    """Failures in total that end the sweep (default: no limit)."""
    max_initial: Most = 5
    """Failures before the first finished run that end the sweep (default: 5)."""


class MachineEngine(StrEnum):
    """Cluster engines, which find the machines of a sweep and start a node on each."""

    RAY = "ray"
    DASK = "dask"
    SLURM = "slurm"


class Machines(BaseModel):
    """Many machines for one sweep."""

    model_config = STRICT

    engine: Annotated[
        MachineEngine | None, Field(strict=False), Allowed('"ray", "dask", "slurm", or null')
    ] = None
    """Cluster engine that starts a node per machine (default: none, machines join by `parallel-hpo join`)."""
    count: Annotated[
        Literal["auto"] | Annotated[int, Field(ge=1)], Allowed('"auto" or a whole number of 1 or more')
    ] = "auto"
    """Maximum number of machines; auto: all that the engine has (default: auto)."""
    address: Annotated[str | None, Field(min_length=1), Allowed("what its client takes, or null")] = None
    """Address of the engine, in its own client's form (default: the client's own)."""
    node_timeout_s: Seconds = 300
    """Timeout of a silent machine in seconds; its runs are then requeued elsewhere (default: 300)."""

    @model_validator(mode="before")
    @classmethod
    def _is_an_engine(cls, value: object) -> object:
        """Turn an engine's name into a table."""
        return {"engine": value} if isinstance(value, str) else value


TABLES: Final[dict[str, type[BaseModel]]] = {"restart": Restart, "failures": Failures, "machines": Machines}


class FaultAction(StrEnum):
    """What to do with the worker after a failed run."""

    KEEP = "keep"
    """Keep the worker."""
    RECYCLE = "recycle"
    """Replace the worker's process."""
    QUARANTINE = "quarantine"
    """Replace it, and start no run on its device for a while if there are other devices."""


def _compiles(pattern: str) -> str:
    try:
        re.compile(pattern)
    except re.error as error:
        raise ValueError(f"not a regular expression: {error}") from None
    return pattern


class Fault(BaseModel):
    """A rule for runs whose failure reason contains `pattern`."""

    model_config = STRICT

    pattern: Annotated[str, Field(min_length=1), AfterValidator(_compiles)]
    """Regular expression, matched without regard to case."""
    action: Annotated[FaultAction, Field(strict=False)]
    """keep the worker, recycle (replace its process), or quarantine (also pause its device for a while)."""


def _by_commas(value: Any) -> Any:
    """Split `a,b`, the form of flags and of the environment, into a list."""
    return [word.strip() for word in value.split(",")] if isinstance(value, str) else value


def _as_tokens(value: Any) -> Any:
    """Return devices as a list of a mask's tokens; `0,1` and a single 0 are accepted too."""
    if value in ("auto", "cpu"):
        return value
    items = [value] if isinstance(value, int) else _by_commas(value)
    if not isinstance(items, list) or not items or not all(_is_token(item) for item in items):
        raise ValueError("not devices")
    return [str(item) for item in items]


def _is_token(item: object) -> bool:
    if isinstance(item, bool):
        return False
    if isinstance(item, int):
        return item >= 0
    return isinstance(item, str) and re.fullmatch(r"\d+|(GPU|MIG)-[\w/-]+", item, re.ASCII) is not None


Devices = Annotated[
    Literal["auto", "cpu"] | list[str],
    BeforeValidator(_as_tokens),
    Allowed('"auto", "cpu", or a list of device indices and UUIDs (GPU-…, MIG-…)'),
    WithJsonSchema(
        {
            "anyOf": [
                {"enum": ["auto", "cpu"]},
                {"type": "array", "minItems": 1, "items": {"type": ["integer", "string"]}},
            ]
        }
    ),
]
Modules = Annotated[
    list[Annotated[str, Field(pattern=r"^[A-Za-z_]\w*(\.[A-Za-z_]\w*)*$")]],
    BeforeValidator(_by_commas),
    Allowed("a list of names of modules"),
]
Faults = Annotated[
    list[Fault],
    Allowed(
        'a list of tables with "pattern" (a regular expression) and "action" (keep, recycle, quarantine)'
    ),
]


COMMAND_FORMAT: Final = "command"
"""Format of both forms of a command in the JSON Schema."""


def words_of(command: str | Sequence[str]) -> tuple[str, ...]:
    """Return a command's words; text is split as a shell does, without expansion."""
    return tuple(shlex.split(command) if isinstance(command, str) else command)


def _as_list(value: Any) -> Any:
    """Parse a list that a flag or the environment gives as JSON; other text is the command itself."""
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


def _wrap_single(value: Any) -> Any:
    """Turn one address into a list."""
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
    BeforeValidator(_wrap_single),
    Allowed("a list of Apprise addresses, such as mailto://… or slack://…"),
]
