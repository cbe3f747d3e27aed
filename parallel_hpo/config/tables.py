"""The keys of the `hpo` section that hold a table of their own, and how a key says what it may be.

What the keys `devices`, `preload` and `faults` of the `hpo` section may hold.

What the keys `on_end`, `on_failure` and `notify` of the `hpo` section may hold.
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
    """What a key may be, in the words of an error message."""

    text: str


STRICT: Final = ConfigDict(
    frozen=True, extra="forbid", strict=True, allow_inf_nan=False, use_attribute_docstrings=True
)
Seconds = Annotated[float, Field(gt=0), Allowed("a number of seconds above 0")]
Limit = Annotated[float | None, Field(gt=0), Allowed("a number of seconds above 0, or null for no limit")]
Most = Annotated[int | None, Field(gt=0), Allowed("a whole number of 1 or more, or null for no limit")]


class Restart(BaseModel):
    """The budget of restarts of one worker slot."""

    model_config = STRICT

    max_restarts: Annotated[int, Field(ge=0), Allowed("a whole number of 0 or more")] = 5
    """Restarts within `window_s`; one more, and the slot gives up."""
    window_s: Seconds = 600
    """Seconds after which a restart is forgotten."""
    backoff_s: Seconds = 1
    """Wait before the second restart within the window, doubled for each further one; the first has none."""
    backoff_max_s: Seconds = 60
    """The longest wait."""


class Failures(BaseModel):
    """Limits of failed runs; a run has failed when its `main` raised."""

    model_config = STRICT

    max_consecutive: Most = None
    """Failures in a row."""
    max_total: Most = None
    """Failures in total."""
    max_initial: Most = 5
    """Failures before any run has finished."""


class MachineEngine(StrEnum):
    """What finds the machines of a sweep and starts a node on each."""

    RAY = "ray"
    DASK = "dask"
    SLURM = "slurm"


class Machines(BaseModel):
    """Many machines for one sweep."""

    model_config = STRICT

    engine: Annotated[
        MachineEngine | None, Field(strict=False), Allowed('"ray", "dask", "slurm", or null')
    ] = None
    """What finds the machines and starts a node on each; null: they come by `parallel-hpo join`."""
    count: Annotated[
        Literal["auto"] | Annotated[int, Field(ge=1)], Allowed('"auto" or a whole number of 1 or more')
    ] = "auto"
    """Machines at the most; auto: all that the engine has."""
    address: Annotated[str | None, Field(min_length=1), Allowed("what its client takes, or null")] = None
    """Where the engine is, as its own client takes it."""
    node_timeout_s: Seconds = 300
    """Seconds of silence after which a machine is taken for gone, and its runs are run again elsewhere."""

    @model_validator(mode="before")
    @classmethod
    def _is_an_engine(cls, value: object) -> object:
        """Take an engine's name alone for the table that has it."""
        return {"engine": value} if isinstance(value, str) else value


TABLES: Final[dict[str, type[BaseModel]]] = {"restart": Restart, "failures": Failures, "machines": Machines}


class FaultAction(StrEnum):
    """What a failed run's reason asks for."""

    KEEP = "keep"
    """Nothing: the worker goes on."""
    RECYCLE = "recycle"
    """A fresh process in the worker's place."""
    QUARANTINE = "quarantine"
    """That, and no run on its device for a while, if there are others."""


def _compiles(pattern: str) -> str:
    try:
        re.compile(pattern)
    except re.error as error:
        raise ValueError(f"no regular expression: {error}") from None
    return pattern


class Fault(BaseModel):
    """What to do after a run that failed for a reason in which `pattern` is found."""

    model_config = STRICT

    pattern: Annotated[str, Field(min_length=1), AfterValidator(_compiles)]
    """A regular expression; upper and lower case are the same to it."""
    action: Annotated[FaultAction, Field(strict=False)]
    """keep, recycle (a fresh worker process), or quarantine (also no run on its device for a while)."""


def _by_commas(value: Any) -> Any:
    """Read `a,b`, as the environment and flags have it, as a list."""
    return [word.strip() for word in value.split(",")] if isinstance(value, str) else value


def _as_tokens(value: Any) -> Any:
    """Return devices as the tokens of a mask, which are text: `0,1` and a lone 0 are lists too."""
    if value in ("auto", "cpu"):
        return value
    items = [value] if isinstance(value, int) else _by_commas(value)
    if not isinstance(items, list) or not items or not all(_is_token(item) for item in items):
        raise ValueError("no devices")
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
