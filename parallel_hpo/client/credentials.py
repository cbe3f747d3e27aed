"""The wandb client's settings, credentials and mode, read as the client reads them, without a request.

Sources in the client's order: environment, netrc, settings files (by `wandb init`, `offline` and `login`).
Read without wandb, whose import takes 0.5 s; a contract test compares both.
"""

from __future__ import annotations

import configparser
import netrc
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from parallel_hpo.core.errors import ConfigError
from parallel_hpo.core.version import installed_client, release


@dataclass(frozen=True, slots=True)
class ClientSetting:
    """One of the client's settings with its source."""

    value: str | None = None
    """None: not set."""
    name: str = ""
    """Name of the variable or of the key."""
    path: Path | None = None
    """The file; None: a variable."""

    @property
    def within(self) -> str:
        """The file, in words that follow the name; '' for a variable."""
        return f" in {self.path}" if self.path else ""


def client_setting(name: str, environment: Mapping[str, str]) -> ClientSetting:
    """Return a setting from its variable (`WANDB_MODE` for `mode`), else from the first file that has it."""
    variable = f"WANDB_{name.upper()}"
    if value := environment.get(variable):
        return ClientSetting(value, variable)
    for path, settings in _files(environment):
        if value := settings.get(name):
            return ClientSetting(value, name, path)
    return ClientSetting()


def _files(environment: Mapping[str, str]) -> Iterator[tuple[Path, Mapping[str, str]]]:
    """Yield each settings file with its settings: the project's first, then the user's."""
    # wandb client: the project's file is in the working directory, wherever WANDB_DIR is.
    project = Path(".wandb" if Path(".wandb").exists() else "wandb")
    user = environment.get("WANDB_CONFIG_DIR") or Path(environment.get("HOME", "~"), ".config", "wandb")
    for path in (project / "settings", Path(user, "settings")):
        parser = configparser.ConfigParser(interpolation=None)
        try:
            parser.read(path)
            yield path, dict(parser["default"])
        except (configparser.Error, KeyError, OSError, UnicodeDecodeError):
            continue


CLOUD: Final = "https://api.wandb.ai"
FORGE: Final = "https://api.forge.coreweave.com"
"""W&B's cloud by its newer name, used by clients since 0.31; they also accept a key for the older one."""
FORGE_SINCE: Final = (0, 31)
_FORGE_BY_PROXY: Final = "https://forge.coreweave.com/api/wandb"


@dataclass(frozen=True, slots=True)
class Credentials:
    """The client's server and its credentials."""

    base_url: str
    source: str
    """Source of the credentials, in words; '' if there are none."""
    key: str | None = None
    """The API key; None if there is none, or a token instead."""

    def __repr__(self) -> str:
        return f"Credentials({self.base_url!r}, {self.source!r})"


@dataclass(frozen=True, slots=True)
class Mode:
    """The client's mode (`online`, `offline`, `disabled`, ...); '' if not set."""

    name: str = ""
    source: str = ""
    """How it was set, as `WANDB_MODE=offline`."""


def find_credentials(environment: Mapping[str, str]) -> Credentials:
    """Return the credentials that the client would use with this environment.

    Raises ConfigError if its server's address is invalid.
    """
    base_url = _base_url(environment)
    if environment.get("WANDB_IDENTITY_TOKEN_FILE"):
        return Credentials(base_url, "WANDB_IDENTITY_TOKEN_FILE")
    if key := environment.get("WANDB_API_KEY"):
        return Credentials(base_url, "WANDB_API_KEY", key)
    path = _netrc_file(environment)
    for url in (base_url, CLOUD) if base_url == FORGE else (base_url,):
        if key := _netrc_key(path, url):
            return Credentials(base_url, str(path), key)
    written = client_setting("api_key", environment)
    return Credentials(base_url, str(written.path or ""), written.value)


def find_mode(environment: Mapping[str, str]) -> Mode:
    """Return the client's mode, which `wandb offline` writes into the project's settings file."""
    mode = client_setting("mode", environment)
    return Mode(mode.value, f"{mode.name}={mode.value}{mode.within}") if mode.value else Mode()


def _base_url(environment: Mapping[str, str]) -> str:
    url = client_setting("base_url", environment)
    if url.value:
        return _address(url.value, f"{url.name}{url.within}")
    return FORGE if _knows_forge() else CLOUD


def _address(url: str, where: str) -> str:
    url = url.rstrip("/")
    try:
        parts = urlsplit(url)
        good = parts.scheme in ("http", "https") and bool(parts.hostname) and not any(map(str.isspace, url))
    except ValueError:
        good = False
    if not good:
        raise ConfigError(f"{where}: {url!r} is not a server's address, such as https://HOST or http://HOST")
    return FORGE if url == _FORGE_BY_PROXY and _knows_forge() else url


def _knows_forge() -> bool:
    return release(installed_client()) >= FORGE_SINCE


def _netrc_file(environment: Mapping[str, str]) -> Path:
    if named := environment.get("NETRC"):
        return Path(named).expanduser()
    home = Path(environment.get("HOME", "~")).expanduser()
    usual, other = home / ".netrc", home / "_netrc"
    return other if other.exists() and not usual.exists() else usual


def _netrc_key(path: Path, base_url: str) -> str | None:
    try:
        entry = netrc.netrc(path).authenticators(urlsplit(base_url).netloc)
    except (OSError, netrc.NetrcParseError, UnicodeDecodeError):
        return None
    return entry[2] if entry else None
