"""Removes processes and folders of dead sessions (`reap_leftovers`), and reports workers' memory
(`MemoryWatch`).

All processes of a sweep have an owner id in their environment, which forks inherit. It names the session by
pid and start time, so a reused pid is told apart, and by pid namespace, so a container's sweep is never
judged from outside. Changes of the wall clock don't affect it.

`MemoryWatch` serves the display only; the loop itself enforces the memory limit, twice a second. It may use
a fiftieth of a core: reading how a large process shares its pages takes milliseconds.
"""

from __future__ import annotations

import os
import secrets
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

import psutil

from parallel_hpo.core.periodic import PeriodicThread
from parallel_hpo.core.types import Slot
from parallel_hpo.worker import tree

MARK: Final = tree.MARK
"""Variable with the owner id, in the environment of the fork server, the sweep server and all their
descendants."""


@dataclass(frozen=True, slots=True)
class OwnerId:
    """A session by its pid, its start, its pid namespace, and the machine's boot.

    The start has a letter first, so that old versions, which used the time of day, don't misread it.
    """

    pid: int
    started: int
    namespace: int
    boot: str

    def __str__(self) -> str:
        return f"{self.pid}_t{self.started}_{self.namespace}_{self.boot}"

    @classmethod
    def read(cls, text: str) -> Self | None:
        """Return the owner id at the start of `text`, None if there is none."""
        pid, started, namespace, boot, *_ = [*text.split("_"), "", "", "", ""]
        numbers = (pid, started[1:], namespace)
        if (
            not boot
            or started[:1] != "t"
            or not all(number.isascii() and number.isdigit() for number in numbers)
        ):
            return None
        return cls(int(pid), int(started[1:]), int(namespace), boot)


def new_owner_id(token: str | None = None) -> str:
    """Return an owner id of this process, of letters, digits and underscores, as worker labels need.

    `token` is its end, for recognition; None: random.
    """
    here = OwnerId(os.getpid(), start_of(os.getpid()) or 0, _namespace(), _boot())
    return f"{here}_{token or secrets.token_hex(4)}"


def start_of(pid: int) -> int | None:
    """Return a process's start time, which tells apart processes with the same pid; None: it does not run.

    On Linux in ticks since the boot (proc(5), field 22 of stat), as a time of day moves when the clock is
    set. Elsewhere the kernel stores the start's time of day.
    """
    try:
        words = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
    except FileNotFoundError:
        return None if Path("/proc/self/stat").exists() else _started_by_psutil(pid)
    except ProcessLookupError:
        return None
    return None if words[0] in (b"Z", b"X") else int(words[19])


def _started_by_psutil(pid: int) -> int | None:
    try:
        process = psutil.Process(pid)
        return None if process.status() == psutil.STATUS_ZOMBIE else round(process.create_time() * 1e6)
    except psutil.NoSuchProcess:
        return None


def reap_leftovers(processes: Iterable[psutil.Process] | None = None) -> int:
    """Kill process trees of dead sessions, and remove their folders; return how many were found."""
    found = [
        process
        for process in (_processes_with_mark() if processes is None else processes)
        if _is_left_over(process)
    ]
    # Killed processes can't remove their folders themselves.
    folders = {tempfile.gettempdir(), *map(_temporary_folder_of, found)}
    for process in found:
        tree.kill_tree(process)
    for folder in folders:
        tree.clear_all(is_dead, folder)
    return len(found)


def _temporary_folder_of(process: psutil.Process) -> str:
    with suppress(psutil.Error, OSError):
        if named := process.environ().get("TMPDIR"):
            return named
    return tempfile.gettempdir()


def _processes_with_mark() -> Iterator[psutil.Process]:
    """Yield the processes of this machine that may have an owner id.

    On Linux, searching the variable's name takes a fifth of the time of psutil's parsing.
    """
    if not Path("/proc/self/environ").exists():
        yield from psutil.process_iter()
        return
    for pid in psutil.pids():
        with suppress(OSError, psutil.Error):  # another user's, or gone
            if MARK.encode() in Path(f"/proc/{pid}/environ").read_bytes():
                yield psutil.Process(pid)


def _is_left_over(process: psutil.Process) -> bool:
    try:
        return is_dead(process.environ().get(MARK, ""))
    except (psutil.Error, OSError):
        return False  # another user's, or gone


def is_dead(text: str) -> bool:
    """Return whether an owner id names a dead session; one of another boot may be another machine's."""
    mark = OwnerId.read(text)
    if mark is None or (mark.namespace, mark.boot) != (_namespace(), _boot()):
        return False
    return start_of(mark.pid) != mark.started


def _namespace() -> int:
    with suppress(OSError):
        return int("".join(filter(str.isdigit, Path("/proc/self/ns/pid").readlink().name)))
    return 0


def _boot() -> str:
    """Return an id of this boot of the machine, as owner ids may be kept in files."""
    with suppress(OSError):
        return Path("/proc/sys/kernel/random/boot_id").read_text().partition("-")[0]
    return "0"


LOOK_EVERY_S: Final = 2.0
REST: Final = 50
"""Minimum pause after a round, as a multiple of its duration."""


class MemoryWatch(PeriodicThread):
    """Reports the memory of each slot's worker, in MB of 2**20 bytes."""

    def __init__(
        self,
        tell: Callable[[Slot, float], None],
        *,
        used_mb: Callable[[int], float] = tree.used_mb,
        every_s: float = LOOK_EVERY_S,
    ) -> None:
        super().__init__("memory", every_s=every_s, rest=REST)
        self._tell = tell
        self._used_mb = used_mb
        self._pids: dict[Slot, int] = {}
        self._lock = threading.Lock()

    def add(self, slot: Slot, pid: int) -> None:
        """Watch this process as the slot's worker."""
        with self._lock:
            self._pids[slot] = pid

    def remove(self, slot: Slot) -> None:
        """Stop watching the slot."""
        with self._lock:
            self._pids.pop(slot, None)

    def look(self) -> None:
        with self._lock:
            pids = dict(self._pids)
        for slot, pid in pids.items():
            if self.closing.is_set():
                return
            if used := self._used_mb(pid):
                self._tell(slot, used)
