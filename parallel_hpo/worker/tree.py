"""Folders of a sweep's processes in the temporary folder, made so that whoever clears up finds them.

    parallel_hpo-<mark>-xxxxxxxx/     what modules make while they are imported (wandb two, for good)
        4711                          a child that was forked here, as a file; in it what it has started
    wandb-4711-4712-xxxxxxxx/         its wandb-core's socket, which stays where that is killed
    wandb_symon-4712-<pid>-xxxx.sock  that one's helper's

A process removes its own when it ends; of one that was killed its supervisor does, or the next
start of any.

Process trees: to be the one that orphans come back to, and to leave none of them.

Linux gives orphans to the nearest living ancestor that is a child subreaper
(prctl(2), PR_SET_CHILD_SUBREAPER), also those that double-forked or have a session
of their own. Elsewhere they go to init, and only the tree below a living process
can be found. A resource tracker of multiprocessing is not killed before it has
unlinked what those that it served have left in shared memory.

wandb-core, the client's own process beside each worker: which it is, and whether it was killed.

A client whose wandb-core is gone can tell its server nothing any more, and neither can
its agent ask for the next run. One that the client ends itself it also waits for, so
that a zombie is one which somebody has killed (the kernel's out-of-memory killer, say).
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
"""wandb's own processes: the client's service, and its helper, which watches the machine."""
MARK: Final = "PARALLEL_HPO_MARK"
"""In the environment of all processes of a sweep: whose they are."""
_FOLDER: Final = re.compile(r"parallel_hpo-(\w+)-[^-]+")
_OWNED: Final = re.compile(r"wandb(?:_symon)?-(\d+)-(\d+)-\d+(?:\.sock)?")
"""Parent and process."""
_HERE: Final[list[Path]] = []
"""The folder of this process, or of the fork server that it is a fork of."""
_NOTED: Final[deque[int]] = deque(maxlen=4)
"""What this process has noted."""


def make_folder() -> Path:
    """Make a folder for what this process, or a fork of it, leaves."""
    folder = Path(tempfile.mkdtemp(prefix=f"parallel_hpo-{os.environ.get(MARK, 'none')}-"))
    _HERE.append(folder)
    return folder


@contextmanager
def importing() -> Iterator[None]:
    """Have what a fresh interpreter's imports make in a folder that is found again; a fork's are done."""
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
    """Note the same of a process that this worker has started: a program, or its wandb-core.

    Of the last ones only: what a run leaves is seen to at its end, unless its worker is killed.
    """
    if _HERE and pid not in _NOTED:
        _NOTED.append(pid)
        with suppress(OSError):
            (_HERE[-1] / str(os.getpid())).write_text("\n".join(map(str, _NOTED)))


def note_child(folder: Path, pid: int) -> None:
    """Note that what this process leaves is to go with the folder."""
    with suppress(OSError):
        (folder / str(pid)).touch()


def clear_sockets(pid: int) -> None:
    """Remove the sockets of one of wandb's own processes that was killed, and of its helper."""
    with suppress(OSError):
        for entry in list(Path(tempfile.gettempdir()).iterdir()):
            owned = _OWNED.fullmatch(entry.name)
            if owned is not None and str(pid) in owned.groups():
                _remove(entry)


def clear(folder: Path) -> None:
    """Remove a folder, and the sockets of the dead processes that it names."""
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
    """Remove the folders whose marks are over, with what they name, from a temporary folder."""
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
PATIENCE_S: Final = 1.0
"""For a process that is about to end by itself, which takes a tracker some milliseconds."""


def be_subreaper(on: bool = True) -> bool:
    """Make orphans below this process its children (Linux); return whether that was so before."""
    if sys.platform != "linux":
        return False
    libc = ctypes.CDLL(None, use_errno=True)
    before = ctypes.c_int(0)
    libc.prctl(_PR_GET_CHILD_SUBREAPER, ctypes.byref(before), 0, 0, 0)
    libc.prctl(_PR_SET_CHILD_SUBREAPER, int(on), 0, 0, 0)
    return bool(before.value)


def die_with_parent(on: bool = True) -> None:
    """Have the kernel SIGKILL this process when the thread that started it ends (Linux), or no more."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL) if on else 0, 0, 0, 0)


def kill_tree(process: psutil.Process) -> None:
    """SIGKILL a process and all below it, deepest first; those already gone are fine.

    Trackers below are left alone: they end once those that they serve are dead.
    """
    for member in reversed(below(process)):
        if not is_tracker(member):
            kill(member)
    if is_tracker(process):
        let_end(process)
    else:
        kill(process)


def kill_trees(processes: Iterable[psutil.Process]) -> None:
    """SIGKILL these and all below them: trackers last, as they serve the others."""
    for process in sorted(processes, key=is_tracker):
        kill_tree(process)


def is_tracker(process: psutil.Process) -> bool:
    """Whether it is a resource tracker: multiprocessing's, or one that is made like it (loky's)."""
    try:
        return any("resource_tracker import main" in word for word in process.cmdline())
    except (psutil.Error, OSError):
        return False


def let_end(process: psutil.Process, *, within_s: float = PATIENCE_S) -> None:
    """Wait for a process that is about to end by itself; kill it where that takes longer."""
    try:
        process.wait(within_s)
    except psutil.TimeoutExpired:
        kill(process)


def below(process: psutil.Process) -> list[psutil.Process]:
    """Return all descendants of a process, parents first; none where it is gone."""
    try:
        return process.children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def kill(process: psutil.Process) -> None:
    """SIGKILL exactly this process: psutil checks its start time, so a reused pid is safe.

    What it would have removed at its end goes too, where it is one of wandb's.
    """
    try:
        keeps_sockets = process.name() in OWNERS
        process.kill()
    except psutil.NoSuchProcess:
        return
    if keeps_sockets:
        clear_sockets(process.pid)


def kill_all_below(spare: Callable[[psutil.Process], bool] = lambda _: False) -> None:
    """Kill and reap all children of this process, and what they leave, until none is left.

    `spare` names direct children that stay, with all below them.
    """
    while doomed := [child for child in children() if not spare(child)]:
        kill_trees(doomed)
        for child in doomed:
            reap(child.pid)


def children(of: int | None = None) -> list[psutil.Process]:
    """Return the children of a process, by default of this one, zombies included.

    Linux lists them by the thread that made them (proc(5), CONFIG_PROC_CHILDREN): a look there
    costs 0.1 ms, one at every process of the machine several. Raises psutil.NoSuchProcess.
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
    """Wait for a child that was killed; one that somebody else has waited for is fine."""
    try:
        os.waitpid(pid, 0)
    except ChildProcessError:
        return


def used_mb(pid: int) -> float:
    """Return the memory of a process and all below it in MB; PSS on Linux, where shared pages count once."""
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
    """Whether it is a process of wandb's own, beside whatever process."""
    try:
        return process.name() in OWNERS
    except psutil.Error:
        return False


def is_own_core(process: psutil.Process) -> bool:
    """Whether it is this process's own wandb-core, which the agent's next run takes down itself."""
    try:
        return is_core(process) and str(os.getpid()) in process.cmdline()
    except psutil.ZombieProcess:
        return True
    except psutil.Error:
        return False


class WandbCores:
    """The wandb-cores that one run has been seen to use."""

    def __init__(self, children: Callable[[], Iterable[psutil.Process]] = children) -> None:
        """`children` lists this process's children, zombies included."""
        self._children = children
        self._seen: tuple[psutil.Process, ...] = ()
        self._death_noted = False

    def begin(self) -> None:
        """Forget those of the last run, and note the agent's, if it has one."""
        self._seen = ()
        self._death_noted = False
        self.note()

    def note(self) -> None:
        """Note the one that is there now, and that its sockets are to go with this process."""
        cores = [child for child in self._children() if is_own_core(child) and not _is_zombie(child)]
        for core in cores:
            note(core.pid)
        self._seen += tuple(cores)

    def note_death(self) -> None:
        """Note that the client has found it dead, and waited for it: no zombie will tell."""
        self._death_noted = True

    def was_killed(self) -> bool:
        """Whether one of them has died without the client's doing, or one that nobody has noted.

        One may be killed while `wandb.init()` waits for it, or between two runs: the next one's
        `wandb.init()` raises then, before there is anything to note.
        """
        if self._death_noted or any(_is_zombie(process) for process in self._seen):
            return True
        return any(_has_been_killed(child) for child in self._children())


def _has_been_killed(process: psutil.Process) -> bool:
    """Whether it is a wandb-core that a signal has ended: those of children of `main` end by themselves.

    Looked at without waiting for it, which its Popen does (not on macOS: it counts as ended by itself).
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
