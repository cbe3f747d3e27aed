"""What wandb's client has in its settings files: `wandb init`, `offline` and `login` write there."""

from __future__ import annotations

import configparser
from collections.abc import Iterator, Mapping
from pathlib import Path


def client_settings(environment: Mapping[str, str]) -> Iterator[tuple[Path, Mapping[str, str]]]:
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
