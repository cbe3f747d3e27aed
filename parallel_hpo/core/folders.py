"""The folder of sweeps, the wandb client's run folders in it, and the named pipe for commands to a session.

wandb client: `<WANDB_DIR>/wandb/[offline-]run-<date>_<time>-<run id>[-<number>]`, in it
`run-<run id>.wandb`.
The number follows if the client had opened the run before in the same second.
Separate from `config/section.py`, whose import takes 0.3 s. A command is one line of JSON, short enough for
an atomic write to a pipe. Only the user may open the pipe (0600); it needs no port and no short path.
"""

from __future__ import annotations

import json
import os
import re
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final, NamedTuple

from platformdirs import user_data_path

from parallel_hpo.core.errors import ConfigError
from parallel_hpo.core.types import RunId, Slot

_NAME: Final = re.compile(r"(?P<offline>offline-)?run-(?P<second>\d{8}_\d{6})-(?P<rest>.+)")
_NUMBERED: Final = re.compile(r"(.+)-(\d+)")


class RunFolder(NamedTuple):
    """A run's folder; they sort by creation."""

    second: str
    """Creation time, as `20261224_180000`."""
    number: int
    """Number within that second, from 0."""
    run_id: RunId
    path: str
    offline: bool


def run_folders(home: Path) -> Iterator[RunFolder]:
    """Yield the run folders in `<WANDB_DIR>/wandb`, unordered; none if it does not exist."""
    if not home.is_dir():
        return
    for entry in os.scandir(home):
        if match := _NAME.fullmatch(entry.name):
            run_id, number = _identity(match["rest"], entry.path)
            yield RunFolder(match["second"], number, run_id, entry.path, bool(match["offline"]))


def run_folders_of_workers(folder: Path) -> Iterator[RunFolder]:
    """Yield the run folders of all workers in a session's folder, unordered."""
    for home in folder.glob("worker-*/wandb"):
        yield from run_folders(home)


def folders_of(home: Path, run_id: str) -> list[Path]:
    """Return a run's folders in `<WANDB_DIR>/wandb`, oldest first."""
    return [Path(each.path) for each in sorted(run_folders(home)) if each.run_id == run_id]


def _identity(rest: str, path: str) -> tuple[RunId, int]:
    """Return a folder's run id and number; an id may itself end in a number."""
    numbered = _NUMBERED.fullmatch(rest)
    if numbered and os.path.exists(f"{path}/run-{numbered[1]}.wandb"):  # noqa: PTH110 - called for each run
        return RunId(numbered[1]), int(numbered[2])
    return RunId(rest), 0


_VARIABLE: Final = "PARALLEL_HPO_DIRECTORY"


def find_directory(given: Path | None, environment: Mapping[str, str]) -> Path:
    """Return the folder of sweeps: as given, from the environment, or the default."""
    return absolute(Path(given or environment.get(_VARIABLE) or default_directory()))


def default_directory() -> Path:
    """Return the default folder of sweeps."""
    return user_data_path("parallel_hpo", appauthor=False)


def absolute(folder: Path) -> Path:
    """Return a folder's absolute path; ConfigError if the working directory that it needs is gone."""
    try:
        return folder.expanduser().absolute()
    except FileNotFoundError:
        raise ConfigError(
            f"{folder} is relative to the working directory, which has been deleted:"
            " change to one that exists, or give an absolute path"
        ) from None


PIPE: Final = "control"


def is_supervised(folder: Path) -> bool:
    """Return whether a session runs the sweep in `folder`."""
    try:
        with _open(folder):
            return True
    except OSError:  # no such pipe, or nobody reads it
        return False


def send(folder: Path, command: Mapping[str, int]) -> bool:
    """Send a command to the session of the sweep in `folder`; return False if none runs."""
    try:
        with _open(folder) as pipe:
            os.write(pipe, json.dumps(dict(command)).encode() + b"\n")
    except OSError:
        return False
    return True


def drain(slot: Slot) -> Mapping[str, int]:
    """Return the command that stops a slot after its current run."""
    return {"drain": int(slot)}


def scale(workers: int) -> Mapping[str, int]:
    """Return the command that changes the number of workers."""
    return {"scale": workers}


@contextmanager
def _open(folder: Path) -> Iterator[int]:
    """Open a sweep's pipe for writing; OSError if nobody reads it."""
    pipe = os.open(folder / PIPE, os.O_WRONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        if not stat.S_ISFIFO(os.fstat(pipe).st_mode):
            raise OSError(f"{folder / PIPE} is not a pipe")
        yield pipe
    finally:
        os.close(pipe)
