"""A run's data for the pages: its row in tables, its own page, its log, its attempts by local ledgers.

Images, tables and histograms in a summary have the form that wandb's client writes.
"""

from __future__ import annotations

import json
import math
import re
import time
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from parallel_hpo.config.sweep_types import Metric
from parallel_hpo.core import folders, values
from parallel_hpo.core.errors import LedgerError
from parallel_hpo.core.folders import is_supervised
from parallel_hpo.core.keys import slot_of
from parallel_hpo.core.messages import in_words, total
from parallel_hpo.core.types import Slot
from parallel_hpo.core.values import dotted, strict
from parallel_hpo.count.policy import MAX_WORKERS
from parallel_hpo.records.reader import LedgerRun, PerformedRuns, ledger_counts, performed
from parallel_hpo.server.context import AppContext
from parallel_hpo.server.rules.runs import OPEN
from parallel_hpo.server.services.supervision import SweepAt
from parallel_hpo.server.store import artifacts, files, lines, runs
from parallel_hpo.server.store.database import Transaction
from parallel_hpo.server.store.lines import Stream
from parallel_hpo.server.store.records import Run
from parallel_hpo.server.store.run_table import TableRun
from parallel_hpo.server.store.runs import RunPath
from parallel_hpo.server.values import RefusedError, read_line

_MAX_SWEEPS: Final = 64


def ledgers_of(world: AppContext, at: SweepAt) -> list[PerformedRuns]:
    """Return this machine's ledgers of a sweep; [] if they can't be read."""
    if world.sweeps_in is None or not at.sweep.isalnum():
        return []
    try:
        found = performed(world.sweeps_in / at.sweep)
    except LedgerError:
        return []
    return [share for share in found if share.path == f"{at.entity}/{at.project}/{at.sweep}"]


@dataclass(frozen=True, slots=True)
class SweepCount:
    """Totals of a sweep by the ledgers of this machine."""

    is_known: bool = False
    count: int | None = None
    """Maximum number of runs over all shares; None if unlimited or unknown."""
    runs: Mapping[str, LedgerRun] = field(default_factory=dict)
    workers: Sequence[Slot] = ()
    """Slots of the supervisor that runs the sweep here; empty if several do, as each has its own slots."""
    is_supervised: bool = False
    """Whether any supervisor runs it here."""
    supervised: Path | None = None
    """That supervisor's folder."""
    used: str = ""
    """Device time and energy that its runs have used, as text."""


class LedgerCache:
    """Caches the ledgers' totals of sweeps for `fresh_s` seconds; thread-safe."""

    def __init__(self, *, fresh_s: float) -> None:
        self._fresh_s = fresh_s
        self._cached: OrderedDict[SweepAt, tuple[float, SweepCount]] = OrderedDict()

    def count_of(self, world: AppContext, at: SweepAt) -> SweepCount:
        """Return the totals of a sweep."""
        known, now = self._cached.get(at), time.monotonic()
        if known is None or now - known[0] >= self._fresh_s:
            known = self._cached[at] = now, _read_count(world, at)
            while len(self._cached) > _MAX_SWEEPS:
                self._cached.popitem(last=False)
        return known[1]


def _read_count(world: AppContext, at: SweepAt) -> SweepCount:
    if world.sweeps_in is None or not at.sweep.isalnum():
        return SweepCount()
    try:
        found = ledger_counts(world.sweeps_in / at.sweep)
    except LedgerError:
        return SweepCount()
    own = [tally for tally in found if tally.path == f"{at.entity}/{at.project}/{at.sweep}"]
    counts = [tally.count for tally in own]
    on = [(tally, home) for tally in own if is_supervised(home := world.sweeps_in / at.sweep / tally.share)]
    return SweepCount(
        is_known=bool(own),
        count=None if None in counts else sum(each or 0 for each in counts),
        runs={name: run for tally in own for name, run in tally.runs.items()},
        workers=on[0][0].slots if len(on) == 1 else (),
        is_supervised=bool(on),
        supervised=on[0][1] if len(on) == 1 else None,
        used=in_words(total(tally.consumption for tally in own)),
    )


def drain(world: AppContext, at: SweepAt, worker: int) -> None:
    """Drain a worker of this machine: it finishes its run and isn't replaced; RefusedError if impossible."""
    asked = _read_count(world, at)
    if worker not in asked.workers:
        slots = ", ".join(map(str, asked.workers)) or "none that this server can see"
        raise RefusedError(f"sweep {at.sweep} has no worker {worker} to drain; it has {slots}", status=409)
    _send(asked, at, folders.drain(Slot(worker)))


def scale(world: AppContext, at: SweepAt, workers: int) -> None:
    """Change the number of workers of this machine; RefusedError if impossible."""
    if not 0 < workers <= MAX_WORKERS:
        raise RefusedError(f"workers: a whole number from 1 to {MAX_WORKERS}", status=400)
    _send(_read_count(world, at), at, folders.scale(workers))


def is_performed_here(world: AppContext, at: SweepAt) -> bool:
    """Return whether a supervisor of this machine performs the sweep."""
    return _read_count(world, at).is_supervised


def _send(count: SweepCount, at: SweepAt, command: Mapping[str, int]) -> None:
    if count.supervised is None or not folders.send(count.supervised, command):
        raise RefusedError(f"sweep {at.sweep} isn't running under one supervisor here", status=409)


def attempts_of(world: AppContext, at: SweepAt, run_id: str) -> list[dict[str, Any]]:
    """Return a run's attempts with their reasons, for its page; [] if no ledger has the run."""
    return [
        {
            "attempt": attempt.attempt,
            "worker": share.name_of(attempt.slot),
            "device": share.devices.get(attempt.run_id),
            "started": attempt.started_at,
            "ended": attempt.ended_at,
            "outcome": attempt.outcome or "running",
            "reason": attempt.reason,
            "used": in_words(attempt.consumption),
        }
        for share in ledgers_of(world, at)
        for attempt in share.attempts
        if attempt.run_id == run_id
    ]


_OPEN: Final = frozenset(str(state) for state in OPEN)
FACTS: Final = (
    *("id", "name", "state", "value", "started", "ended", "spent", "since", "attempts", "worker", "sweep"),
)
"""Columns of a run besides its parameters."""


@dataclass(frozen=True, slots=True)
class Row:
    """A run's row; `facts` in the order of FACTS, times in seconds since the epoch."""

    facts: tuple[Any, ...]
    parameters: Mapping[str, Any] = field(default_factory=dict)
    logged: Mapping[str, Any] = field(default_factory=dict)


def row_of(seen: TableRun, wanted: Metric | None, known: LedgerRun | None = None) -> Row:
    """Return a run's row; the value of an open run comes from its current summary.

    `known` is the run in a ledger of this machine.
    """
    is_open = seen.state in _OPEN
    value = seen.value
    if value is None and is_open and wanted is not None and seen.summary:
        value = values.find_value(json.loads(seen.summary), wanted.name, wanted.goal)
    facts = (
        seen.name,
        seen.display_name or seen.name,
        seen.state,
        value if value is None or math.isfinite(value) else None,
        seen.started_at,
        None if is_open or seen.started_at is None else seen.heard_at,
        *_times_in(known, is_open=is_open),
        0 if seen.started_at is None else 1 if known is None else known.attempts,
        worker_of(seen.opened_by or seen.agent_label or "", seen.host),
        seen.sweep_id,
    )
    return Row(facts, dict(dotted(plain_config(seen.given))), seen.logged)


def _times_in(known: LedgerRun | None, *, is_open: bool) -> tuple[float | None, float | None]:
    """Return how long a run's ended attempts took, and when the running one started, by a ledger.

    (None, None) if no ledger says it: then only the times of the server are known. `is_open`: on the server.
    """
    if known is None or not (is_open or known.is_over):
        return None, None
    return known.spent_s, known.since


def worker_of(label: str, host: str | None) -> str | None:
    """Return `host/slot` for the label of a supervisor's worker, else the host."""
    slot = slot_of(label)
    return host if slot is None else f"{host or '?'}/{slot}"


def plain_config(text: str) -> Mapping[str, Any]:
    """Return the values of a client's config: those under `value`, without the client's own keys."""
    entries: Mapping[str, Any] = json.loads(text)
    return {
        name: entry["value"] if isinstance(entry, dict) and "value" in entry else entry
        for name, entry in entries.items()
        if name != "_wandb"
    }


IMAGE_TYPES: Final[Mapping[str, str]] = {
    ".png": "image/png",
    ".jpg": "image/jpeg",
    ".jpeg": "image/jpeg",
    ".gif": "image/gif",
    ".webp": "image/webp",
    ".bmp": "image/bmp",
}
"""Media types of images that are shown inline. SVG is missing because it may contain scripts."""

_FIRST_LINES: Final = 1000
"""Number of last log lines that a page shows first."""
_MAX_LINES: Final = 2000
_MAX_MEDIA_STEPS: Final = 500
"""Number of last steps with media between which a page lets one choose."""
_ESCAPES: Final = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]|\x1b[@-_]|\r")
"""Terminal escape sequences (cursor, colour) and carriage returns."""
_PLAIN_FIELDS: Final = (
    *("state", "exitcode", "notes", "job_type", "commit_hash", "host", "program", "repo"),
    *("history_lines", "event_lines", "log_lines"),
)


def run_at(transaction: Transaction, path: RunPath) -> Run:
    """Return the run at an address; RefusedError (404) if it doesn't exist."""
    run = runs.at(transaction, path)
    if run is None:
        raise RefusedError(f"run {path.entity}/{path.project}/{path.name} doesn't exist", status=404)
    return run


def run_data(world: AppContext, path: RunPath) -> dict[str, Any]:
    """Return the data of a run's page, except curves and log."""
    with world.database.read() as transaction:
        run = run_at(transaction, path)
        neighbours = runs.neighbours(transaction, run)
        sent = sorted(files.of_run(transaction, run.id), key=lambda file: not _is_source(file.name))
        saved = _artifacts(transaction, run)
    in_ledger = _read_count(world, SweepAt(path.entity, path.project, run.sweep_id or "")).runs.get(run.name)
    spent, since = _times_in(in_ledger, is_open=run.state in OPEN)
    summary = json.loads(run.summary)
    known = {name: value for name, value in dotted(_shown(summary)) if not isinstance(value, dict)}
    known = dict(sorted(known.items(), key=lambda item: (item[0].startswith("_"), item[0])))
    return {
        "run": head_of(run) | {"spent": spent, "since": since},
        "neighbours": neighbours,
        "keys": drawable(run.history_keys),
        "system_keys": [
            name for name, value in json.loads(run.system_metrics).items() if _is_system(name, value)
        ],
        "parameters": strict(dict(dotted(plain_config(run.assigned or run.config)))),
        "config": strict(dict(dotted(plain_config(run.config)))),
        "summary": strict(known),
        "attempts": _attempts(world, path, run),
        "files": [{"name": file.name, "size": file.size, "updated": file.updated_at} for file in sent],
        "artifacts": saved,
        "media": strict(media_in(summary)),
    }


def _artifacts(transaction: Transaction, run: Run) -> list[dict[str, Any]]:
    """Return the artifacts that a run logged, then those that it used."""
    logged = artifacts.outputs_of_run(transaction, run.id)
    used = artifacts.used_by_run(transaction, run.id)
    return [
        {
            "id": each.id,
            "name": f"{each.collection.name}:v{each.version}",
            "type": each.collection.type,
            "how": how,
            "files": each.file_count,
            "size": each.size,
            "created": each.created_at,
        }
        for how, those in (("logged", logged), ("used", used))
        for each in those
    ]


def _is_source(name: str) -> bool:
    """Return whether a file is code, or its changes since the last commit, that the client saved."""
    return name.startswith("code/") or name.endswith(".patch")


def head_of(run: Run) -> dict[str, Any]:
    """Return a run's own fields; times in seconds since the epoch."""
    is_open = run.state in OPEN
    return {
        "id": run.name,
        "name": run.display_name or run.name,
        "entity": run.entity,
        "project": run.project,
        "sweep": run.sweep_id,
        "tags": json.loads(run.tags),
        "group": run.group_name,
        "value": run.value,
        "created": run.created_at,
        "started": run.started_at,
        "ended": None if is_open or run.started_at is None else run.heard_at,
        "worker": worker_of(run.opened_by or "", run.host),
        "over": not is_open,
        **{name: getattr(run, name) for name in _PLAIN_FIELDS},
    }


def log_part(world: AppContext, path: RunPath, after: int | None) -> dict[str, Any]:
    """Return log lines from number `after`, or the last ones for None; the next call passes `next`."""
    with world.database.read() as transaction:
        run = run_at(transaction, path)
        begin = max(0, run.log_lines - _FIRST_LINES) if after is None else max(0, after)
        found = lines.part(transaction, run.id, Stream.CONSOLE, begin, _MAX_LINES)
    read = [read_line(line.number, line.text) for line in found]
    return {
        "first": begin,
        "lines": [_ESCAPES.sub("", each.line) for each in read],
        "errors": [place for place, each in enumerate(read) if each.level == "error"],
        "next": found[-1].number + 1 if found else begin,
        "over": run.state not in OPEN,
    }


def log_text(world: AppContext, path: RunPath) -> str:
    """Return a run's whole log as plain text."""
    with world.database.read() as transaction:
        run = run_at(transaction, path)
        texts = list(lines.texts(transaction, run.id, Stream.CONSOLE))
    return "".join(f"{_ESCAPES.sub('', read_line(number, text).line)}\n" for number, text in enumerate(texts))


def media_by_step(world: AppContext, path: RunPath, begin: int) -> list[dict[str, Any]]:
    """Return the media of a run's last steps that have some, of history lines from number `begin` on."""
    with world.database.read() as transaction:
        run = run_at(transaction, path)
        found = lines.last_with(
            transaction, run.id, Stream.HISTORY, '"_type"', begin=begin, most=_MAX_MEDIA_STEPS
        )
    steps = [{"number": line.number, "step": line.step, **media_in(json.loads(line.text))} for line in found]
    return [each for each in steps if each["images"] or each["tables"] or each["histograms"]]


def drawable(history_keys: str) -> list[str]:
    """Return the keys under which a run logged numbers."""
    known = json.loads(history_keys).get("keys", {})
    return [
        name
        for name, entry in known.items()
        if not name.startswith("_") and entry["typeCounts"][0]["type"] == "number"
    ]


def _shown(summary: dict[str, Any]) -> dict[str, Any]:
    """Return the summary without media, which the page shows apart."""
    typed = (name for name, value in summary.items() if isinstance(value, dict) and "_type" in value)
    return {name: summary[name] for name in summary.keys() - {"_wandb", *typed}}


def _is_system(name: str, value: Any) -> bool:
    return not name.startswith("_") and isinstance(value, int | float)


def _attempts(world: AppContext, path: RunPath, run: Run) -> list[dict[str, Any]]:
    """Return a run's attempts from this machine's ledgers, else the one that the server knows."""
    at = SweepAt(path.entity, path.project, run.sweep_id or "")
    if known := attempts_of(world, at, run.name):
        return known
    if run.started_at is None:
        return []
    head = head_of(run)
    return [
        {
            "attempt": 1,
            "worker": head["worker"],
            "device": None,
            "started": head["started"],
            "ended": head["ended"],
            "outcome": str(run.state),
            "reason": "" if run.exitcode in (None, 0) else f"exit code {run.exitcode}",
            "used": "",
        }
    ]


def media_in(summary: Mapping[str, Any]) -> dict[str, list[dict[str, Any]]]:
    """Return images and tables with their files, and histograms, each with its key."""
    found: dict[str, list[dict[str, Any]]] = {"images": [], "tables": [], "histograms": []}
    for key, value in _typed(summary):
        match value["_type"]:
            case "image-file":
                found["images"].append(
                    {"key": key, "file": value.get("path"), "caption": value.get("caption")}
                )
            case "images/separated":
                found["images"] += _separated(key, value)
            case "table-file" | "incremental-table-file":
                found["tables"].append({"key": key, "file": value.get("path")})
            case "histogram":
                found["histograms"].append({"key": key, "values": value.get("values"), "bins": _bins(value)})
    return {kind: [each for each in all_of if _is_whole(each)] for kind, all_of in found.items()}


def _typed(values: Mapping[str, Any], outer: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    for name, value in values.items():
        if isinstance(value, dict):
            if isinstance(value.get("_type"), str):
                yield outer + name, value
            else:
                yield from _typed(value, f"{outer}{name}.")


def _separated(key: str, value: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    captions = value.get("captions")
    for number, file in enumerate(value.get("filenames") or []):
        caption = captions[number] if isinstance(captions, list) and number < len(captions) else None
        yield {"key": key, "file": file, "caption": caption}


def _bins(value: Mapping[str, Any]) -> list[float] | None:
    packed = value.get("packedBins")
    if isinstance(packed, dict):
        low, size, count = (packed.get(name) for name in ("min", "size", "count"))
        if all(isinstance(each, int | float) for each in (low, size, count)):
            return [low + size * place for place in range(int(count) + 1)]  # type: ignore[operator,arg-type]
    bins = value.get("bins")
    return bins if isinstance(bins, list) else None


def _is_whole(each: Mapping[str, Any]) -> bool:
    if "file" in each:
        return isinstance(each["file"], str)
    return isinstance(each["values"], list) and isinstance(each["bins"], list)
