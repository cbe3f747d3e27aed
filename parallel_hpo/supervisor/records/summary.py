"""What became of a sweep: computed from its ledger, written to `summary.json`, returned to the caller."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from parallel_hpo.supervisor.records.ledger_reader import RunRow, WorkerRow
from parallel_hpo.words import Outcome


@dataclass(frozen=True, slots=True)
class BestRun:
    """The finished run with the best finite value of the sweep's metric."""

    run_id: str
    value: float
    parameters: dict[str, Any]


@dataclass(frozen=True, slots=True)
class WorkerSummary:
    """One slot: the runs that ended in it, and how often its worker was restarted."""

    slot: int
    device: str | None
    runs: int
    restarts: int


@dataclass(frozen=True, slots=True)
class RunSummary:
    """One run: `outcome` is finished, failed, stopped or crashed; `reason` says why in words."""

    run_id: str
    parameters: dict[str, Any]
    attempts: int
    outcome: str
    reason: str
    duration_s: float | None
    slot: int
    device: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Closing:
    """What the ledger does not hold of a sweep that is over, but its summary does."""

    sweep_id: str
    sweep_url: str
    backend: str
    count: int | None
    stop_reason: str
    exit_code: int
    duration_s: float
    phantoms: tuple[str, ...] = ()
    """Runs that a W&B server counts as running and that no worker started; none is in `attempted`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SweepResult(Closing):
    """What became of a sweep; finished + failed + crashed + stopped + lost = attempted.

    `attempted` counts runs, `retried` the attempts beyond each run's first. `lost` is
    0, or we failed. Times are in seconds. `exit_code` is what the command line ends with.
    """

    attempted: int
    finished: int
    failed: int
    crashed: int
    retried: int
    stopped: int
    lost: int
    best: BestRun | None
    workers: tuple[WorkerSummary, ...]
    runs: tuple[RunSummary, ...]

    def to_json(self) -> str:
        """Return the result as JSON, as `summary.json` has it."""
        return json.dumps(asdict(self), indent=2, allow_nan=False)


def summarise(
    runs: Iterable[RunRow], workers: Iterable[WorkerRow], closing: Closing, *, goal: str = "minimize"
) -> SweepResult:
    """Return the result of a sweep from the rows of its ledger; `goal` says which value is the best."""
    rows = tuple(runs)
    outcomes = Counter(row.outcome for row in rows)
    in_slot = Counter(row.slot for row in rows)
    return SweepResult(
        attempted=len(rows),
        finished=outcomes[Outcome.FINISHED],
        failed=outcomes[Outcome.FAILED],
        crashed=outcomes[Outcome.CRASHED],
        retried=sum(max(0, row.attempts - 1) for row in rows),
        stopped=outcomes[Outcome.STOPPED],
        lost=outcomes[None],
        best=_best(rows, goal),
        workers=tuple(
            WorkerSummary(worker.slot, worker.device, in_slot[worker.slot], worker.restarts)
            for worker in workers
        ),
        runs=tuple(describe_run(row) for row in rows),
        **{field.name: getattr(closing, field.name) for field in fields(closing)},
    )


def write_summary(result: SweepResult, path: Path) -> None:
    """Write `summary.json` so that a reader finds the old one or the whole new one."""
    draft = path.with_suffix(".json.new")
    with draft.open("w", encoding="utf-8") as file:
        file.write(result.to_json() + "\n")
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)


def describe_run(row: RunRow) -> RunSummary:
    """Return what a summary says of a run."""
    told = {field.name: getattr(row, field.name) for field in fields(RunSummary)}
    return RunSummary(**told | {"parameters": dict(row.parameters), "outcome": row.outcome or "lost"})


def _best(rows: tuple[RunRow, ...], goal: str) -> BestRun | None:
    """The best of the finished runs; SQLite keeps no NaN, and workers report finite values only."""
    known = [(row.value, row) for row in rows if row.outcome is Outcome.FINISHED and row.value is not None]
    if not known:
        return None
    choose = max if goal == "maximize" else min
    value, row = choose(known, key=lambda pair: pair[0])
    return BestRun(row.run_id, value, dict(row.parameters))
