"""The `hpo` section of a configuration: its keys, their defaults and checks.

To add a key, add a field to `HpoSection`. Its docstring is the option's help text and the JSON Schema's
description; its `Allowed` completes the error message. `loader` reads files and merges the sources.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    Field,
    PrivateAttr,
    ValidationError,
    WithJsonSchema,
    field_validator,
    model_validator,
)
from pydantic.fields import FieldInfo

from parallel_hpo.config.checks import nearest, show
from parallel_hpo.config.sweep import parse_sweep_configuration
from parallel_hpo.config.tables import (
    STRICT,
    TABLES,
    Addresses,
    Allowed,
    Command,
    Devices,
    Failures,
    Faults,
    Limit,
    Machines,
    Modules,
    Most,
    Restart,
)
from parallel_hpo.core.errors import ConfigError
from parallel_hpo.core.folders import absolute, default_directory
from parallel_hpo.core.values import duration_s

_NUMBER: Final = re.compile(r"\d+(\.\d+)?", re.ASCII)
_DATE_ALONE: Final = len("2026-12-24")


def _as_text(value: Any) -> str | None:
    """Return a deadline as text: `5400s`, `1h30m`, or a time with its zone, the same on every machine.

    Raises ValueError for anything else.
    """
    if value is None or isinstance(value, datetime):
        return None if value is None else _with_zone(value)
    if isinstance(value, int | float) and not isinstance(value, bool):
        value = f"{Decimal(str(value)).normalize():f}s"  # digits alone: 1e-05s is no duration
    if not isinstance(value, str):
        raise ValueError("not a deadline")
    if _NUMBER.fullmatch(value.strip()):  # from a flag or the environment
        return _as_text(float(value))
    seconds = duration_s(value)
    if seconds is not None:
        if not 0 < seconds < float("inf"):
            raise ValueError("not a positive, finite duration")
        return value.strip()
    if len(value.strip()) <= _DATE_ALONE:
        raise ValueError("a date without a time")
    return _with_zone(datetime.fromisoformat(value.strip()))


def _with_zone(moment: datetime) -> str:
    try:
        return moment.astimezone().isoformat()
    except (OverflowError, OSError):
        raise ValueError("out of a clock's range") from None


Deadline = Annotated[
    str | None,
    BeforeValidator(_as_text),
    Allowed(
        "a number of seconds above 0, a duration (22s, 3h30m, 1d), a time of day with its date"
        " (2026-12-24 18:00), or null"
    ),
    WithJsonSchema(
        {"anyOf": [{"type": "number", "exclusiveMinimum": 0}, {"type": "string"}, {"type": "null"}]}
    ),
]


SECTION: Final = "hpo"
SEEDS: Final = 2**63
"""Number of different seeds, limited by a database's integers."""

_REMOVED: Final = {
    "engine": "parallel_hpo has one search engine: leave this key out;"
    " for W&B's engine run `wandb sweep-scheduler` of your own"
}
"""Keys of earlier releases, and what to do instead."""

Origin = Callable[[str], str]
"""Return the source of a key's value, in words: a file, a variable or a flag."""


class BackendChoice(StrEnum):
    """Which sweep server to use."""

    AUTO = "auto"
    LOCAL = "local"
    WANDB = "wandb"


class StartMethod(StrEnum):
    """How worker processes are started."""

    FORKSERVER = "forkserver"
    SPAWN = "spawn"


def _default_start_method() -> StartMethod:
    return StartMethod.SPAWN if sys.platform == "win32" else StartMethod.FORKSERVER


class HpoSection(BaseModel):
    """The `hpo` section of a configuration file for parallel_hpo."""

    model_config = STRICT
    _overridden: frozenset[str] = PrivateAttr(default=frozenset())

    @property
    def overridden(self) -> frozenset[str]:
        """Keys that a flag or the environment set, not the file."""
        return self._overridden

    kind: Annotated[str, Allowed("the name of a kind of HPO")] = "wandb_sweeps"
    """Kind of HPO (default: wandb_sweeps)."""
    apply: Annotated[bool, Allowed("true or false")] = True
    """Enable HPO; false skips the rest of the section, unchecked (default: true)."""
    count: Annotated[
        int | None, Field(gt=0), Allowed("a whole number of 1 or more, or null for no limit")
    ] = None
    """Number of runs in total, over all workers (default: no limit)."""
    seed: Annotated[
        int | None,
        Field(ge=0, lt=SEEDS),
        Allowed("a whole number from 0 on, below 2 to the 63rd, or null"),
    ] = None
    """Seed for sampling and for each run's PARALLEL_HPO_SEED (default: random)."""
    seed_parameter: Annotated[str | None, Field(min_length=1), Allowed("a name, or null")] = None
    """Name under which to add each run's seed to its `wandb.config`; needs `seed` (default: not added)."""
    sweep_configuration: Annotated[dict[Any, Any] | None, Allowed("a W&B sweep configuration")] = None
    """W&B sweep configuration, passed on unchanged; required unless `sweep_id` is given."""
    project: Annotated[str | None, Field(min_length=1), Allowed("a project's name, or null")] = None
    """W&B project (default: WANDB_PROJECT, else W&B's default)."""
    entity: Annotated[str | None, Field(min_length=1), Allowed("a user's or team's name, or null")] = None
    """W&B entity (default: WANDB_ENTITY, else W&B's default)."""
    sweep_id: Annotated[str | None, Field(min_length=1), Allowed("an existing sweep's id, or null")] = None
    """Id of an existing sweep to join (default: create a sweep)."""
    backend: Annotated[BackendChoice, Field(strict=False), Allowed('"auto", "local" or "wandb"')] = (
        BackendChoice.AUTO
    )
    """Sweep server: local is the embedded one, auto is wandb with credentials, else local (default: auto)."""
    workers: Annotated[
        Literal["auto"] | Annotated[int, Field(ge=1)], Allowed('"auto" or a whole number of 1 or more')
    ] = "auto"
    """Workers; auto: `workers_per_device` per device, else one per physical core (default: auto)."""
    machines: Annotated[Machines | None, Allowed("an engine's name, a table, or null")] = None
    """Machines to run on, each with its own `workers` (default: this machine)."""
    devices: Devices = "auto"
    """Devices, by index or UUID; auto: all visible ones that are not in use, cpu: none (default: auto)."""
    workers_per_device: Annotated[
        Literal["auto"] | Annotated[int, Field(ge=1)], Allowed('"auto" or a whole number of 1 or more')
    ] = 1
    """Workers that share a device; auto: as many as fit by the first runs' memory (default: 1)."""
    devices_per_worker: Annotated[int, Field(ge=1), Allowed("a whole number of 1 or more")] = 1
    """Devices per worker (default: 1)."""
    polite: Annotated[bool, Allowed("true or false")] = False
    """Release devices while other users need them, and run workers at lowest priority (default: false)."""
    faults: Faults = []
    """Rules for failed runs, matched by reason and tried before the built-in ones (default: none)."""
    retries: Annotated[int, Field(ge=0), Allowed("a whole number of 0 or more")] = 1
    """Retries of a run whose worker died, with the same parameters and run id (default: 1)."""
    restart: Restart = Restart()
    """Limits of a slot's restarts; beyond them it stops and others go on (default: 5 restarts in 600 s)."""
    failures: Failures = Failures()
    """Limits of failed runs, which end the sweep (default: 5 failures before the first finished run)."""
    run_timeout_s: Limit = None
    """Timeout of a run in seconds: it is stopped, then killed, and counts as failed (default: none)."""
    sweep_timeout_s: Limit = None
    """Timeout of the sweep in seconds; it can be resumed (default: none)."""
    deadline: Deadline = None
    """Duration or time by which all runs should end: none starts that would take longer (default: none)."""
    stall_timeout_s: Limit = None
    """Timeout without log calls or output, in seconds: the worker is killed (default: none)."""
    memory_limit_mb: Most = None
    """Memory limit of a worker's process tree in MB: it is killed, its run retried (default: none)."""
    recycle_after: Most = None
    """Number of runs after which a worker's process is replaced (default: no limit)."""
    grace_period_s: Annotated[float, Field(gt=0), Allowed("a number of seconds above 0")] = 30.0
    """Seconds between asking a run to stop and killing its process tree (default: 30)."""
    on_end: Command = None
    """Command to run after the sweep, with its summary as JSON on stdin; timeout 30 s (default: none)."""
    on_failure: Command = None
    """Command to run after each failed or crashed run, with the run as JSON on stdin (default: none)."""
    notify: Addresses = []
    """Apprise addresses to notify of the sweep's end; needs the extra `notify` (default: none)."""
    start_method: Annotated[StartMethod, Field(strict=False), Allowed('"forkserver" or "spawn"')] = Field(
        default_factory=_default_start_method
    )
    """How workers are started (default: forkserver on POSIX)."""
    preload: Modules = []
    """Modules to import once in the fork server; they must not initialise CUDA on import (default: none)."""
    directory: Annotated[Path, Field(strict=False), Allowed("the path of a folder")] = Field(
        default_factory=default_directory
    )
    """Folder of ledgers, logs and summaries (default: the user's data folder)."""

    @field_validator("directory", mode="before")
    @classmethod
    def _is_named(cls, directory: object) -> object:
        if directory == "":  # Path("") would be the working directory
            raise ValueError("empty")
        return directory

    @field_validator("directory")
    @classmethod
    def _absolute(cls, directory: Path) -> Path:
        try:
            return absolute(directory)
        except RuntimeError as error:  # "~stranger/x": no such user
            raise ValueError(str(error)) from error

    @model_validator(mode="after")
    def _can_preload(self) -> HpoSection:
        if self.preload and self.start_method is not StartMethod.FORKSERVER:
            raise ConfigError(
                f"{SECTION}.preload needs a fork server, but {SECTION}.start_method is"
                f" {self.start_method.value!r}; set that to 'forkserver', or leave preload out"
            )
        return self

    @model_validator(mode="after")
    def _has_a_seed(self) -> HpoSection:
        if self.seed_parameter is not None and self.seed is None:
            raise ConfigError(
                f"{SECTION}.seed_parameter is {self.seed_parameter!r}, but {SECTION}.seed is missing;"
                " give the sweep's seed, or leave seed_parameter out"
            )
        expect_free(self.seed_parameter, self.sweep_configuration or {})
        return self

    @model_validator(mode="after")
    def _has_a_sweep(self) -> HpoSection:
        if self.sweep_configuration is not None:
            parse_sweep_configuration(self.sweep_configuration, where=f"{SECTION}.sweep_configuration")
        elif self.sweep_id is None:
            raise ConfigError(
                f"{SECTION}.sweep_configuration is missing; give a W&B sweep configuration,"
                f" or the id of a sweep to join as {SECTION}.sweep_id"
            )
        return self


def expect_free(seed_parameter: str | None, sweep_configuration: Mapping[Any, Any]) -> None:
    """Raise ConfigError if the sweep already has a parameter named `seed_parameter`."""
    parameters = sweep_configuration.get("parameters")
    if seed_parameter is not None and isinstance(parameters, Mapping) and seed_parameter in parameters:
        raise ConfigError(
            f"{SECTION}.seed_parameter is {seed_parameter!r}, which is one of the sweep's own parameters;"
            " choose another name"
        )


def parse_section(raw: Mapping[str, Any], *, origin: Origin, overridden: Iterable[str] = ()) -> HpoSection:
    """Check the section's values; raises ConfigError with one line per wrong key, each naming its origin.

    `overridden` names the keys that were not set by the file.
    """
    try:
        section = HpoSection.model_validate(dict(raw))
    except ValidationError as error:
        lines = dict.fromkeys(_describe(details, origin) for details in error.errors())
        raise ConfigError("\n".join(lines)) from None
    except ConfigError as error:
        raise ConfigError(f"{origin('sweep_configuration')}: {error}") from None
    section._overridden = frozenset(overridden)
    return section


def section_schema() -> dict[str, Any]:
    """Return the JSON Schema of the `hpo` section."""
    return HpoSection.model_json_schema()


def is_text(key: str) -> bool:
    """Return whether a key's value is text, so that `2024` in the environment means "2024"."""
    field = HpoSection.model_fields.get(key)
    return field is not None and field.annotation in (str, str | None, Path, str | list[str] | None)


def _describe(details: Mapping[str, Any], origin: Origin) -> str:
    """Return one line on what is wrong with a key."""
    key = str(details["loc"][0])
    where = f"{origin(key)}: {SECTION}.{key}"
    fields = HpoSection.model_fields
    if key in TABLES and len(details["loc"]) > 1:
        fields, key = TABLES[key].model_fields, str(details["loc"][1])
        where += f".{key}"
    if key in _REMOVED and fields is HpoSection.model_fields:
        return f"{where}: {_REMOVED[key]}"
    if key not in fields:
        return f"{where}: unknown key; {nearest(key, tuple(fields))}"
    return f"{where} is {show(details['input'])}; allowed: {_allowed(key, fields[key])}"


def _allowed(key: str, field: FieldInfo) -> str:
    if key in TABLES:
        return f"a table of {', '.join(TABLES[key].model_fields)}"
    return next(item.text for item in field.metadata if isinstance(item, Allowed))
