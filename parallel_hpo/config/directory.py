"""Where sweeps are kept; apart from the section, which takes commands that need no more 0.3 s to import."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from platformdirs import user_data_path

from parallel_hpo.errors import ConfigError

_VARIABLE: Final = "PARALLEL_HPO_DIRECTORY"


def find_directory(given: Path | None, environment: Mapping[str, str]) -> Path:
    """Return where sweeps are kept where no file says it: as given, by the environment, or the default."""
    return absolute(Path(given or environment.get(_VARIABLE) or default_directory()))


def default_directory() -> Path:
    """Return the folder in which sweeps are kept where nothing else is said."""
    return user_data_path("parallel_hpo", appauthor=False)


def absolute(folder: Path) -> Path:
    """Return a folder's whole path; ConfigError where it depends on a working directory that is gone."""
    try:
        return folder.expanduser().absolute()
    except FileNotFoundError:
        raise ConfigError(
            f"{folder} is meant from the working directory, which has been deleted:"
            " change to one that exists, or give the whole path"
        ) from None
