"""Whether a sweep's ledger and its embedded server agree, as they must at every sweep's end.

`disagreements` reads both in a sweeps directory and describes what differs. Process tests
ask it wherever a sweep's command has ended by itself, `scripts/chaos` after all that it did.

    outcome of a run    its state on the server
    finished            finished
    failed              failed; killed, where its process left by Ctrl-C (255) or was killed for its time
    crashed             crashed; finished, failed or killed, where its process said so before it died
    stopped             killed; preempting or preempted, where SIGUSR2 stopped it
    resumable, open     any, until a resumed sweep has run it again

A `main` that ends its W&B run itself, and then ends otherwise, has reported another state
than the ledger's; which `main` does so only its test knows (`own_words`).
"""

from __future__ import annotations

import json
import sqlite3
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from parallel_hpo.config.sweep_types import Method
from parallel_hpo.core.errors import ExitCode
from parallel_hpo.core.folders import is_supervised
from parallel_hpo.core.types import Outcome
from parallel_hpo.server import engines
from parallel_hpo.server.search.space import GridEngine

CTRL_C: Final = 255
"""wandb client: the exit code that a run is closed with by KeyboardInterrupt."""
SAID_BY_ITSELF: Final = frozenset({"finished", "failed", "killed"})
STATES: Final[Mapping[Outcome, frozenset[str]]] = {
    Outcome.FINISHED: frozenset({"finished"}),
    Outcome.FAILED: frozenset({"failed"}),
    Outcome.CRASHED: frozenset({"crashed"}),
    Outcome.STOPPED: frozenset({"killed", "preempting", "preempted"}),
}
WHOLE: Final = frozenset({ExitCode.COMPLETE, ExitCode.NO_RUN_FINISHED})
"""Exit codes of a sweep that has nothing left to do."""


@dataclass(frozen=True, slots=True)
class Counted:
    """A run as a ledger has it; an attempt's outcome is None where the supervisor died before its end."""

    name: str
    parameters: Any
    outcome: Outcome | None
    reason: str
    resumable: bool
    attempts: tuple[tuple[int, str | None], ...]
    value: float | None = None

    @property
    def waits(self) -> bool:
        """Whether a resumed sweep is to run it again."""
        return self.outcome is None or self.resumable

    @property
    def outcomes(self) -> list[str | None]:
        return [outcome for _, outcome in self.attempts]


@dataclass(frozen=True, slots=True)
class Told:
    """A run as the server has it; `exit_code` is None where its process never told one."""

    parameters: Any
    state: str
    exit_code: int | None
    index: int | None = None
    """Its place in the search space."""
    value: float | None = None
    started: bool = True

    @property
    def is_nobodys(self) -> bool:
        """Whether nobody has started it: it waits, or its sweep was over before."""
        return self.state == "pending" or (self.state == "killed" and not self.started)


@dataclass(frozen=True, slots=True)
class Part:
    """One ledger: a sweep's, or that of a share of it."""

    facts: dict[str, Any]
    runs: tuple[Counted, ...]
    summary: Any
    """None where the sweep has not ended by itself."""

    @property
    def is_whole(self) -> bool:
        """Whether nothing is left to do, by its own summary."""
        return self.summary is not None and self.summary["exit_code"] in WHOLE


def disagreements(directory: Path, *, retries: int = 1, own_words: bool = False) -> Iterator[str]:
    """Yield the disagreements in the sweeps of a directory whose server is the embedded one.

    `retries` as the sweeps had it; `own_words`: their `main`s may have ended their W&B runs themselves.
    """
    sweeps: dict[str, list[Path]] = {}
    for ledger in sorted([*directory.glob("*/ledger.db"), *directory.glob("*/share-*/ledger.db")]):
        if ledger.stat().st_size > 0:  # a supervisor has begun to write it
            sweeps.setdefault(ledger.relative_to(directory).parts[0], []).append(ledger.parent)
    for sweep, folders in sweeps.items():
        parts = [_read_part(folder) for folder in folders]
        if any(map(is_supervised, folders)) or any(part.facts.get("backend") != "local" for part in parts):
            continue  # it goes on, or its server is elsewhere
        for words in _disagreements_of(sweep, parts, directory / "server.db", retries, own_words):
            yield f"sweep {sweep}: {words}"


def _disagreements_of(
    sweep: str, parts: Sequence[Part], database: Path, retries: int, own_words: bool
) -> Iterator[str]:
    told, size = _read_told(database, sweep), _size_of_grid(database, sweep)
    counted = [run for part in parts for run in part.runs]
    for part in parts:
        yield from _faults_of_counts(part, retries)
    for run in counted:
        if run.name not in told:
            yield f"run {run.name} is {run.outcome or 'open'} in the ledger, and not on the server"
        else:
            yield from _faults_of_words(run, told[run.name], own_words=own_words)
    for name in set(told) - {run.name for run in counted}:
        if not told[name].is_nobodys:
            yield f"run {name} is {told[name].state} on the server, and not in the ledger"
    if size is not None:
        yield from _faults_of_grid(size, parts, [told[run.name].index for run in counted if run.name in told])


def _faults_of_words(run: Counted, told: Told, *, own_words: bool) -> Iterator[str]:
    """Compare a run of the ledger with the server's."""
    if run.parameters != told.parameters:
        yield f"run {run.name} had {run.parameters}, and {told.parameters} on the server"
    if None not in (run.value, told.value) and run.value != told.value:
        yield f"run {run.name} has the value {run.value}, and {told.value} on the server"
    if not agree(run, told, own_words=own_words):
        yield (
            f"run {run.name} is {run.outcome} ({run.reason or 'no reason'}) in the ledger"
            f" after {run.outcomes}, and {told.state} with exit code {told.exit_code} on the server"
        )


def agree(run: Counted, told: Told, *, own_words: bool = False) -> bool:
    """Whether the server's state of a run is one of those that its outcome may have there."""
    if run.waits or run.outcome is None or told.state in STATES[run.outcome]:
        return True
    said_by_itself = told.exit_code is not None and told.state in SAID_BY_ITSELF
    match run.outcome:
        case Outcome.FAILED if told.state == "killed":
            return told.exit_code == CTRL_C or run.reason.endswith("; killed")
        case Outcome.CRASHED:
            return said_by_itself
        case _:
            return own_words and said_by_itself


def _faults_of_counts(part: Part, retries: int) -> Iterator[str]:
    """Check what a ledger says by itself: its attempts, its summary, its count."""
    for run in part.runs:
        yield from _faults_of_attempts(run, retries)
    if not part.is_whole:
        return
    count = part.facts.get("count")
    if count is not None and len(part.runs) > count:
        yield f"{len(part.runs)} runs were performed, of a count of {count}"
    summed = [(run["run_id"], run["outcome"], run["attempts"]) for run in part.summary["runs"]]
    if summed != (known := [(run.name, run.outcome, len(run.attempts)) for run in part.runs]):
        yield f"the summary has {summed}, and the ledger {known}"
    for run in part.runs:
        if run.waits:
            yield f"run {run.name} waits for --resume in a sweep that is complete"


def _faults_of_attempts(run: Counted, retries: int) -> Iterator[str]:
    numbers = [number for number, _ in run.attempts]
    if numbers != list(range(1, len(numbers) + 1)):
        yield f"run {run.name} has the attempts {numbers}"
    cuts = sum(1 for outcome in run.outcomes if outcome in (None, Outcome.STOPPED))  # they cost no retry
    if len(numbers) > 1 + retries + cuts:
        yield f"run {run.name} had {run.outcomes}: more attempts than 1 + {retries} retries + {cuts} cuts"
    if ended := {Outcome.FINISHED, Outcome.FAILED}.intersection(run.outcomes[:-1]):
        yield f"run {run.name} was run again after it had {ended.pop()}: {run.outcomes}"


def _faults_of_grid(size: int, parts: Sequence[Part], indexes: Iterable[int | None]) -> Iterator[str]:
    """Expect each point once at most, and all that were asked for where the sweep is complete.

    One that was stopped by hand, or that strangers drew from, has fewer: its test knows.
    """
    drawn = Counter(indexes)
    for index, times in drawn.items():
        if times > 1:
            yield f"point {index} of the grid was run {times} times"
    if not all(part.is_whole for part in parts):
        return
    counts = [part.facts.get("count") for part in parts]
    wanted = size if None in counts else min(size, sum(count or 0 for count in counts))
    if len(drawn) < wanted:
        missing = sorted(set(range(size)).difference(index for index in drawn if index is not None))
        yield f"{wanted - len(drawn)} of {wanted} points of the grid were never run; not run: {missing}"


def rows(database: Path, query: str, *values: Any) -> list[Any]:
    """Return what a query finds in a database that others write."""
    address = f"{database.absolute().as_uri()}?mode=ro"
    with closing(sqlite3.connect(address, uri=True, timeout=60.0)) as connection:
        return connection.execute(query, values).fetchall()


def _read_part(folder: Path) -> Part:
    ledger, summary = folder / "ledger.db", folder / "summary.json"
    facts = {name: json.loads(value) for name, value in rows(ledger, "SELECT name, value FROM facts")}
    attempts = defaultdict[str, list[tuple[int, str | None]]](list)
    for name, *attempt in rows(ledger, "SELECT run_id, attempt, outcome FROM attempts ORDER BY attempt"):
        attempts[name].append(tuple(attempt))
    query = "SELECT run_id, parameters, outcome, reason, resumable, value FROM runs ORDER BY number"
    runs = []
    for name, parameters, outcome, reason, resumable, value in rows(ledger, query):
        ended, known = Outcome(outcome) if outcome else None, tuple(attempts[name])
        runs.append(Counted(name, json.loads(parameters), ended, reason, bool(resumable), known, value))
    return Part(facts, tuple(runs), json.loads(summary.read_text()) if summary.exists() else None)


def _read_told(database: Path, sweep: str) -> dict[str, Told]:
    columns = "assigned, name, state, exitcode, sweep_index, value, started_at IS NOT NULL"
    found = rows(database, f"SELECT {columns} FROM runs WHERE sweep_id = ?", sweep)
    return {name: Told(json.loads(assigned or "null"), *others) for assigned, name, *others in found}


def _size_of_grid(database: Path, sweep: str) -> int | None:
    """Return how many points a sweep's grid has; None where it is no grid."""
    query = "SELECT config FROM sweeps WHERE id = ? AND method = ?"
    for (config,) in rows(database, query, sweep, Method.GRID):
        return GridEngine(engines.parse(config).parameters).size
    return None
