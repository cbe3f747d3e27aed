"""The keys of the `hpo` section that hold a table of their own, and how a key says what it may be."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator


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
