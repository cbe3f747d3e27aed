"""`parallel-hpo report`: a sweep as one HTML file, from what its server and its folder have of it.

A sweep's own folder has its runs by their ledger, and when which worker performed them. Of a sweep on W&B's
server that is all that there is here: no histories, and no sweep configuration, so that what varies, and on
which kind of axis, is taken from the runs themselves.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from parallel_hpo.analysis.study import is_logarithmic
from parallel_hpo.cli.finding import find_anywhere
from parallel_hpo.cli.output import is_stdout, print_for_machines, whole_file, write_for_machines
from parallel_hpo.core.errors import BackendError
from parallel_hpo.core.messages import in_words, total
from parallel_hpo.core.types import Outcome, RunId, SweepPath, sweep_id_of
from parallel_hpo.core.values import dotted
from parallel_hpo.records.folders import KnownSweep
from parallel_hpo.records.ledger_views import Attempt, PerformedRuns
from parallel_hpo.records.reader import RunRow
from parallel_hpo.server import local
from parallel_hpo.server.pages.report import Contents, document, read
from parallel_hpo.server.pages.timeline import lanes_of
from parallel_hpo.server.store.database import UnavailableError

_NOTE: Final = "This is what the sweep's folder knows: its histories are on W&B's server, at {url}"
_NOTE_OF_POOL: Final = "This is what the sweep's pool knows: its histories are on its server, at {url}"


def perform_report(directory: Path, sweep: str, output: Path | None) -> None:
    """Write a report of a sweep, and print the file's path alone; `output` missing: `<sweep_id>.html` here.

    Where `output` is stdout, only the report goes there.

    Raises:
        UsageError: there is no such sweep, or the file can't be written.
        LedgerError: its ledger can't be read.
        BackendError: the server's database can't be read now.
    """
    sweep_id = sweep_id_of(sweep)
    now = time.time()
    contents = _of_server(directory, sweep_id) or contents_of(find_anywhere(directory, sweep), now)
    file = Path(f"{sweep_id}.html") if output is None else output
    written = document(contents, now).encode()
    if is_stdout(file):
        write_for_machines(written)
        return
    with whole_file(file) as draft:
        draft.write_bytes(written)
    print_for_machines(str(file))


def _of_server(directory: Path, sweep_id: str) -> Contents | None:
    """Return what the embedded server has of a sweep, whether it runs or not; None: nothing."""
    try:
        with local.opened(directory) as world:
            return None if world is None else read(world, sweep_id)
    except UnavailableError as error:
        raise BackendError(f"the server's database can't be used now: {error}; try again later") from None


def contents_of(known: KnownSweep, now: float) -> Contents:
    """Return a sweep as its folder has it; `now`: seconds since the epoch. LedgerError: it can't be read."""
    shares = known.performed
    columns = _parameters(known.runs)
    path = SweepPath.parse(known.facts["path"])
    metric = known.facts.get("metric")
    goal = known.facts.get("goal") or "minimize"
    sweep = {
        "sweep": {
            "id": known.sweep_id, "name": known.sweep_id, "entity": path.entity, "project": path.project,
            "state": "running" if known.supervised else known.facts.get("stop_reason", "not running"),
            "method": None, "created": None, "count": known.count,
            "metric": None if metric is None else {"name": metric, "goal": goal},
            "used": in_words(total(run.consumption for run in known.runs)),
        },
        "parameters": [_axis(name, values) for name, values in columns.items()],
        "runs": _columns(known, shares) | {"parameters": columns},
        "keys": [],
        "best": None if known.best is None else known.best.run_id,
        "revision": "",
        "complete": True,
    }  # fmt: skip
    timeline = {"now": now, **lanes_of(shares, lambda _: bool(known.supervised))}
    note = _NOTE if known.of_pool is None else _NOTE_OF_POOL
    return Contents(sweep, [], timeline, note.format(url=known.facts.get("url")))


def _columns(known: KnownSweep, shares: Sequence[PerformedRuns]) -> dict[str, list[Any]]:
    attempts: dict[RunId, list[Attempt]] = {}
    for share in shares:
        for attempt in share.attempts:
            attempts.setdefault(attempt.run_id, []).append(attempt)
    runs = known.runs
    names = {slot: share.name_of(slot) for share in shares for slot in share.places}
    of_each = [attempts.get(run.run_id, []) for run in runs]
    return {
        "id": [run.run_id for run in runs],
        "name": [run.run_id for run in runs],
        "state": [_state(run, running=bool(known.supervised)) for run in runs],
        "value": [run.value if run.value is not None and math.isfinite(run.value) else None for run in runs],
        "started": [each[0].started_at if each else None for each in of_each],
        "ended": [each[-1].ended_at if each else None for each in of_each],
        "attempts": [run.attempts for run in runs],
        "worker": [names.get(run.slot, str(run.slot)) for run in runs],
        "sweep": [known.sweep_id] * len(runs),
    }


def _state(run: RunRow, *, running: bool) -> str:
    if run.outcome is None:
        return "running" if running else "cut short"
    return "killed" if run.outcome is Outcome.STOPPED else str(run.outcome)


def _parameters(runs: Sequence[RunRow]) -> dict[str, list[Any]]:
    """Return the values of each parameter by its dotted name, None where a run has none."""
    given = [dict(dotted(run.parameters)) for run in runs]
    names = dict.fromkeys(name for each in given for name in each)
    return {name: [each.get(name) for each in given] for name in names}


def _axis(name: str, values: Sequence[Any]) -> dict[str, Any]:
    there = [value for value in values if value is not None]
    numeric = bool(there) and all(type(value) in (int, float) for value in there)
    return {
        "name": name,
        "kind": "number" if numeric else "category",
        "log": numeric and is_logarithmic(there),
        "varied": len({str(value) for value in values}) > 1,
        "low": min(there) if numeric else None,
        "high": max(there) if numeric else None,
        "values": None,
    }
