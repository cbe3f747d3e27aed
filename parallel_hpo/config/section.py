"""The key `deadline` of the `hpo` section: a duration, or a time of day with its date. Pure.

Whatever was written, the section has it as text: `5400s`, `1h30m`, or a time with its zone, so that
every machine of a sweep reads the same moment.

The `hpo` section of a user's configuration: its keys, defaults and what is allowed.

A new key is one more field of `HpoSection`: its docstring feeds the JSON Schema,
its `Allowed` the error messages. Reading files and merging the sources of a
value is `loader`'s. Imports `config.sweep` and `errors`.
"""

from __future__ import annotations

import json
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

from parallel_hpo.config.checks import nearest
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
    """Return a deadline as text, a local time with its zone; ValueError for what is none."""
    if value is None or isinstance(value, datetime):
        return None if value is None else _with_zone(value)
    if isinstance(value, int | float) and not isinstance(value, bool):
        value = f"{Decimal(str(value)).normalize():f}s"  # digits alone: 1e-05s is no duration
    if not isinstance(value, str):
        raise ValueError("no deadline")
    if _NUMBER.fullmatch(value.strip()):  # as a flag or the environment has it
        return _as_text(float(value))
    seconds = duration_s(value)
    if seconds is not None:
        if not 0 < seconds < float("inf"):
            raise ValueError("no time at all, or no end of it")
        return value.strip()
    if len(value.strip()) <= _DATE_ALONE:
        raise ValueError("a day, of which no time is said")
    return _with_zone(datetime.fromisoformat(value.strip()))


def _with_zone(moment: datetime) -> str:
    try:
        return moment.astimezone().isoformat()
    except (OverflowError, OSError):
        raise ValueError("beyond what a clock can say") from None


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
"""What a database's whole numbers can hold."""
_SHOWN_CHARS: Final = 80
"""An error shows at most so much of a wrong value: a line, not a page."""

_REMOVED: Final = {
    "engine": "parallel_hpo has one search engine: leave this key out;"
    " for W&B's engine run `wandb sweep-scheduler` of your own"
}
"""Keys of earlier releases, and what to do instead."""

Origin = Callable[[str], str]
"""Where the value of a key of the section comes from, in words: a file, a variable, a flag."""


class BackendChoice(StrEnum):
    """Which sweep server a sweep is to run against."""

    AUTO = "auto"
    LOCAL = "local"
    WANDB = "wandb"


class StartMethod(StrEnum):
    """How a worker's process comes into being."""

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
        """Its keys that a flag or the environment gave, and not the file."""
        return self._overridden

    kind: Annotated[str, Allowed("the name of a kind of HPO")] = "wandb_sweeps"
    """The kind of HPO."""
    apply: Annotated[bool, Allowed("true or false")] = True
    """false: HPO is disabled, and the rest of the section is not even checked."""
    count: Annotated[
        int | None, Field(gt=0), Allowed("a whole number of 1 or more, or null for no limit")
    ] = None
    """Runs to perform in total, over all workers; missing: no limit."""
    seed: Annotated[
        int | None,
        Field(ge=0, lt=SEEDS),
        Allowed("a whole number from 0 on, below 2 to the 63rd, or null"),
    ] = None
    """What the draw of parameters and each run's own PARALLEL_HPO_SEED follow from; missing: chance."""
    seed_parameter: Annotated[str | None, Field(min_length=1), Allowed("a name, or null")] = None
    """Under this name a run's own seed stands in its `wandb.config` too; needs `seed`."""
    sweep_configuration: Annotated[dict[Any, Any] | None, Allowed("a W&B sweep configuration")] = None
    """The W&B sweep configuration, passed on as it stands; required unless `sweep_id` is given."""
    project: Annotated[str | None, Field(min_length=1), Allowed("a project's name, or null")] = None
    """The W&B project; missing: WANDB_PROJECT, else W&B's default."""
    entity: Annotated[str | None, Field(min_length=1), Allowed("a user's or team's name, or null")] = None
    """The W&B entity; missing: WANDB_ENTITY, else W&B's default."""
    sweep_id: Annotated[str | None, Field(min_length=1), Allowed("an existing sweep's id, or null")] = None
    """Join this sweep instead of creating one."""
    backend: Annotated[BackendChoice, Field(strict=False), Allowed('"auto", "local" or "wandb"')] = (
        BackendChoice.AUTO
    )
    """local: the embedded server; wandb: W&B's; auto: wandb where the client has credentials, else local."""
    workers: Annotated[
        Literal["auto"] | Annotated[int, Field(ge=1)], Allowed('"auto" or a whole number of 1 or more')
    ] = "auto"
    """Worker processes; auto: one per device times `workers_per_device`, else one per physical core."""
    machines: Annotated[Machines | None, Allowed("an engine's name, a table, or null")] = None
    """Many machines, each with so many `workers`; missing: this one."""
    devices: Devices = "auto"
    """auto: those that the parent's mask shows and nobody else computes on; cpu: none; or which of them."""
    workers_per_device: Annotated[
        Literal["auto"] | Annotated[int, Field(ge=1)], Allowed('"auto" or a whole number of 1 or more')
    ] = 1
    """Workers that share a device; auto: as many as its memory holds, by what the first runs there held."""
    devices_per_worker: Annotated[int, Field(ge=1), Allowed("a whole number of 1 or more")] = 1
    """Devices that each worker gets."""
    polite: Annotated[bool, Allowed("true or false")] = False
    """Leave devices while somebody else computes there, or sits at the machine; workers give way."""
    faults: Faults = []
    """What a failed run's reason asks for, by patterns that are tried before the built-in ones."""
    retries: Annotated[int, Field(ge=0), Allowed("a whole number of 0 or more")] = 1
    """Times that a run cut short by its worker's death is run again, same parameters, same run id."""
    restart: Restart = Restart()
    """The budget of restarts of each worker slot; spent: the slot gives up and the others go on."""
    failures: Failures = Failures()
    """How many failed runs end the sweep, counted over all workers."""
    run_timeout_s: Limit = None
    """Seconds after which a run is stopped, then killed; it has failed."""
    sweep_timeout_s: Limit = None
    """Seconds after which the sweep is stopped; it can be resumed."""
    deadline: Deadline = None
    """A duration from its start, or a time: no run starts that would not end by then, by the runs so far."""
    stall_timeout_s: Limit = None
    """Seconds without a log call or output after which a run's worker is killed, its stacks in its log."""
    memory_limit_mb: Most = None
    """MB that a worker's process tree may hold; above, it is killed, and its run is run again."""
    recycle_after: Most = None
    """Runs after which a worker's process is replaced."""
    grace_period_s: Annotated[float, Field(gt=0), Allowed("a number of seconds above 0")] = 30.0
    """Seconds between asking a run to stop and killing its process tree."""
    on_end: Command = None
    """A command that is run when the sweep has ended, with its summary as JSON on stdin, for 30 s at most."""
    on_failure: Command = None
    """A command that is run for each run that failed or crashed, with the run as JSON on stdin, for 30 s."""
    notify: Addresses = []
    """Apprise addresses that are told of the sweep's end; needs the extra `notify`."""
    start_method: Annotated[StartMethod, Field(strict=False), Allowed('"forkserver" or "spawn"')] = Field(
        default_factory=_default_start_method
    )
    """How workers are started; missing: forkserver on POSIX."""
    preload: Modules = []
    """Modules imported once in the fork server; none may initialise CUDA on import."""
    directory: Annotated[Path, Field(strict=False), Allowed("the path of a folder")] = Field(
        default_factory=default_directory
    )
    """Where ledgers, logs and summaries go; missing: the user's data folder."""

    @field_validator("directory", mode="before")
    @classmethod
    def _is_named(cls, directory: object) -> object:
        if directory == "":  # Path("") would be the working directory, which nobody asked for
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
    """Raise ConfigError where a sweep has a parameter of the name that its runs' own seed is to have."""
    parameters = sweep_configuration.get("parameters")
    if seed_parameter is not None and isinstance(parameters, Mapping) and seed_parameter in parameters:
        raise ConfigError(
            f"{SECTION}.seed_parameter is {seed_parameter!r}, which is one of the sweep's own parameters;"
            " choose another name"
        )


def parse_section(raw: Mapping[str, Any], *, origin: Origin, overridden: Iterable[str] = ()) -> HpoSection:
    """Check the section's values; raises ConfigError with one line per wrong key, each naming its origin.

    `overridden` names the keys that are not the file's.
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


def known_keys() -> tuple[str, ...]:
    """Return the section's keys, in the order of the table in docs/configuration.md."""
    return tuple(HpoSection.model_fields)


def is_text(key: str) -> bool:
    """Return whether a key's value is text, so that `2024` in the environment means "2024"."""
    field = HpoSection.model_fields.get(key)
    return field is not None and field.annotation in (str, str | None, Path, str | list[str] | None)


def show(value: object) -> str:
    """Return a value as a user would write it in JSON, cut to a line's length."""
    text = json.dumps(value, default=repr, ensure_ascii=False)
    return text if len(text) <= _SHOWN_CHARS else text[: _SHOWN_CHARS - 1] + "…"


def _describe(details: Mapping[str, Any], origin: Origin) -> str:
    """Say in one line what is wrong with a key."""
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
