"""Reads a user's JSON, YAML or TOML file and merges the sources of the `hpo` section.

    flag  >  environment PARALLEL_HPO_<KEY>  >  file  >  default

Errors name the source of the wrong value. A node's section is the sweep's, with keys of its own machine.
"""

from __future__ import annotations

import copy
import json
import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import yaml

from parallel_hpo.config.checks import nearest, show
from parallel_hpo.config.section import SECTION, HpoSection, is_text, parse_section
from parallel_hpo.config.sweep import parse_sweep_configuration
from parallel_hpo.core.errors import ConfigError
from parallel_hpo.core.pool_messages import OF_A_NODE

_PREFIX: Final = "PARALLEL_HPO_"
_NESTED: Final = "__"
_INSIDE_WORKER: Final = ("PARALLEL_HPO_WORKER", "PARALLEL_HPO_MARK")
"""Variables of our child processes: workers have both, the fork server and other children the second."""
_FACTS: Final = frozenset(
    {
        *("PARALLEL_HPO_DEVICE", "PARALLEL_HPO_RUN_ID", "PARALLEL_HPO_ATTEMPT"),
        *OF_A_NODE,
    }
)
"""Variables of a worker's run or of a node that are not keys of the section."""

Document = dict[str, Any]
"""A configuration file's whole content."""


@dataclass(frozen=True, slots=True)
class Sources:
    """What overrides a file: the environment, and flags by key, both as text."""

    environment: Mapping[str, str] = field(repr=False)
    flags: Mapping[str, str] = field(default_factory=dict)


def inside_worker(environment: Mapping[str, str]) -> bool:
    """Return whether this process is a worker or another child of a session, or was started by one."""
    return any(name in environment for name in _INSIDE_WORKER)


def read_document(path: Path) -> Document:
    """Read a JSON, YAML or TOML file; raises ConfigError naming the file, and the line where it is broken."""
    parse = _PARSERS.get(path.suffix.lower())
    if parse is None:
        raise ConfigError(f"{path}: the suffix {path.suffix!r} is unknown; allowed: {', '.join(_PARSERS)}")
    try:
        content = parse(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise ConfigError(f"{path}: can't be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: is not UTF-8 text (byte {error.start})") from None
    except RecursionError:
        raise ConfigError(f"{path}: is nested too deeply") from None
    except _Broken as error:
        raise ConfigError(f"{path}: {error}") from None
    if not isinstance(content, dict):
        raise ConfigError(f"{path}: the top level is {show(content)}; allowed: a table of keys and values")
    return content


def with_section(document: Document, path: Path) -> Document:
    """Return the document with an `hpo` section; a plain W&B sweep file gets one.

    Its `project` and `entity` are used, as `wandb sweep` does. Raises ConfigError if the
    document is neither, or the sweep configuration is wrong.
    """
    if SECTION in document:
        return document
    if not {"method", "parameters"} & document.keys():
        raise ConfigError(
            f"{path}: has no {SECTION!r} section, and is not a W&B sweep file"
            " (which has 'method' and 'parameters' at its top level)"
        )
    parse_sweep_configuration(document, where=f"{path}: sweep")
    project = {key: document[key] for key in ("project", "entity") if key in document}
    return {SECTION: {"sweep_configuration": document, **project}}


def load_section(
    document: Document, path: Path, sources: Sources, *, kinds: tuple[str, ...]
) -> HpoSection | None:
    """Return the checked `hpo` section; None without one, with `apply: false`, and inside a worker.

    Raises ConfigError with the value's source, the key's path, the value, and what is allowed.
    """
    if SECTION not in document or inside_worker(sources.environment):
        return None
    raw = document[SECTION]
    if not isinstance(raw, dict):
        raise ConfigError(f"{path}: {SECTION} is {show(raw)}; allowed: a table of keys and values")
    merged, origins = _merge(raw, sources)
    if merged.get("apply") is False:
        return None

    def origin(key: str) -> str:
        return origins.get(key, str(path))

    kind = merged.get("kind")
    if isinstance(kind, str) and kind not in kinds:
        raise ConfigError(f"{origin('kind')}: {SECTION}.kind is {show(kind)}; {nearest(kind, kinds)}")
    return parse_section(merged, origin=origin, overridden=origins)


# --- merging -----------------------------------------------------------------------


def _merge(raw: Document, sources: Sources) -> tuple[Document, dict[str, str]]:
    """Return the section with its overrides, and the source of each override by key."""
    merged = copy.deepcopy(raw)
    origins: dict[str, str] = {}
    for name in sorted(sources.environment):  # sorted: a whole key comes before what is nested in it
        if name.startswith(_PREFIX) and name not in _FACTS:
            key, *inner = name.removeprefix(_PREFIX).split(_NESTED)
            _put(merged, key.lower(), inner, sources.environment[name])
            origins[key.lower()] = f"environment variable {name}"
    for key, text in sources.flags.items():
        merged[key] = _value(key, text)
        origins[key] = f"flag --{key.replace('_', '-')}"
    return merged, origins


def _put(section: Document, key: str, inner: list[str], text: str) -> None:
    """Set a key of the section, or one nested in it under the names `inner`."""
    if not inner:
        section[key] = _value(key, text)
        return
    table, last = section, key
    for name in inner:
        if not isinstance(table.get(last), dict):
            table[last] = {}
        table = table[last]
        last = _spelling(name, table)
    table[last] = _value("", text)


def _spelling(name: str, table: Document) -> str:
    """Return the key as the table spells it; environment variables are usually in capitals."""
    return next((key for key in table if str(key).lower() == name.lower()), name.lower())


def _value(key: str, text: str) -> Any:
    """Parse a value as JSON if possible, else return the text; `null` is null for every key."""
    if is_text(key) and text != "null":
        return text
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


# --- the formats --------------------------------------------------------------------


class _Broken(Exception):
    """A file can't be parsed as its suffix says; carries the parser's message with line and column."""


def _parse_json(text: str) -> object:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise _Broken(f"broken JSON at line {error.lineno}, column {error.colno}: {error.msg}") from None


class _NoBase60(yaml.SafeLoader):
    """A loader that keeps `18:00` as text, as YAML 1.2 does; YAML 1.1 makes it 1080, a number of seconds."""


_TEXT: Final = "tag:yaml.org,2002:str", re.compile(r"[-+]?[0-9][0-9_]*(:[0-5]?[0-9])+(\.[0-9_]*)?$")
_NoBase60.yaml_implicit_resolvers = {
    first: [_TEXT, *resolvers] for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def _parse_yaml(text: str) -> object:
    try:
        return yaml.load(text, Loader=_NoBase60)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        where = f" at line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        raise _Broken(f"broken YAML{where}: {error.problem}") from None
    except yaml.YAMLError as error:
        raise _Broken(f"broken YAML: {error}") from None
    except ValueError as error:  # a date such as 2026-13-01
        raise _Broken(f"broken YAML: {error}") from None


def _parse_toml(text: str) -> object:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:  # its message ends with the line and column
        raise _Broken(f"broken TOML: {error}") from None


_PARSERS: Final[Mapping[str, Callable[[str], object]]] = {
    ".json": _parse_json,
    ".yaml": _parse_yaml,
    ".yml": _parse_yaml,
    ".toml": _parse_toml,
}


OF_THE_MACHINE: Final = ("directory", "workers", "devices", "workers_per_device", "devices_per_worker")
"""Keys of the section that may differ between machines."""


def load_section_of_machine(
    section: Mapping[str, Any],
    where: Path,
    environment: Mapping[str, str],
    *,
    directory: Path | None = None,
    kinds: tuple[str, ...] = (),
) -> HpoSection | None:
    """Load a node's section like `load_section`, with only OF_THE_MACHINE keys from the environment."""
    named = {f"PARALLEL_HPO_{key.upper()}" for key in OF_THE_MACHINE}
    sources = Sources(
        {name: value for name, value in environment.items() if name in named},
        {} if directory is None else {"directory": str(directory)},
    )
    return load_section({SECTION: dict(section)}, where, sources, kinds=kinds)
