"""Whether sweeps can be kept in a directory, and where this process works: found out before anything starts.

What fails here is the configuration's: nothing exists on a server yet. Ledgers and databases belong on a
local disk: their locks and their shared memory hold on one machine; over the network they are slow, or lie.

The sweeps that there are in a directory, read beside whoever runs them.

Which sweeps may be removed, their folders first of all, and what would be lost with them.

What a sweep left on its server is not in its folder, and a sweep that was not run from here has none. A
folder is removed only while this process owns its ledgers, so never under a supervisor's hands.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from parallel_hpo.core.errors import ConfigError, ExitCode, LedgerError, UsageError
from parallel_hpo.core.folders import is_supervised, run_folders
from parallel_hpo.core.types import Outcome, RunId, Slot, SweepPath, sweep_id_of
from parallel_hpo.records.ledger import Ledger
from parallel_hpo.records.ledger_views import Attempt, PerformedRuns, ledgers_in, performed
from parallel_hpo.records.reader import MachineRow, RunRow, WorkerRow, best_of, open_reader

NETWORK: Final = frozenset(
    {
        *("nfs", "nfs4", "cifs", "smb3", "lustre", "beegfs", "gpfs", "ceph"),
        *("fuse.ceph", "fuse.sshfs"),
    }
)
"""How Linux calls those file systems."""
MOUNTS: Final = Path("/proc/mounts")
_ESCAPED: Final = re.compile(r"\\([0-7]{3})")

NO_LOCKS: Final = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, errno.EINVAL)
"""What file systems answer that know no locks."""

Lock = Callable[[int], None]


def lock_both_ways(fd: int) -> None:
    """Lock a file as a ledger is locked, and as SQLite locks its database."""
    fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)


def prepare_directory(directory: Path, *, lock: Lock = lock_both_ways) -> None:
    """Make the directory where there is none, and try in it what a sweep will do; raises ConfigError."""
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=directory) as probe:
            _try_lock(probe.fileno(), directory, lock)
    except OSError as error:
        raise ConfigError(
            f"hpo.directory is {directory}, where nothing can be written: {error.strerror};"
            " name a folder of yours there or by --directory"
        ) from None


def working_folder() -> str:
    """Return this process's working directory; raises UsageError where it has been deleted."""
    try:
        return str(Path.cwd())
    except FileNotFoundError:
        raise UsageError(
            "the working directory has been deleted: change to one that exists, and start again"
        ) from None


def _try_lock(fd: int, directory: Path, lock: Lock) -> None:
    try:
        lock(fd)
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise
        raise ConfigError(
            f"hpo.directory is {directory}, whose file system has no file locks ({error.strerror}):"
            " two supervisors could run one sweep there; name a folder on a local disk"
        ) from None


def network_file_system(folder: Path, mounts: Path = MOUNTS) -> str:
    """Return the kind of network file system that a folder lies on; '' where it is none, or nobody knows."""
    try:
        lines = mounts.read_text(errors="replace").splitlines()
    except OSError:  # not Linux
        return ""
    place = Path(os.path.realpath(folder))
    kind, depth = "", 0
    for point, mounted in map(_mount_in, lines):
        if place.is_relative_to(point) and len(point.parts) >= depth:  # a later one hides what was there
            kind, depth = mounted, len(point.parts)
    return kind if kind in NETWORK else ""


def why_unsafe(folder: Path, mounts: Path = MOUNTS) -> str:
    """Return what is to be said of a directory of sweeps on such a file system; '' where it is on none."""
    kind = network_file_system(folder, mounts)
    return f"{folder} is on the network ({kind}), where a ledger's locks may not hold" if kind else ""


def _mount_in(line: str) -> tuple[Path, str]:
    """Return where a file system is mounted, and its kind."""
    _, point, kind, *_ = [*line.split(" "), "", "", ""]
    return Path(_ESCAPED.sub(lambda found: chr(int(found[1], 8)), point)), kind


_ENDING: Final = ("stop_reason", "exit_code")


@dataclass(frozen=True, slots=True)
class KnownSweep:
    """A sweep as its ledgers have it now; one that was performed in shares has a ledger for each."""

    folder: Path
    facts: dict[str, Any]
    """Those of its first ledger (`path`, `url`, `backend`, `metric`, `goal`); its end is that of all."""
    count: int | None
    """Runs asked for, over all its ledgers; None: no limit."""
    workers: tuple[WorkerRow, ...]
    """The slots of each of its ledgers in which a worker has been started."""
    runs: tuple[RunRow, ...]
    """In the order of their first start."""
    supervised: tuple[Path, ...]
    """Folders, its own or its shares', that a supervisor works in now."""
    machines: tuple[MachineRow, ...] = ()
    """Those that have taken part; empty where the sweep has one only."""
    of_pool: tuple[PerformedRuns, ...] | None = None
    """What was performed by the sweep's pool, where the folder has no ledger; None: the ledgers say it."""

    @property
    def performed(self) -> Sequence[PerformedRuns]:
        """What its supervisors' workers did. LedgerError: a ledger can't be read."""
        return performed(self.folder) if self.of_pool is None else self.of_pool

    @property
    def attempts(self) -> list[Attempt]:
        """Those of all its runs, over all its shares and launches. LedgerError: a ledger can't be read."""
        return [attempt for share in self.performed for attempt in share.attempts]

    @property
    def sweep_id(self) -> str:
        """Its id, which is the name of its folder."""
        return self.folder.name

    @property
    def project(self) -> str | None:
        """The name of its project; None: its ledger was just being made."""
        return SweepPath.parse(self.facts["path"]).project if "path" in self.facts else None

    @property
    def slots(self) -> tuple[Slot, ...]:
        """Those in which a worker has been started."""
        return tuple(sorted({worker.slot for worker in self.workers}))

    @property
    def best(self) -> RunRow | None:
        """The finished run with the best value of the metric."""
        return best_of(self.runs, self.facts.get("goal", "minimize"))

    def number(self, outcome: Outcome | None) -> int:
        """Return how many runs ended so; None: are not over."""
        return sum(1 for run in self.runs if run.outcome is outcome)


def known_sweeps(directory: Path, *, unreadable: Callable[[LedgerError], None]) -> Iterator[KnownSweep]:
    """Yield all sweeps in a directory, by their age; `unreadable` is told of the others."""
    for folder in folders_of_sweeps(directory):
        try:
            yield _read(folder)
        except LedgerError as error:
            unreadable(error)


def find_sweep(directory: Path, sweep: str) -> KnownSweep:
    """Return the sweep with that id or path; raises UsageError that names those that there are."""
    folder = directory / sweep_id_of(sweep)
    if ledgers_in(folder):
        return _read(folder)
    raise UsageError(no_sweep(sweep, directory, [each.name for each in folders_of_sweeps(directory)]))


def no_sweep(sweep: str, directory: Path, known: Iterable[str]) -> str:
    """Return the error for a sweep that a directory does not have; `known` are the names that would do."""
    return (
        f"there is no sweep {sweep} in {directory}; there: {', '.join(known) or 'none'}"
        " (one that was only created is there once somebody runs it)"
    )


def newest_sweep(directory: Path) -> KnownSweep:
    """Return the sweep that was begun or gone on with last; UsageError where there is none."""
    folders = folders_of_sweeps(directory)
    if not folders:
        raise UsageError(f"there is no sweep in {directory}")
    return _read(folders[-1])


def folders_of_sweeps(directory: Path) -> list[Path]:
    """Return the folders of all sweeps in a directory, by the age of what their supervisors wrote last."""
    found = {folder: ledgers for folder in directory.glob("*") if (ledgers := ledgers_in(folder))}
    return sorted(found, key=lambda folder: max(ledger.stat().st_mtime for ledger in found[folder]))


def supervised_folders(folder: Path) -> tuple[Path, ...]:
    """Return the folders, a sweep's own or its shares', that a supervisor works in now."""
    places = (path.parent for path in ledgers_in(folder))
    return tuple(place for place in places if is_supervised(place))


def _read(folder: Path) -> KnownSweep:
    ledgers = ledgers_in(folder)
    with ExitStack() as stack:
        readers = [stack.enter_context(open_reader(path)) for path in ledgers]
        runs = (run for reader in readers for run in reader.runs())
        counts: list[int | None] = [reader.facts.get("count") for reader in readers]
        return KnownSweep(
            folder=folder,
            facts=_facts([reader.facts for reader in readers]),
            count=None if None in counts else sum(count or 0 for count in counts),
            workers=tuple(worker for reader in readers for worker in reader.workers()),
            runs=tuple(sorted(runs, key=lambda run: run.started_at)),
            supervised=supervised_folders(folder),
            machines=tuple(machine for reader in readers for machine in reader.machines()),
        )


def _facts(of_ledgers: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return the first ledger's, with the end of a share that has something left to do, if there is one."""
    first = of_ledgers[0]
    left = next((facts for facts in of_ledgers if facts.get("exit_code") != 0), first)
    ending = {name: left[name] for name in _ENDING if name in left}
    return {name: fact for name, fact in first.items() if name not in _ENDING} | ending


MB: Final = 2**20
TOUCHED: Final = ("-shm", "-wal")
"""What SQLite makes anew beside a ledger that is only read."""
OVER: Final = (ExitCode.COMPLETE, ExitCode.FAILURE_POLICY, ExitCode.NO_RUN_FINISHED)
"""How a sweep ends with which nobody is expected to go on."""
CAN_BE_RESUMED: Final = "it can be resumed"


@dataclass(frozen=True, slots=True)
class CleanCandidate:
    """What is left of a sweep, as somebody sees it who wants room."""

    sweep_id: str
    folder: Path | None
    """None: it has none here."""
    age_s: float
    """Since anything was last written of it."""
    size_mb: float
    """In MB of 2**20 bytes."""
    running: bool
    regrets: tuple[str, ...]
    """What would be lost with it; none: it is finished, and its server has all of it."""


def look_at(known: KnownSweep, *, now: float) -> CleanCandidate:
    """Return what a sweep's folder holds; `now` in seconds since the epoch."""
    files = [path for path in known.folder.rglob("*") if path.is_file() and not path.is_symlink()]
    sizes = [path.stat().st_size for path in files]
    changes = [path.stat().st_mtime for path in files if not path.name.endswith(TOUCHED)]
    return CleanCandidate(
        sweep_id=known.sweep_id,
        folder=known.folder,
        age_s=max(0.0, now - max(changes, default=now)),
        size_mb=sum(sizes) / MB,
        running=bool(known.supervised),
        regrets=tuple(_regrets(known)),
    )


def remove(leftover: CleanCandidate, first: Callable[[], None] = lambda: None) -> None:
    """Remove the folder, after `first` has removed what is elsewhere: until then the sweep is known.

    Raises:
        LedgerError: a supervisor works in it, or in a part of it.
    """
    with ExitStack() as owned:
        for ledger in [] if leftover.folder is None else ledgers_in(leftover.folder):
            owned.enter_context(Ledger(ledger))
        first()
        if leftover.folder is not None:
            shutil.rmtree(leftover.folder)


def _regrets(known: KnownSweep) -> Iterator[str]:
    if not all(_is_over(ledger.with_name("summary.json")) for ledger in ledgers_in(known.folder)):
        yield CAN_BE_RESUMED
    cut = [run.run_id for run in known.runs if run.outcome in (None, Outcome.CRASHED) or run.resumable]
    unsure = [run_id for run_id in cut if not _is_sent(known.folder, run_id)]
    if unsure:
        yield f"its server may lack the last lines of {', '.join(unsure)}"
    offline = [path for path in known.folder.rglob("offline-run-*/*.wandb") if not _is_synced(path)]
    if offline:
        yield f"{len(offline)} offline runs are not synced"


def _is_over(summary: Path) -> bool:
    try:
        return json.loads(summary.read_text())["exit_code"] in OVER
    except (OSError, ValueError, KeyError):
        return False


def _is_sent(folder: Path, run_id: RunId) -> bool:
    """Whether the last attempt of a run that was cut short has been sent afterwards, or left nothing."""
    homes = folder.rglob("worker-*/wandb")
    made = [each for home in homes for each in run_folders(home) if each.run_id == run_id]
    files = [*Path(max(made).path).glob("*.wandb")] if made else []
    return not files or _is_synced(files[-1])


def _is_synced(file: Path) -> bool:
    """`wandb sync` leaves such a mark."""
    return file.with_name(f"{file.name}.synced").exists()
