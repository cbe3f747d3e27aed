"""Which sweeps may be removed, their folders first of all, and what would be lost with them.

What a sweep left on its server is not in its folder, and a sweep that was not run from here has none. A
folder is removed only while this process owns its ledgers, so never under a supervisor's hands.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from parallel_hpo.chronicle import ledgers_in
from parallel_hpo.errors import ExitCode
from parallel_hpo.run_folders import run_folders
from parallel_hpo.supervisor.records.ledger import Ledger
from parallel_hpo.supervisor.records.sweep_folders import KnownSweep
from parallel_hpo.words import Outcome, RunId

MB: Final = 2**20
TOUCHED: Final = ("-shm", "-wal")
"""What SQLite makes anew beside a ledger that is only read."""
OVER: Final = (ExitCode.COMPLETE, ExitCode.FAILURE_POLICY, ExitCode.NO_RUN_FINISHED)
"""How a sweep ends with which nobody is expected to go on."""
CAN_BE_RESUMED: Final = "it can be resumed"


@dataclass(frozen=True, slots=True)
class Leftover:
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


def look_at(known: KnownSweep, *, now: float) -> Leftover:
    """Return what a sweep's folder holds; `now` in seconds since the epoch."""
    files = [path for path in known.folder.rglob("*") if path.is_file() and not path.is_symlink()]
    sizes = [path.stat().st_size for path in files]
    changes = [path.stat().st_mtime for path in files if not path.name.endswith(TOUCHED)]
    return Leftover(
        sweep_id=known.sweep_id,
        folder=known.folder,
        age_s=max(0.0, now - max(changes, default=now)),
        size_mb=sum(sizes) / MB,
        running=bool(known.supervised),
        regrets=tuple(_regrets(known)),
    )


def remove(leftover: Leftover, first: Callable[[], None] = lambda: None) -> None:
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
