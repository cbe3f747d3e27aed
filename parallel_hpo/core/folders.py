"""Folders in which the wandb client keeps runs: one for each time that a run was opened there.

wandb client: `<WANDB_DIR>/wandb/[offline-]run-<date>_<time>-<run id>[-<number>]`, in it `run-<run id>.wandb`.
The number is there where the client had opened the run before in the same second.

Where sweeps are kept; apart from the section, which takes commands that need no more 0.3 s to import.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final, NamedTuple

from platformdirs import user_data_path

from parallel_hpo.core.errors import ConfigError
from parallel_hpo.core.types import RunId

_NAME: Final = re.compile(r"(?P<offline>offline-)?run-(?P<second>\d{8}_\d{6})-(?P<rest>.+)")
_NUMBERED: Final = re.compile(r"(.+)-(\d+)")


class RunFolder(NamedTuple):
    """One folder; they are in the order in which they were made."""

    second: str
    """In which it was made, as `20261224_180000`."""
    number: int
    """Of those of that second, from 0."""
    run_id: RunId
    path: str
    offline: bool


def run_folders(home: Path) -> Iterator[RunFolder]:
    """Yield those in a folder `<WANDB_DIR>/wandb`, in no order; none where there is no such folder."""
    if not home.is_dir():
        return
    for entry in os.scandir(home):
        if match := _NAME.fullmatch(entry.name):
            run_id, number = _identity(match["rest"], entry.path)
            yield RunFolder(match["second"], number, run_id, entry.path, bool(match["offline"]))


def run_folders_of_workers(folder: Path) -> Iterator[RunFolder]:
    """Yield those of all workers of one supervisor, whose folder it is, in no order."""
    for home in folder.glob("worker-*/wandb"):
        yield from run_folders(home)


def folders_of(home: Path, run_id: str) -> list[Path]:
    """Return a run's folders in a folder `<WANDB_DIR>/wandb`, by their age."""
    return [Path(each.path) for each in sorted(run_folders(home)) if each.run_id == run_id]


def _identity(rest: str, path: str) -> tuple[RunId, int]:
    """Return whose folder it is, and its number; an id may itself end in a number."""
    numbered = _NUMBERED.fullmatch(rest)
    if numbered and os.path.exists(f"{path}/run-{numbered[1]}.wandb"):  # noqa: PTH110 - called for each run
        return RunId(numbered[1]), int(numbered[2])
    return RunId(rest), 0


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
