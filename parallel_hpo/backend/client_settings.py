"""What wandb's client is set to: by variables, and by what `wandb init`, `offline` and `login` wrote."""

from __future__ import annotations

import configparser
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class ClientSetting:
    """One of the client's settings, and by what name it was given where."""

    value: str | None = None
    """None: it was not."""
    name: str = ""
    path: Path | None = None
    """The file; None: a variable."""

    @property
    def within(self) -> str:
        """The file, in words that follow the name; empty for a variable."""
        return f" in {self.path}" if self.path else ""


def client_setting(name: str, environment: Mapping[str, str]) -> ClientSetting:
    """Return what a variable says (`WANDB_MODE` of `mode`), or else the first file that says something."""
    variable = f"WANDB_{name.upper()}"
    if value := environment.get(variable):
        return ClientSetting(value, variable)
    for path, settings in _files(environment):
        if value := settings.get(name):
            return ClientSetting(value, name, path)
    return ClientSetting()


def _files(environment: Mapping[str, str]) -> Iterator[tuple[Path, Mapping[str, str]]]:
    """Return each file with its settings: the project's, which comes first, then the user's."""
    # wandb client: the project's is looked for in the working directory, wherever WANDB_DIR is.
    project = Path(".wandb" if Path(".wandb").exists() else "wandb")
    user = environment.get("WANDB_CONFIG_DIR") or Path(environment.get("HOME", "~"), ".config", "wandb")
    for path in (project / "settings", Path(user, "settings")):
        parser = configparser.ConfigParser(interpolation=None)
        try:
            parser.read(path)
            yield path, dict(parser["default"])
        except (configparser.Error, KeyError, OSError, UnicodeDecodeError):
            continue
