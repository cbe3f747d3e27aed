"""Whether the wandb client is logged in, from the places where it would look; asks no server.

The places and their order are those of `wandb login`'s documentation: environment,
settings file, netrc. Read here without wandb, whose import alone takes 0.5 s.
"""

from __future__ import annotations

import configparser
import netrc
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

DEFAULT_BASE_URL = "https://api.wandb.ai"


@dataclass(frozen=True, slots=True)
class Credentials:
    """Where the client talks to, and what it was found to be logged in with."""

    base_url: str
    source: str
    """Where the credentials are, in words; empty: there are none."""
    key: str | None = None
    """The API key; None where there is none, or a token instead."""

    def __repr__(self) -> str:
        return f"Credentials({self.base_url!r}, {self.source!r})"


def find_credentials(environment: Mapping[str, str]) -> Credentials:
    """Return the credentials that the client would use, with `environment` as its environment."""
    settings = _settings(environment)
    base_url = environment.get("WANDB_BASE_URL") or settings.get("base_url") or DEFAULT_BASE_URL
    base_url = base_url.rstrip("/")
    if environment.get("WANDB_IDENTITY_TOKEN_FILE"):
        return Credentials(base_url, "WANDB_IDENTITY_TOKEN_FILE")
    if key := environment.get("WANDB_API_KEY"):
        return Credentials(base_url, "WANDB_API_KEY", key)
    if key := settings.get("api_key"):
        return Credentials(base_url, "the settings file", key)
    for path in _netrc_files(environment):
        if key := _netrc_key(path, base_url):
            return Credentials(base_url, str(path), key)
    return Credentials(base_url, "")


def _settings(environment: Mapping[str, str]) -> Mapping[str, str]:
    folder = environment.get("WANDB_CONFIG_DIR") or Path(environment.get("HOME", "~"), ".config", "wandb")
    parser = configparser.ConfigParser(interpolation=None)
    try:
        parser.read(Path(folder, "settings"))
        return dict(parser["default"])
    except (configparser.Error, KeyError, OSError, UnicodeDecodeError):
        return {}


def _netrc_files(environment: Mapping[str, str]) -> list[Path]:
    if "NETRC" in environment:
        return [Path(environment["NETRC"]).expanduser()]
    home = Path(environment.get("HOME", "~")).expanduser()
    return [home / ".netrc", home / "_netrc"]


def _netrc_key(path: Path, base_url: str) -> str | None:
    try:
        entry = netrc.netrc(path).authenticators(urlsplit(base_url).netloc)
    except (OSError, netrc.NetrcParseError, UnicodeDecodeError):
        return None
    return entry[2] if entry else None
