"""`parallel-hpo logs`: prints the output of the workers, with `--follow` until the sweep ends."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from parallel_hpo.cli.finding import find_anywhere
from parallel_hpo.cli.options import Directory, Json, Sweep, directory_of, parse_slot
from parallel_hpo.cli.output import print_for_machines, print_for_people
from parallel_hpo.core.errors import UsageError
from parallel_hpo.core.types import sweep_id_of
from parallel_hpo.core.values import visible_output

if TYPE_CHECKING:
    from parallel_hpo.records.reader import MachineSummary

LOOK_EVERY_S: Final = 0.2
"""Interval between reads of a followed log, in seconds; people don't notice a shorter one."""
_CHUNK_BYTES: Final = 1 << 16


def logs(
    sweep: Sweep,
    worker: Annotated[
        int | None, typer.Argument(help="Slot of a worker, as 0 or w0 (default: all).", parser=parse_slot)
    ] = None,
    follow: Annotated[
        bool, typer.Option("-f", "--follow", help="Print new output until the sweep ends.")
    ] = False,
    directory: Directory = None,
    as_json: Json = False,
) -> None:
    """Print the output of a sweep's workers."""
    folder, others = _find(directory_of(directory), sweep)
    show = _as_json if as_json else _TextPrinter(several=worker is None)
    known: dict[Path, _Log] = {}
    while True:
        is_running = follow and _is_running(folder)  # before reading, so that the last output is shown
        for path in _paths([folder, *others.here], worker):
            log = known.setdefault(path, _Log(path))
            for lines in log.read_new():
                show(_name(log, folder), lines)
        if not is_running:
            break
        time.sleep(LOOK_EVERY_S)
    for hint in others.hints:
        print_for_people(hint)
    if not known and not others.hints:
        raise UsageError(f"{folder} has no log {_pattern(worker)}")
    for log in known.values():
        if log.rest:
            show(_name(log, folder), log.rest)


@dataclass(slots=True)
class _Log:
    """A log that is read while it grows, in whole lines."""

    path: Path
    at: int = 0
    """Number of bytes read so far."""
    rest: bytes = field(default=b"")
    """Beginning of an incomplete line."""

    def read_new(self) -> Iterator[bytes]:
        """Yield the lines appended since the last call, in chunks of whole lines."""
        with self.path.open("rb") as file:
            file.seek(self.at)
            while chunk := file.read(_CHUNK_BYTES):
                self.at += len(chunk)
                whole, end, rest = (self.rest + chunk).rpartition(b"\n")
                self.rest = rest
                if end:
                    yield whole + end


def _find(directory: Path, sweep: str) -> tuple[Path, _MachineLogs]:
    """Return the sweep's folder, and the logs of its machines; UsageError for an unknown sweep.

    A machine that has joined keeps its own logs, and doesn't know those of others.
    """
    from parallel_hpo.records.reader import ledgers_in

    folder = directory / sweep_id_of(sweep)
    if not ledgers_in(folder) and any(folder.glob("machine-*")):
        return folder, _MachineLogs([], ["the sweep's other machines, if there are any, keep their own logs"])
    found = find_anywhere(directory, sweep)
    return found.folder, _machine_logs(found.machines)


def _is_running(folder: Path) -> bool:
    """Return whether the sweep, or a machine's part of it, runs in this folder."""
    from parallel_hpo.core.folders import is_supervised
    from parallel_hpo.records.folders import supervised_folders

    return bool(supervised_folders(folder)) or any(map(is_supervised, folder.glob("machine-*")))


@dataclass(frozen=True, slots=True)
class _MachineLogs:
    """Places of the logs of a sweep's machines."""

    here: list[Path]
    """Folders on this machine, besides the sweep's own."""
    hints: list[str]
    """Messages that say where the others are."""


def _machine_logs(machines: Sequence[MachineSummary]) -> _MachineLogs:
    folders = {machine.name: Path(machine.folder) for machine in machines if machine.folder}
    here = {folder.parent for folder in folders.values() if folder.is_dir()}
    hints = [
        f"the logs of {name} are on that machine, in {folder}"
        for name, folder in folders.items()
        if not folder.is_dir()
    ]
    return _MachineLogs(sorted(here), hints)


def _paths(folders: Sequence[Path], worker: int | None) -> list[Path]:
    """Return the logs in these folders of the sweep, including those of shares and machines."""
    pattern = _pattern(worker)
    patterns = (pattern, f"share-*/{pattern}", f"machine-*/{pattern}")
    return sorted({path for folder in folders for each in patterns for path in folder.glob(each)})


def _pattern(worker: int | None) -> str:
    return f"worker-{'*' if worker is None else worker}/output.log"


def _name(log: _Log, folder: Path) -> str:
    # A machine's folder is in the sweep's folder of its own directory.
    parent = folder if log.path.is_relative_to(folder) else log.path.parents[2]
    return str(log.path.parent.relative_to(parent))


class _TextPrinter:
    """Prints lines, with a heading wherever the worker changes, as `tail` does.

    On a terminal only colours remain of the control sequences; a pipe or file gets the lines unchanged.
    """

    def __init__(self, *, several: bool) -> None:
        self._several = several
        self._last = ""

    def __call__(self, name: str, lines: bytes) -> None:
        if self._several and name != self._last:
            print_for_machines(f"==> {name} <==")
        self._last = name
        if sys.stdout.isatty():
            text = lines.decode(errors="replace").split("\n")
            lines = "\n".join(map(_visible, text)).encode(sys.stdout.encoding, "replace")
        sys.stdout.buffer.write(lines)
        sys.stdout.flush()


def _visible(line: str) -> str:
    """Return a line that is safe for a terminal, and keep its carriage returns (progress bars)."""
    return "\r".join(map(visible_output, line.split("\r")))


def _as_json(name: str, lines: bytes) -> None:
    for line in lines.decode(errors="replace").removesuffix("\n").split("\n"):
        print_for_machines(json.dumps({"worker": name, "line": line}))
