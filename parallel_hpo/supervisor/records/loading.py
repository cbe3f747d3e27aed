"""`parallel_hpo.load`: what a sweep's folder says of it, as the result that `optimize` returns."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from parallel_hpo.config.directory import find_directory
from parallel_hpo.errors import ExitCode
from parallel_hpo.supervisor.records.summary import Closing, SweepResult, summarise
from parallel_hpo.supervisor.records.sweep_folders import KnownSweep, find_sweep

UNDER_WAY: Final = "it is still running"
CUT: Final = "its supervisor died, or its end could not be recorded"


def load(sweep: str, *, directory: str | os.PathLike[str] | None = None) -> SweepResult:
    """Return what became of a sweep, given its id or path; of one that runs, what it has so far.

    `directory` is where sweeps are kept; None: PARALLEL_HPO_DIRECTORY, else the default. Runs that are
    not over are among `runs`, as `open`, and in no count. Raises UsageError that names
    the sweeps that there are, ConfigError for a folder that can't be meant, and LedgerError.
    """
    given = None if directory is None else Path(directory)
    return result_of(find_sweep(find_directory(given, os.environ), sweep))


def load_folder(folder: Path) -> SweepResult:
    """Return the same of the sweep in this folder."""
    return result_of(find_sweep(folder.parent, folder.name))


def result_of(known: KnownSweep) -> SweepResult:
    """Return the result of a sweep as its ledgers, and its summaries if it has any, have it now."""
    summaries = list(_summaries(known.folder))
    facts = known.facts
    ended = not known.supervised and "exit_code" in facts and not known.number(None)
    closing = Closing(
        sweep_id=known.sweep_id,
        sweep_url=facts.get("url", ""),
        backend=facts.get("backend", ""),
        count=known.count,
        stop_reason=facts["stop_reason"] if ended else UNDER_WAY if known.supervised else CUT,
        exit_code=facts["exit_code"] if ended else ExitCode.RESUMABLE,
        duration_s=_took_s(known, summaries),
        phantoms=tuple(run_id for summary in summaries for run_id in summary.get("phantoms", ())),
        metric=facts.get("metric"),
        goal=facts.get("goal", "minimize"),
        folder=str(known.folder),
    )
    return summarise(known.runs, known.workers, closing, machines=known.machines, is_over=False)


def _summaries(folder: Path) -> Iterator[dict[str, Any]]:
    for path in [*folder.glob("summary.json"), *folder.glob("share-*/summary.json")]:
        try:
            yield json.loads(path.read_text())
        except (OSError, ValueError):
            continue  # the ledger has all but how long it took


def _took_s(known: KnownSweep, summaries: list[dict[str, Any]]) -> float:
    """Return what the longest of its launches said, or the time between its first start and last end."""
    if summaries and not known.supervised:
        return float(max(summary["duration_s"] for summary in summaries))
    starts = [run.started_at for run in known.runs]
    ends = [run.started_at + (run.duration_s or 0.0) for run in known.runs]
    return max(ends) - min(starts) if starts else 0.0
