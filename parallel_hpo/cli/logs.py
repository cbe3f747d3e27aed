"""`parallel-hpo logs`: what the workers printed, and with `--follow` what they print until the sweep ends."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from parallel_hpo.cli.finding import find_anywhere
from parallel_hpo.cli.output import print_for_machines, print_for_people
from parallel_hpo.core.control_pipe import is_supervised
from parallel_hpo.core.errors import UsageError
from parallel_hpo.core.types import sweep_id_of
from parallel_hpo.core.visible import visible_output
from parallel_hpo.records.folders import supervised_folders
from parallel_hpo.records.ledger_views import ledgers_in
from parallel_hpo.records.reader import MachineRow

LOOK_EVERY_S: Final = 0.2
"""How often a log that is followed is looked at: as often as people see a difference."""
_CHUNK_BYTES: Final = 1 << 16

Show = Callable[[str, bytes], None]
"""Is given a worker's folder, as the sweep's has it, and whole lines of its log."""


@dataclass(slots=True)
class _Log:
    """A log that is read as it grows, by whole lines."""

    path: Path
    at: int = 0
    """So many bytes of it have been shown."""
    rest: bytes = field(default=b"")
    """The beginning of a line that is not whole yet."""

    def news(self) -> Iterator[bytes]:
        """Yield what was appended since the last call, in pieces of whole lines."""
        with self.path.open("rb") as file:
            file.seek(self.at)
            while chunk := file.read(_CHUNK_BYTES):
                self.at += len(chunk)
                whole, end, rest = (self.rest + chunk).rpartition(b"\n")
                self.rest = rest
                if end:
                    yield whole + end


def logs(directory: Path, sweep: str, worker: int | None, *, follow: bool, as_json: bool) -> None:
    """Print what the workers printed, all of it or one's; as JSON one object for each line.

    With `follow` also what they print from now on, until nobody runs the sweep any more.
    """
    folder, elsewhere = _find(directory, sweep)
    show = _as_json if as_json else _TextPrinter(several=worker is None)
    known: dict[Path, _Log] = {}
    while True:
        is_on = follow and _is_on(folder)  # before the look: what it printed last is shown
        for path in _paths([folder, *elsewhere.here], worker):
            _show_news(known.setdefault(path, _Log(path)), folder, show)
        if not is_on:
            break
        time.sleep(LOOK_EVERY_S)
    for words in elsewhere.told:
        print_for_people(words)
    if not known and not elsewhere.told:
        raise UsageError(f"{folder} has no log {_pattern(worker)}")
    for log in known.values():
        if log.rest:
            show(_name(log, folder), log.rest)


def _find(directory: Path, sweep: str) -> tuple[Path, _MachineLogs]:
    """Return the sweep's folder, and where else it has logs; UsageError where it is not known here.

    A machine that has joined keeps its own logs, and does not know of others.
    """
    folder = directory / sweep_id_of(sweep)
    if not ledgers_in(folder) and any(folder.glob("machine-*")):
        return folder, _MachineLogs([], ["the sweep's other machines, if there are any, keep their own logs"])
    found = find_anywhere(directory, sweep)
    return found.folder, _elsewhere(found.machines)


def _is_on(folder: Path) -> bool:
    """Whether somebody runs the sweep, or a machine's part in it, in this folder."""
    return bool(supervised_folders(folder)) or any(map(is_supervised, folder.glob("machine-*")))


def _show_news(log: _Log, folder: Path, show: Show) -> None:
    for lines in log.news():
        show(_name(log, folder), lines)


@dataclass(frozen=True, slots=True)
class _MachineLogs:
    """Where a sweep's machines keep their logs."""

    here: list[Path]
    """Folders that this machine has, beside the sweep's own."""
    told: list[str]
    """Where the others are, in words."""


def _elsewhere(machines: Sequence[MachineRow]) -> _MachineLogs:
    folders = {machine.name: Path(machine.folder) for machine in machines if machine.folder}
    here = {folder.parent for folder in folders.values() if folder.is_dir()}
    told = [
        f"the logs of {name} are on that machine, in {folder}"
        for name, folder in folders.items()
        if not folder.is_dir()
    ]
    return _MachineLogs(sorted(here), told)


def _paths(folders: Sequence[Path], worker: int | None) -> list[Path]:
    """Return the logs in these folders of the sweep, those of shares and machines included."""
    pattern = _pattern(worker)
    patterns = (pattern, f"share-*/{pattern}", f"machine-*/{pattern}")
    return sorted({path for folder in folders for each in patterns for path in folder.glob(each)})


def _pattern(worker: int | None) -> str:
    return f"worker-{'*' if worker is None else worker}/output.log"


def _name(log: _Log, folder: Path) -> str:
    beside = log.path.parents[2]  # a machine's folder lies in the sweep's, in whichever directory
    return str(log.path.parent.relative_to(folder if log.path.is_relative_to(folder) else beside))


class _TextPrinter:
    """Prints lines, after whose they are wherever that changes, as `tail` does.

    A terminal gets them with their colours alone, anything else gets them as they are.
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
            lines = "\n".join(map(_shown, text)).encode(sys.stdout.encoding, "replace")
        sys.stdout.buffer.write(lines)
        sys.stdout.flush()


def _shown(line: str) -> str:
    """Return a line as a terminal may have it: a progress bar goes on from each carriage return."""
    return "\r".join(map(visible_output, line.split("\r")))


def _as_json(name: str, lines: bytes) -> None:
    for line in lines.decode(errors="replace").removesuffix("\n").split("\n"):
        print_for_machines(json.dumps({"worker": name, "line": line}))
