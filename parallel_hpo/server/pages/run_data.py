"""What a run's page shows, as JSON: what it was given, what it said, what it sent.

What of its summary is a picture, a table or a histogram is as wandb's client writes it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

from parallel_hpo.nested import dotted, strict
from parallel_hpo.server.pages.ledgers import attempts_of
from parallel_hpo.server.pages.rows import plain_config, worker_of
from parallel_hpo.server.refusals import RefusedError
from parallel_hpo.server.rules.run_states import OPEN
from parallel_hpo.server.services.supervision import SweepAt
from parallel_hpo.server.store import files, lines, runs
from parallel_hpo.server.store.database import Transaction
from parallel_hpo.server.store.lines import Stream
from parallel_hpo.server.store.records import Run
from parallel_hpo.server.store.runs import RunPath
from parallel_hpo.server.values import read_line
from parallel_hpo.server.world import World

IMAGE_TYPES: Final[Mapping[str, str]] = {
    ".png": "image/png",
    ".jpg": "image/jpeg",
    ".jpeg": "image/jpeg",
    ".gif": "image/gif",
    ".webp": "image/webp",
    ".bmp": "image/bmp",
}
"""What may be shown as a picture. SVG is none: it may have scripts."""

_FIRST_LINES: Final = 1000
"""So many of a log's last lines a page begins with."""
_MOST_LINES: Final = 2000
_ESCAPES: Final = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]|\x1b[@-_]|\r")
"""What moves a terminal's cursor or colours it."""
_TOLD: Final = (
    *("state", "exitcode", "notes", "job_type", "commit_hash", "host", "program", "repo"),
    *("history_lines", "event_lines", "log_lines"),
)


def run_at(transaction: Transaction, path: RunPath) -> Run:
    """Return the run at an address; RefusedError (404) where there is none."""
    run = runs.at(transaction, path)
    if run is None:
        raise RefusedError(f"run {path.entity}/{path.project}/{path.name} doesn't exist", status=404)
    return run


def run_data(world: World, path: RunPath) -> dict[str, Any]:
    """Return all that is known of a run, but for its curves and its log."""
    with world.database.read() as transaction:
        run = run_at(transaction, path)
        sent = files.of_run(transaction, run.id)
    summary = json.loads(run.summary)
    told = {name: value for name, value in dotted(_shown(summary)) if not isinstance(value, dict)}
    told = dict(sorted(told.items(), key=lambda item: (item[0].startswith("_"), item[0])))
    return {
        "run": head_of(run),
        "keys": drawable(run.history_keys),
        "system_keys": [
            name for name, value in json.loads(run.system_metrics).items() if _is_system(name, value)
        ],
        "parameters": strict(dict(dotted(plain_config(run.assigned or run.config)))),
        "config": strict(dict(dotted(plain_config(run.config)))),
        "summary": strict(told),
        "attempts": _attempts(world, path, run),
        "files": [{"name": file.name, "size": file.size, "updated": file.updated_at} for file in sent],
        "media": strict(media_in(summary)),
    }


def head_of(run: Run) -> dict[str, Any]:
    """Return what is said of a run as a whole; times in seconds since the epoch."""
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
        **{name: getattr(run, name) for name in _TOLD},
    }


def log_part(world: World, path: RunPath, after: int | None) -> dict[str, Any]:
    """Return log lines from a number on; None: the last ones. `next` is where to go on."""
    with world.database.read() as transaction:
        run = run_at(transaction, path)
        begin = max(0, run.log_lines - _FIRST_LINES) if after is None else max(0, after)
        found = lines.part(transaction, run.id, Stream.CONSOLE, begin, _MOST_LINES)
    read = [read_line(line.number, line.text) for line in found]
    return {
        "first": begin,
        "lines": [_ESCAPES.sub("", each.line) for each in read],
        "errors": [place for place, each in enumerate(read) if each.level == "error"],
        "next": found[-1].number + 1 if found else begin,
        "over": run.state not in OPEN,
    }


def drawable(history_keys: str) -> list[str]:
    """Return the keys under which numbers were logged."""
    known = json.loads(history_keys).get("keys", {})
    return [
        name
        for name, entry in known.items()
        if not name.startswith("_") and entry["typeCounts"][0]["type"] == "number"
    ]


def _shown(summary: dict[str, Any]) -> dict[str, Any]:
    """Return what can be shown as text: media have places of their own."""
    typed = (name for name, value in summary.items() if isinstance(value, dict) and "_type" in value)
    return {name: summary[name] for name in summary.keys() - {"_wandb", *typed}}


def _is_system(name: str, value: Any) -> bool:
    return not name.startswith("_") and isinstance(value, int | float)


def _attempts(world: World, path: RunPath, run: Run) -> list[dict[str, Any]]:
    """Return a run's attempts by the ledgers of this machine, else the one that the server saw."""
    at = SweepAt(path.entity, path.project, run.sweep_id or "")
    if told := attempts_of(world, at, run.name):
        return told
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
    """Return images and tables, each with the file that has it, and histograms, by their keys."""
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
