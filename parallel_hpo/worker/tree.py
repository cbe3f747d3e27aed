"""Process trees, their temporary folders, and wandb-core.

Folders have names by which a cleanup finds them:

    parallel_hpo-<owner id>-xxxxxxxx/  files that modules make on import (wandb makes two permanent ones)
        4711                           a file for a child forked here, with the processes that it has started
    wandb-4711-4712-xxxxxxxx/          socket of its wandb-core, left if that is killed
    wandb_symon-4712-<pid>-xxxx.sock   socket of wandb-core's helper

A process removes its own files at its end; those of a killed one are removed by its session or by the next
start of any.

Linux gives orphans to the nearest living ancestor that is a child subreaper (prctl(2),
PR_SET_CHILD_SUBREAPER), also those that double-forked or have their own session. Elsewhere they go to init,
and only the tree below a living process can be found. A resource tracker of multiprocessing is not killed
before it has unlinked shared memory that its clients left.

wandb-core is the client's process beside each worker. Without it, the client can't send, and its agent can't
ask for the next run. The client waits for a wandb-core that it ends, so a zombie was killed by another
process (the kernel's out-of-memory killer, say).
"""

from __future__ import annotations

import ctypes
import os
import re
import shutil
import signal
import sys
import tempfile
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

import psutil

OWNERS: Final = ("wandb-core", "wandb-symon")
"""Names of wandb's processes: the client's service, and its helper, which monitors the machine."""
MARK: Final = "PARALLEL_HPO_MARK"
"""Variable with the owner id, in the environment of all processes of a sweep."""
_FOLDER: Final = re.compile(r"parallel_hpo-(\w+)-[^-]+")
_OWNED: Final = re.compile(r"wandb(?:_symon)?-(\d+)-(\d+)-\d+(?:\.sock)?")
"""The groups are the ids of the parent and the process."""
_HERE: Final[list[Path]] = []
"""The folder of this process, or of its fork server."""
_NOTED: Final[deque[int]] = deque(maxlen=4)
"""Ids of the processes that this process has noted."""


def make_folder() -> Path:
    """Make a folder for files that this process or its forks may leave."""
    folder = Path(tempfile.mkdtemp(prefix=f"parallel_hpo-{os.environ.get(MARK, 'none')}-"))
    _HERE.append(folder)
    return folder


@contextmanager
def importing() -> Iterator[None]:
    """Let the imports of a fresh interpreter make their files in a folder for cleanup; a fork has imported
    all."""
    if "wandb" in sys.modules:
        yield
        return
    folder = make_folder()
    note_child(folder, os.getpid())
    tempfile.tempdir = str(folder)
    try:
        yield
    finally:
        tempfile.tempdir = None


def note(pid: int) -> None:
    """Note a process that this worker has started (a program, its wandb-core), for cleanup.

    Only the latest few are kept: each run cleans up at its end, unless its worker is killed.
    """
    if _HERE and pid not in _NOTED:
        _NOTED.append(pid)
        with suppress(OSError):
            (_HERE[-1] / str(os.getpid())).write_text("\n".join(map(str, _NOTED)))


def note_child(folder: Path, pid: int) -> None:
    """Note that a process's files are removed with the folder."""
    with suppress(OSError):
        (folder / str(pid)).touch()


def clear_sockets(pid: int) -> None:
    """Remove the sockets of a killed process of wandb's, and of its helper."""
    with suppress(OSError):
        for entry in list(Path(tempfile.gettempdir()).iterdir()):
            owned = _OWNED.fullmatch(entry.name)
            if owned is not None and str(pid) in owned.groups():
                _remove(entry)


def clear(folder: Path) -> None:
    """Remove a folder and the sockets of dead processes noted in it."""
    with suppress(OSError):
        children = [entry for entry in folder.iterdir() if entry.name.isdigit()]
        known = {word for entry in children for word in (entry.name, *entry.read_text().split())}
        for entry in sorted(folder.parent.iterdir()):  # a core's before its helper's: "-" before "_"
            owned = _OWNED.fullmatch(entry.name)
            if owned is not None and owned[1] in known and not _lives(int(owned[2])):
                known.add(owned[2])
                _remove(entry)
    _remove(folder)


def clear_all(is_over: Callable[[str], bool], temporary: str) -> None:
    """Remove the folders of ended owners, and the sockets noted in them."""
    with suppress(OSError):
        for entry in list(Path(temporary).iterdir()):
            marked = _FOLDER.fullmatch(entry.name)
            if marked is not None and is_over(marked[1]):
                clear(entry)


def _remove(path: Path) -> None:
    with suppress(OSError):
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_PR_GET_CHILD_SUBREAPER = 37
END_TIMEOUT_S: Final = 1.0
"""Timeout of a process that ends by itself, in seconds; a tracker takes milliseconds."""


def become_subreaper(on: bool = True) -> bool:
    """Make orphans below this process its children (Linux); return whether they were so before."""
    if sys.platform != "linux":
        return False
    libc = ctypes.CDLL(None, use_errno=True)
    before = ctypes.c_int(0)
    libc.prctl(_PR_GET_CHILD_SUBREAPER, ctypes.byref(before), 0, 0, 0)
    libc.prctl(_PR_SET_CHILD_SUBREAPER, int(on), 0, 0, 0)
    return bool(before.value)


def die_with_parent(on: bool = True) -> None:
    """Let the kernel SIGKILL this process when the thread that started it ends (Linux), or stop that."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL) if on else 0, 0, 0, 0)


def kill_tree(process: psutil.Process) -> None:
    """SIGKILL a process and its descendants, deepest first, ignoring those that have ended.

    Resource trackers below are spared: they end after their clients.
    """
    for member in reversed(below(process)):
        if not is_tracker(member):
            kill(member)
    if is_tracker(process):
        wait_or_kill(process)
    else:
        kill(process)


def kill_trees(processes: Iterable[psutil.Process]) -> None:
    """SIGKILL these trees, trackers last, as they serve the others."""
    for process in sorted(processes, key=is_tracker):
        kill_tree(process)


def is_tracker(process: psutil.Process) -> bool:
    """Return whether it is a resource tracker: multiprocessing's, or a copy such as loky's."""
    try:
        return any("resource_tracker import main" in word for word in process.cmdline())
    except (psutil.Error, OSError):
        return False


def wait_or_kill(process: psutil.Process, *, within_s: float = END_TIMEOUT_S) -> None:
    """Wait for a process that ends by itself; kill it after a timeout."""
    try:
        process.wait(within_s)
    except psutil.TimeoutExpired:
        kill(process)


def below(process: psutil.Process) -> list[psutil.Process]:
    """Return all descendants of a process, parents first; none if it has ended."""
    try:
        return process.children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def kill(process: psutil.Process) -> None:
    """SIGKILL exactly this process: psutil checks its start time, so a reused pid is safe.

    For wandb's processes, also remove the sockets that they would have removed at their end.
    """
    try:
        keeps_sockets = process.name() in OWNERS
        process.kill()
    except psutil.NoSuchProcess:
        return
    if keeps_sockets:
        clear_sockets(process.pid)


def kill_all_below(spare: Callable[[psutil.Process], bool] = lambda _: False) -> None:
    """Kill and reap all children of this process, and processes that they leave, until none is left.

    `spare` selects direct children that stay, with their descendants.
    """
    while doomed := [child for child in children() if not spare(child)]:
        kill_trees(doomed)
        for child in doomed:
            reap(child.pid)


def children(of: int | None = None) -> list[psutil.Process]:
    """Return the children of a process, by default of this one, zombies included.

    Linux lists them by thread (proc(5), CONFIG_PROC_CHILDREN), which takes 0.1 ms; a look at every process
    of the machine takes several. Raises psutil.NoSuchProcess.
    """
    try:
        threads = Path("/proc", "self" if of is None else str(of), "task").iterdir()
        pids = [pid for thread in threads for pid in _read_children(thread)]
    except OSError:  # another system, or a thread that has just ended
        return psutil.Process(of).children()
    return [child for pid in pids if (child := _process(pid)) is not None]


def _read_children(thread: Path) -> list[int]:
    return [int(pid) for pid in (thread / "children").read_text().split()]


def _process(pid: int) -> psutil.Process | None:
    try:
        return psutil.Process(pid)
    except psutil.NoSuchProcess:
        return None


def reap(pid: int) -> None:
    """Reap a killed child, unless it has been reaped already."""
    try:
        os.waitpid(pid, 0)
    except ChildProcessError:
        return


def used_mb(pid: int) -> float:
    """Return the memory of a process tree in MB; PSS on Linux, which counts shared pages once."""
    try:
        top = psutil.Process(pid)
        return sum(_memory_bytes(process) for process in [top, *below(top)]) / 2**20
    except psutil.NoSuchProcess:
        return 0.0


def _memory_bytes(process: psutil.Process) -> int:
    try:
        full = process.memory_full_info()
        return int(getattr(full, "pss", full.rss))
    except psutil.Error:
        return 0


NAME: Final = "wandb-core"


def is_core(process: psutil.Process) -> bool:
    """Return whether it is a wandb-core or its helper, of any process."""
    try:
        return process.name() in OWNERS
    except psutil.Error:
        return False


def is_own_core(process: psutil.Process) -> bool:
    """Return whether it is this process's own wandb-core, which the agent's next run ends itself."""
    try:
        return is_core(process) and str(os.getpid()) in process.cmdline()
    except psutil.ZombieProcess:
        return True
    except psutil.Error:
        return False


class WandbCores:
    """The wandb-cores that one run has used."""

    def __init__(self, children: Callable[[], Iterable[psutil.Process]] = children) -> None:
        """`children` returns this process's children, including zombies."""
        self._children = children
        self._seen: tuple[psutil.Process, ...] = ()
        self._death_noted = False

    def begin(self) -> None:
        """Reset for a new run, and note the agent's wandb-core, if any."""
        self._seen = ()
        self._death_noted = False
        self.note()

    def note(self) -> None:
        """Note the present wandb-core, and its sockets for cleanup."""
        cores = [child for child in self._children() if is_own_core(child) and not _is_zombie(child)]
        for core in cores:
            note(core.pid)
        self._seen += tuple(cores)

    def note_death(self) -> None:
        """Note that the client has found it dead and reaped it, so that no zombie shows it."""
        self._death_noted = True

    def was_killed(self) -> bool:
        """Return whether one of them, or one not noted yet, has died without the client's doing.

        One may be killed while `wandb.init()` waits for it, or between two runs: then `wandb.init()` raises
        before it can be noted.
        """
        if self._death_noted or any(_is_zombie(process) for process in self._seen):
            return True
        return any(_has_been_killed(child) for child in self._children())


def _has_been_killed(process: psutil.Process) -> bool:
    """Return whether it is a wandb-core ended by a signal; those of children of `main` end by themselves.

    It is not reaped, as its Popen does that (not on macOS, where it counts as ended by itself).
    """
    try:
        if process.name() != NAME or not _is_zombie(process) or not hasattr(os, "waitid"):
            return False
        ended = os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except (psutil.Error, ChildProcessError):
        return False
    return ended is not None and ended.si_code in (os.CLD_KILLED, os.CLD_DUMPED)


def _is_zombie(process: psutil.Process) -> bool:
    try:
        return bool(process.status() == psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False
