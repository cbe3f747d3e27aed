"""What the keys `devices`, `preload` and `faults` of the `hpo` section may hold."""

from __future__ import annotations

import re
from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, Field, WithJsonSchema

from parallel_hpo.config.tables import STRICT, Allowed


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
