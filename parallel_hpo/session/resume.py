"""What a ledger says of an earlier part of a sweep, as the next supervisor starts from it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from parallel_hpo.core.errors import ConfigError
from parallel_hpo.core.folders import run_folders_of_workers
from parallel_hpo.core.types import Outcome, RunId, sweep_id_of
from parallel_hpo.count.policy import FailureCount, Share, note_duration
from parallel_hpo.records.ledger_views import LEDGER
from parallel_hpo.records.reader import LedgerReader, RunRow
from parallel_hpo.session.decide.state import OpenRun


@dataclass(frozen=True, slots=True)
class ResumeState:
    """How far a sweep had come."""

    started: int = 0
    reruns: tuple[OpenRun, ...] = ()
    """Runs that were cut by a stop or by the supervisor's own death: to be run again first."""
    failures: FailureCount = field(default_factory=FailureCount)
    """What the breaker begins with: whether any run has finished. What failed before has been seen to."""
    ended: Mapping[RunId, Outcome] = field(default_factory=dict)
    """How each run ended that is over."""
    took: tuple[float, ...] = ()
    """How long the last attempts of the latest of them took, in seconds."""


def read_earlier(rows: Iterable[RunRow]) -> ResumeState:
    """Return what the runs of a ledger come to; what the supervisor's death cut costs no retry."""
    started, reruns, ended = 0, [], {}
    took: tuple[float, ...] = ()
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
                    seed=row.seed,
                )
            )
        else:
            ended[row.run_id] = row.outcome
            took = note_duration(took, row.last_s or 0.0, row.outcome)
    failures = FailureCount(none_finished=Outcome.FINISHED not in ended.values())
    return ResumeState(started, tuple(reruns), failures, ended, took)


@dataclass(frozen=True, slots=True)
class AskedCount:
    """The count that a launch goes for, in the runs that it performs; None: no limit."""

    count: int | None
    given: bool
    """By a flag or a variable, of this launch or of one that it goes on with, and not by the file."""
    was: int | None
    """What an earlier launch asked for; `count` where there was none."""

    @property
    def is_raised(self) -> bool:
        """Whether it is more than that."""
        return self.was is not None and (self.count is None or self.count > self.was)


def asked_count(count: int | None, *, given: bool, facts: Mapping[str, Any], goes_on: bool) -> AskedCount:
    """Return the count of a launch that asks for `count`.

    One that goes on with an earlier launch's keeps what a flag gave that one, unless it gives its own.
    """
    if not goes_on or "count" not in facts:
        return AskedCount(count, given, count)
    total = facts["count"]
    was = None if total is None else total - facts.get("before", 0)
    if given or not facts.get("count_given", False):
        return AskedCount(count, given, was)
    return AskedCount(was, True, was)


def count_or_cap(count: int | None, run_cap: int | None, *, before: int) -> int | None:
    """Return the count; where none is given, what `before` earlier runs have left of the sweep's run_cap."""
    return max(0, run_cap - before) if count is None and run_cap is not None else count


def facts_of(ledger: LedgerReader | None, resume: str | None, *, many: bool = False) -> Mapping[str, Any]:
    """Return what is known of a sweep to be resumed: its id alone where its ledger was just being made.

    Raises:
        ConfigError: many machines performed it, and now one is to, which knows nothing of their pool.
    """
    facts = ledger.facts if ledger else {}
    if facts.get("machines") and not many:
        raise ConfigError(f"sweep {resume} was performed on many machines: resume it with hpo.machines")
    return facts or ({"sweep_id": resume} if resume else {})


def unsent_folders(
    folder: Path, ended: Collection[RunId], last_starts: Callable[[], Mapping[RunId, float]]
) -> Iterator[tuple[RunId, Path]]:
    """Yield the runs that are over whose last attempt was offline and was not sent, each with its folder.

    wandb client: a folder that was synced has a mark of that in it.
    """
    found = [each for each in run_folders_of_workers(folder) if each.offline]
    unsent = [each for each in found if not any(Path(each.path).glob("*.synced"))]
    starts = last_starts() if unsent else {}
    for each in sorted(unsent):
        path = Path(each.path)
        if each.run_id in ended and path.stat().st_mtime >= starts[each.run_id]:
            yield each.run_id, path


def find_folder(directory: Path, sweep: str, share: Share | None = None) -> Path:
    """Return the folder of a sweep that is there already, or of a share of it; `sweep`: its id or whole path.

    Raises:
        ConfigError: there is none; names those that there are.
    """
    folder = directory / sweep_id_of(sweep)
    if share is not None:
        folder /= share.folder
    if (folder / LEDGER).is_file():
        return folder
    known = sorted(path.parent.name for path in directory.glob("*/ledger.db"))
    raise ConfigError(
        f"there is no sweep {sweep} to be resumed in {directory};"
        f" there {'are' if known else 'is none'} {', '.join(known[:20])}".rstrip()
    )
