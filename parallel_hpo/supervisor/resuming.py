"""What a ledger says of an earlier part of a sweep, as the next supervisor starts from it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from parallel_hpo.errors import ConfigError
from parallel_hpo.plan import Share
from parallel_hpo.policy.breaker import FailureCount, count_outcome
from parallel_hpo.supervisor.known import LEDGER
from parallel_hpo.supervisor.ledger_reader import RunRow
from parallel_hpo.supervisor.view import OpenRun


@dataclass(frozen=True, slots=True)
class Earlier:
    """How far a sweep had come."""

    started: int = 0
    reruns: tuple[OpenRun, ...] = ()
    """Runs that were cut by a stop or by the supervisor's own death: to be run again first."""
    failures: FailureCount = field(default_factory=FailureCount)


def read_earlier(rows: Iterable[RunRow]) -> Earlier:
    """Return what the runs of a ledger come to; what the supervisor's death cut costs no retry."""
    started, reruns, failures = 0, [], FailureCount()
    for row in rows:
        started += 1
        if row.outcome is None or row.resumable:
            reruns.append(
                OpenRun(
                    run_id=row.run_id,
                    parameters=row.parameters,
                    attempt=row.attempts + 1,
                    since=0.0,
                    spent_s=row.duration_s or 0.0,
                    deaths=row.deaths,
                )
            )
        else:
            failures = count_outcome(failures, row.outcome)
    return Earlier(started, tuple(reruns), failures)


def find_folder(directory: Path, sweep: str, share: Share | None = None) -> Path:
    """Return the folder of a sweep that is there already, or of a share of it; `sweep`: its id or whole path.

    Raises:
        ConfigError: there is none; names those that there are.
    """
    folder = directory / sweep.rpartition("/")[2]
    if share is not None:
        folder /= share.folder
    if (folder / LEDGER).is_file():
        return folder
    known = sorted(path.parent.name for path in directory.glob("*/ledger.db"))
    raise ConfigError(
        f"there is no sweep {sweep} to be resumed in {directory};"
        f" there {'are' if known else 'is none'} {', '.join(known[:20])}".rstrip()
    )
