"""The keys of the `hpo` section that hold a table of their own, and how a key says what it may be."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Final

from pydantic import BaseModel, ConfigDict, Field


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


TABLES: Final[dict[str, type[BaseModel]]] = {"restart": Restart, "failures": Failures}
