"""The result of a sweep: computed from its ledger, written to `summary.json`, returned to the caller.

`parallel_hpo.load` reads it from the sweep's folder.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, fields
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from parallel_hpo.analysis.plots import Plots
from parallel_hpo.analysis.study import to_study
from parallel_hpo.analysis.table import BestRun, RunSummary, to_dataframe
from parallel_hpo.core.errors import ExitCode
from parallel_hpo.core.folders import find_directory
from parallel_hpo.core.messages import UNKNOWN, Consumption, total
from parallel_hpo.core.types import OPEN, Outcome
from parallel_hpo.core.values import dotted, strict, visible, visible_on_one_line
from parallel_hpo.records.folders import KnownSweep, find_sweep
from parallel_hpo.records.reader import MachineSummary, RunRow, WorkerSummary, best_of

if TYPE_CHECKING:
    import optuna
    import pandas


@dataclass(frozen=True, slots=True, kw_only=True)
class SweepConclusion:
    """Facts of an ended sweep that are in its summary, but not in its ledger."""

    sweep_id: str
    sweep_url: str
    backend: str
    count: int | None
    stop_reason: str
    exit_code: int
    duration_s: float
    phantoms: tuple[str, ...] = ()
    """Runs that a W&B server counts as running and that no worker started; none is in `attempted`."""
    metric: str | None = None
    """The name of the sweep's metric."""
    goal: str = "minimize"
    """Direction of the metric: "minimize" or "maximize"."""
    folder: str = ""
    """Folder of the sweep's ledger, summary and logs; '' if there was none yet."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SweepResult(SweepConclusion):
    """The result of a sweep; finished + failed + crashed + stopped + lost = attempted.

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
    machines: tuple[MachineSummary, ...] = ()
    """Machines of the sweep; empty if it has only one."""
    consumption: Consumption = UNKNOWN
    """Device time, also of shared devices, and energy used by all runs."""

    def __repr__(self) -> str:
        text = f"<SweepResult {self.sweep_id}: {self._counts()}; {self.stop_reason}{self._best_text()}>"
        return visible_on_one_line(text)

    def _repr_html_(self) -> str:
        """Return the result as a notebook shows it."""
        name = escape(self.sweep_id)
        if self.sweep_url.startswith(("http://", "https://")):
            name = f'<a href="{escape(self.sweep_url)}" target="_blank" rel="noopener">{name}</a>'
        rows = [("runs", self._counts()), ("ended", self.stop_reason)]
        if self.best is not None:
            rows.append((f"best {self.metric or 'value'}", f"{self.best.value:.4g} (run {self.best.run_id})"))
            rows += [(name, str(value)) for name, value in dotted(self.best.parameters)]
        cells = ((escape(visible(key)), escape(visible(text))) for key, text in rows)
        body = "".join(f"<tr><th>{key}</th><td>{text}</td></tr>" for key, text in cells)
        return f"<div><b>sweep {name}</b><table>{body}</table></div>"

    def _counts(self) -> str:
        """Return the number of runs by outcome, in words, without zeros."""
        kinds = ("finished", "failed", "crashed", "stopped", "lost")
        counts = [f"{getattr(self, kind)} {kind}" for kind in kinds if getattr(self, kind)]
        of = "" if self.count is None else f" of {self.count}"
        runs = "run" if self.attempted == 1 and not of else "runs"
        return f"{self.attempted}{of} {runs}" + (f", {', '.join(counts)}" if counts else "")

    def _best_text(self) -> str:
        if self.best is None:
            return ""
        return f"; best {self.metric or 'value'} {self.best.value:.4g} (run {self.best.run_id})"

    def to_json(self) -> str:
        """Return the result as JSON, as in `summary.json`; NaN and infinities are text."""
        return json.dumps(strict(asdict(self)), indent=2, allow_nan=False)

    def to_dataframe(self) -> pandas.DataFrame:
        """Return a DataFrame with a row per run; raises MissingExtraError without pandas."""
        return to_dataframe(self)

    def to_study(self) -> optuna.Study:
        """Return the sweep as an Optuna study, a trial per run; raises MissingExtraError without Optuna."""
        return to_study(self)

    @property
    def plots(self) -> Plots:
        """Plots of the sweep, with the extra `plots`: `history()`, `importances()`, `parallel()` and more."""
        return Plots(self)


def summarise(
    runs: Iterable[RunRow],
    workers: Iterable[WorkerSummary],
    conclusion: SweepConclusion,
    *,
    machines: Iterable[MachineSummary] = (),
    is_over: bool = True,
) -> SweepResult:
    """Return the result of a sweep from the rows of its ledger; `conclusion.goal` decides which run is best.

    A run without an end is lost if the sweep has ended; otherwise it is open and not counted.
    """
    rows = tuple(runs)
    outcomes = Counter(row.outcome for row in rows)
    return SweepResult(
        attempted=len(rows) if is_over else len(rows) - outcomes[None],
        finished=outcomes[Outcome.FINISHED],
        failed=outcomes[Outcome.FAILED],
        crashed=outcomes[Outcome.CRASHED],
        retried=sum(max(0, row.attempts - 1) for row in rows),
        stopped=outcomes[Outcome.STOPPED],
        lost=outcomes[None] if is_over else 0,
        best=_best(rows, conclusion.goal),
        workers=tuple(workers),
        runs=tuple(describe_run(row, unended="lost" if is_over else OPEN) for row in rows),
        machines=tuple(machines),
        consumption=total(row.consumption for row in rows),
        **{field.name: getattr(conclusion, field.name) for field in fields(conclusion)},
    )


def write_summary(result: SweepResult, path: Path) -> None:
    """Write `summary.json` atomically."""
    draft = path.with_suffix(".json.new")
    with draft.open("w", encoding="utf-8") as file:
        file.write(result.to_json() + "\n")
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)


def describe_run(row: RunRow, *, unended: str = "lost") -> RunSummary:
    """Return a run's summary; `unended` is the outcome of a run without one."""
    told = {field.name: getattr(row, field.name) for field in fields(RunSummary)}
    return RunSummary(**told | {"parameters": dict(row.parameters), "outcome": str(row.outcome or unended)})


def _best(rows: tuple[RunRow, ...], goal: str) -> BestRun | None:
    row = best_of(rows, goal)
    if row is None or row.value is None:
        return None
    return BestRun(row.run_id, row.value, dict(row.parameters))


UNDER_WAY: Final = "it is still running"
NOBODY: Final = "no machine performs it now"
CUT: Final = "its supervisor died, or its end could not be recorded"


def load(sweep: str, *, directory: str | os.PathLike[str] | None = None) -> SweepResult:
    """Return the result of a sweep by its id or path; of a running sweep, the result so far.

    `directory` is where sweeps are kept; None: PARALLEL_HPO_DIRECTORY, else the default. Runs that are
    not over are among `runs`, as `open`, and in no count. Raises UsageError that names
    the sweeps that there are, ConfigError for a folder that can't be meant, and LedgerError.
    """
    given = None if directory is None else Path(directory)
    return result_of(find_sweep(find_directory(given, os.environ), sweep))


def load_folder(folder: Path) -> SweepResult:
    """Return the result of the sweep in this folder."""
    return result_of(find_sweep(folder.parent, folder.name))


def result_of(known: KnownSweep) -> SweepResult:
    """Return the present result of a sweep, by its ledgers and summaries."""
    summaries = list(_summaries(known.folder))
    facts = known.facts
    ended = not known.supervised and "exit_code" in facts and not known.number(None)
    state = UNDER_WAY if known.supervised else CUT if known.of_pool is None else NOBODY
    conclusion = SweepConclusion(
        sweep_id=known.sweep_id,
        sweep_url=facts.get("url", ""),
        backend=facts.get("backend", ""),
        count=known.count,
        stop_reason=facts["stop_reason"] if ended else state,
        exit_code=facts["exit_code"] if ended else ExitCode.RESUMABLE,
        duration_s=_took_s(known, summaries),
        phantoms=tuple(run_id for summary in summaries for run_id in summary.get("phantoms", ())),
        metric=facts.get("metric"),
        goal=facts.get("goal", "minimize"),
        folder=str(known.folder),
    )
    return summarise(known.runs, known.workers, conclusion, machines=known.machines, is_over=False)


def _summaries(folder: Path) -> Iterator[dict[str, Any]]:
    for path in [*folder.glob("summary.json"), *folder.glob("share-*/summary.json")]:
        try:
            yield json.loads(path.read_text())
        except (OSError, ValueError):
            continue  # the ledger has all but how long it took


def _took_s(known: KnownSweep, summaries: list[dict[str, Any]]) -> float:
    """Return the duration of the longest launch, or the time from the first start to the last end."""
    if summaries and not known.supervised:
        return float(max(summary["duration_s"] for summary in summaries))
    starts = [run.started_at for run in known.runs]
    ends = [run.started_at + (run.duration_s or 0.0) for run in known.runs]
    return max(ends) - min(starts) if starts else 0.0
