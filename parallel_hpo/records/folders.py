"""The directory of sweeps: checks before a start, the sweeps in it, and removal of their folders.

Ledgers and databases belong on a local disk: over a network, locks and shared memory are slow or unreliable.
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
from parallel_hpo.records.reader import (
    Attempt,
    MachineSummary,
    PerformedRuns,
    RunRow,
    WorkerSummary,
    best_of,
    ledgers_in,
    open_reader,
    performed,
)

NETWORK: Final = frozenset(
    {
        *("nfs", "nfs4", "cifs", "smb3", "lustre", "beegfs", "gpfs", "ceph"),
        *("fuse.ceph", "fuse.sshfs"),
    }
)
"""Linux's names of network file systems."""
MOUNTS: Final = Path("/proc/mounts")
_ESCAPED: Final = re.compile(r"\\([0-7]{3})")

NO_LOCKS: Final = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, errno.EINVAL)
"""Errors of file systems without locks."""

Lock = Callable[[int], None]


def lock_both_ways(fd: int) -> None:
    """Lock a file both as a ledger and as SQLite's database."""
    fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)


def prepare_directory(directory: Path, *, lock: Lock = lock_both_ways) -> None:
    """Create the directory if needed, and check that it can be written and locked; raises ConfigError."""
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=directory) as probe:
            _try_lock(probe.fileno(), directory, lock)
    except OSError as error:
        raise ConfigError(
            f"hpo.directory is {directory}, which can't be written: {error.strerror};"
            " set it to a folder of yours, or use --directory"
        ) from None


def working_folder() -> str:
    """Return this process's working directory; raises UsageError if it has been deleted."""
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
            " two sessions could run one sweep there; set it to a folder on a local disk"
        ) from None


def network_file_system(folder: Path, mounts: Path = MOUNTS) -> str:
    """Return the kind of network file system that a folder is on; '' if none, or unknown."""
    try:
        lines = mounts.read_text(errors="replace").splitlines()
    except OSError:  # not Linux
        return ""
    place = Path(os.path.realpath(folder))
    kind, depth = "", 0
    for point, mounted in map(_mount_in, lines):
        if place.is_relative_to(point) and len(point.parts) >= depth:  # a later mount hides an earlier one
            kind, depth = mounted, len(point.parts)
    return kind if kind in NETWORK else ""


def file_system_problem(folder: Path, mounts: Path = MOUNTS) -> str | None:
    """Return a warning for a directory of sweeps on a network file system, or None."""
    kind = network_file_system(folder, mounts)
    return f"{folder} is on the network ({kind}), where a ledger's locks may not hold" if kind else None


def _mount_in(line: str) -> tuple[Path, str]:
    """Return the mount point and the kind of a file system."""
    _, point, kind, *_ = [*line.split(" "), "", "", ""]
    return Path(_ESCAPED.sub(lambda found: chr(int(found[1], 8)), point)), kind


_ENDING: Final = ("stop_reason", "exit_code")


@dataclass(frozen=True, slots=True)
class KnownSweep:
    """The present state of a sweep in its ledgers, one for each share if it has shares."""

    folder: Path
    facts: dict[str, Any]
    """Facts of its first ledger (`path`, `url`, `backend`, `metric`, `goal`), with the end of all ledgers."""
    count: int | None
    """Number of runs asked for, over all its ledgers; None: no limit."""
    workers: tuple[WorkerSummary, ...]
    """Slots in which a worker has been started, of each ledger."""
    runs: tuple[RunRow, ...]
    """In the order of their first start."""
    supervised: tuple[Path, ...]
    """Folders of the sweep or its shares in which a session runs now."""
    machines: tuple[MachineSummary, ...] = ()
    """Machines that have taken part; empty for a sweep on one machine."""
    of_pool: tuple[PerformedRuns, ...] | None = None
    """Runs from the sweep's pool, if the folder has no ledger; None: from the ledgers."""

    @property
    def performed(self) -> Sequence[PerformedRuns]:
        """What the workers did, by ledger. LedgerError: a ledger can't be read."""
        return performed(self.folder) if self.of_pool is None else self.of_pool

    @property
    def attempts(self) -> list[Attempt]:
        """Attempts of all its runs, over all shares and launches. LedgerError: a ledger can't be read."""
        return [attempt for share in self.performed for attempt in share.attempts]

    @property
    def sweep_id(self) -> str:
        """Its id, the name of its folder."""
        return self.folder.name

    @property
    def project(self) -> str | None:
        """Name of its project; None while its ledger is being created."""
        return SweepPath.parse(self.facts["path"]).project if "path" in self.facts else None

    @property
    def slots(self) -> tuple[Slot, ...]:
        """Slots in which a worker has been started."""
        return tuple(sorted({worker.slot for worker in self.workers}))

    @property
    def best(self) -> RunRow | None:
        """The finished run with the best value of the metric."""
        return best_of(self.runs, self.facts.get("goal", "minimize"))

    def number(self, outcome: Outcome | None) -> int:
        """Return the number of runs with this outcome; None: of runs that have not ended."""
        return sum(1 for run in self.runs if run.outcome is outcome)


def known_sweeps(directory: Path, *, unreadable: Callable[[LedgerError], None]) -> Iterator[KnownSweep]:
    """Yield all sweeps in a directory, oldest first; `unreadable` gets the errors of the others."""
    for folder in folders_of_sweeps(directory):
        try:
            yield _read(folder)
        except LedgerError as error:
            unreadable(error)


def find_sweep(directory: Path, sweep: str) -> KnownSweep:
    """Return the sweep with that id or path; UsageError names the existing ones."""
    folder = directory / sweep_id_of(sweep)
    if ledgers_in(folder):
        return _read(folder)
    raise UsageError(no_sweep(sweep, directory, [each.name for each in folders_of_sweeps(directory)]))


def no_sweep(sweep: str, directory: Path, known: Iterable[str]) -> str:
    """Return the error for a sweep that a directory lacks; `known` are the names of those it has."""
    return (
        f"there is no sweep {sweep} in {directory}; there: {', '.join(known) or 'none'}"
        " (one that was only created is there once it has been run)"
    )


def newest_sweep(directory: Path) -> KnownSweep:
    """Return the sweep that was started or resumed last; UsageError if there is none."""
    folders = folders_of_sweeps(directory)
    if not folders:
        raise UsageError(f"there is no sweep in {directory}")
    return _read(folders[-1])


def folders_of_sweeps(directory: Path) -> list[Path]:
    """Return the folders of all sweeps in a directory, least recently written ledger first."""
    found = {folder: ledgers for folder in directory.glob("*") if (ledgers := ledgers_in(folder))}
    return sorted(found, key=lambda folder: max(ledger.stat().st_mtime for ledger in found[folder]))


def supervised_folders(folder: Path) -> tuple[Path, ...]:
    """Return the folders of a sweep or its shares in which a session runs now."""
    folders = (path.parent for path in ledgers_in(folder))
    return tuple(each for each in folders if is_supervised(each))


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
    """Return the first ledger's facts, with the end of an unfinished share if there is one."""
    first = of_ledgers[0]
    left = next((facts for facts in of_ledgers if facts.get("exit_code") != 0), first)
    ending = {name: left[name] for name in _ENDING if name in left}
    return {name: fact for name, fact in first.items() if name not in _ENDING} | ending


MB: Final = 2**20
TOUCHED: Final = ("-shm", "-wal")
"""Suffixes of files that SQLite creates even if a ledger is only read."""
OVER: Final = (ExitCode.COMPLETE, ExitCode.FAILURE_POLICY, ExitCode.NO_RUN_FINISHED)
"""Exit codes of sweeps that need no resuming."""
CAN_BE_RESUMED: Final = "it can be resumed"


@dataclass(frozen=True, slots=True)
class CleanCandidate:
    """A sweep that `clean` may remove; its server may have more of it than its folder."""

    sweep_id: str
    folder: Path | None
    """None: it was not run from here."""
    age_s: float
    """Seconds since its last write."""
    size_mb: float
    """Size in MB of 2**20 bytes."""
    running: bool
    losses: tuple[str, ...]
    """Data that removal would lose; none if the sweep is finished and its server has everything."""


def clean_candidate(known: KnownSweep, *, now: float) -> CleanCandidate:
    """Return a sweep's folder as a candidate; `now` in seconds since the epoch."""
    files = [path for path in known.folder.rglob("*") if path.is_file() and not path.is_symlink()]
    sizes = [path.stat().st_size for path in files]
    changes = [path.stat().st_mtime for path in files if not path.name.endswith(TOUCHED)]
    return CleanCandidate(
        sweep_id=known.sweep_id,
        folder=known.folder,
        age_s=max(0.0, now - max(changes, default=now)),
        size_mb=sum(sizes) / MB,
        running=bool(known.supervised),
        losses=tuple(_losses(known)),
    )


def remove(candidate: CleanCandidate, first: Callable[[], None] = lambda: None) -> None:
    """Remove the folder while this process owns its ledgers.

    `first` is called before, to remove the sweep elsewhere while it is still listed here.

    Raises:
        LedgerError: a session runs in it or in one of its shares.
    """
    with ExitStack() as owned:
        for ledger in [] if candidate.folder is None else ledgers_in(candidate.folder):
            owned.enter_context(Ledger(ledger))
        first()
        if candidate.folder is not None:
            shutil.rmtree(candidate.folder)


def _losses(known: KnownSweep) -> Iterator[str]:
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
    """Return whether the last attempt of an interrupted run was synced later, or has left nothing."""
    homes = folder.rglob("worker-*/wandb")
    made = [each for home in homes for each in run_folders(home) if each.run_id == run_id]
    files = [*Path(max(made).path).glob("*.wandb")] if made else []
    return not files or _is_synced(files[-1])


def _is_synced(file: Path) -> bool:
    """Return whether `wandb sync` has left its marker beside a file."""
    return file.with_name(f"{file.name}.synced").exists()
