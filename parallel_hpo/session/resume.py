"""Where an earlier launch of a sweep stopped, by its ledger. Called by `setup` and `sweep`."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from math import inf
from pathlib import Path
from typing import Any

from parallel_hpo.core.errors import ConfigError
from parallel_hpo.core.folders import run_folders_of_workers
from parallel_hpo.core.types import Outcome, RunId, sweep_id_of
from parallel_hpo.count.policy import FailureCount, FailureLimits, Share, note_duration
from parallel_hpo.count.state import Pool, PoolRun, RunStatus
from parallel_hpo.records.folders import folders_of_sweeps, no_sweep
from parallel_hpo.records.reader import LEDGER, LedgerReader, RunRow, ledgers_in
from parallel_hpo.session.decide.state import OpenRun


@dataclass(frozen=True, slots=True)
class ResumeState:
    """The state that a sweep resumes from."""

    started: int = 0
    reruns: tuple[OpenRun, ...] = ()
    """Runs interrupted by a stop or by the session's death; they run again first."""
    failures: FailureCount = field(default_factory=FailureCount)
    """Start of the failure limits: only whether any run has finished. Earlier failures don't count."""
    ended: Mapping[RunId, Outcome] = field(default_factory=dict)
    """Outcomes of the ended runs."""
    took: tuple[float, ...] = ()
    """Durations of the last attempts of the latest of these, in seconds."""


def read_earlier(rows: Iterable[RunRow]) -> ResumeState:
    """Return the state by a ledger's runs; an interruption by the session's death costs no retry."""
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
                    # A session that died has recorded the ends of attempts, but no end of the run.
                    spent_s=max(row.duration_s or 0.0, row.spent_s),
                    deaths=row.deaths,
                    seed=row.seed,
                )
            )
        else:
            ended[row.run_id] = row.outcome
            took = note_duration(took, row.last_s or 0.0, row.outcome)
    failures = FailureCount(none_finished=Outcome.FINISHED not in ended.values())
    return ResumeState(started, tuple(reruns), failures, ended, took)


def counted_before(
    ledger: LedgerReader,
    earlier: ResumeState,
    *,
    count: int | None,
    opened_at: float,
    limits: FailureLimits,
    sweep_timeout_s: float | None = None,
    deadline: str | None = None,
) -> Pool:
    """Return the count of a launch on one machine, with what earlier launches have done.

    Args:
        opened_at: start of the launch, in seconds since the epoch.
    """
    events, epochs = ledger.last_event()
    return Pool(
        is_local=False,
        count=count,
        node_timeout_s=inf,
        has_coordinator=False,
        limits=limits,
        sweep_timeout_s=sweep_timeout_s,
        deadline=deadline,
        opened_at=opened_at,
        coordinator_seen_at=0.0,
        started=earlier.started,
        open_runs=len(earlier.reruns),
        failures=earlier.failures,
        took=earlier.took,
        epochs=epochs,
        events=events,
    )


def waiting_run(run: OpenRun) -> PoolRun:
    """Return a run that an earlier launch left open, as its count has it."""
    return PoolRun(**vars(run.pooled()), status=RunStatus.WAITING, epoch=None, on=False, since=run.since)


@dataclass(frozen=True, slots=True)
class LaunchCount:
    """The count of a launch, in runs of its own; None: no limit."""

    count: int | None
    given: bool
    """It comes from an option or a variable of this launch or of one that it continues, not from the file."""
    was: int | None
    """The count of the earlier launch; `count` if there was none."""
    before: int = 0
    """Runs of earlier counts."""

    @property
    def total(self) -> int | None:
        """Number of the sweep's runs, including those of earlier counts."""
        return None if self.count is None else self.before + self.count

    @property
    def is_raised(self) -> bool:
        """Return whether it is higher than the earlier count."""
        return self.was is not None and (self.count is None or self.count > self.was)


def launch_count(
    count: int | None,
    *,
    run_cap: int | None = None,
    given: bool,
    facts: Mapping[str, Any],
    earlier: ResumeState,
    goes_on: bool,
) -> LaunchCount:
    """Return the count of a launch that asks for `count` runs.

    A launch that continues another (`goes_on`) keeps the count of that one's option, unless it has its own
    option. Others come after the earlier runs, as a sweep may be joined again.
    """
    before = int(facts.get("before", 0)) if goes_on else earlier.started - len(earlier.reruns)
    count = count_or_cap(count, run_cap, before=before)
    if not goes_on or "count" not in facts:
        return LaunchCount(count, given, count, before)
    total = facts["count"]
    was = None if total is None else total - before
    if given or not facts.get("count_given", False):
        return LaunchCount(count, given, was, before)
    return LaunchCount(was, True, was, before)


def count_or_cap(count: int | None, run_cap: int | None, *, before: int) -> int | None:
    """Return the count, or else what `before` earlier runs have left of the sweep's run_cap."""
    return max(0, run_cap - before) if count is None and run_cap is not None else count


def facts_of(ledger: LedgerReader | None, resume: str | None, *, many: bool = False) -> Mapping[str, Any]:
    """Return the facts of a sweep to resume; only its id if its ledger was just being created.

    Raises:
        ConfigError: many machines ran it, so a single one, which does not know their pool, can't resume it.
    """
    facts = ledger.facts if ledger else {}
    if facts.get("machines") and not many:
        raise ConfigError(f"sweep {resume} ran on many machines: resume it with hpo.machines")
    return facts or ({"sweep_id": resume} if resume else {})


def unsent_folders(
    folder: Path, ended: Collection[RunId], last_starts: Callable[[], Mapping[RunId, float]]
) -> Iterator[tuple[RunId, Path]]:
    """Yield the ended runs whose last attempt was offline and was not uploaded, each with its folder.

    wandb client: a synced folder contains a file `*.synced`.
    """
    found = [each for each in run_folders_of_workers(folder) if each.offline]
    unsent = [each for each in found if not any(Path(each.path).glob("*.synced"))]
    starts = last_starts() if unsent else {}
    for each in sorted(unsent):
        path = Path(each.path)
        if each.run_id in ended and path.stat().st_mtime >= starts[each.run_id]:
            yield each.run_id, path


def find_folder(directory: Path, sweep: str, share: Share | None = None) -> Path:
    """Return the folder of an existing sweep, or of a share of it; `sweep` is its id or whole path.

    Raises:
        ConfigError: there is none; the message names the sweeps that exist.
    """
    folder = directory / sweep_id_of(sweep)
    if share is not None:
        folder /= share.folder
    if (folder / LEDGER).is_file():
        return folder
    ledgers = (ledger for each in folders_of_sweeps(directory) for ledger in ledgers_in(each))
    known = sorted(str(ledger.parent.relative_to(directory)) for ledger in ledgers)
    raise ConfigError(no_sweep(sweep if share is None else f"{sweep}/{share.folder}", directory, known))
