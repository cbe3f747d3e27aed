"""Runs: their fields, the operations on them, and their history, events and console lines.

Clients read history and events as a tail, a sample, a range of steps, or some keys only.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from graphql.pyutils import snake_to_camel

from parallel_hpo.core.values import strict
from parallel_hpo.server import removal
from parallel_hpo.server.context import DEFAULT_ENTITY, DEFAULT_PROJECT
from parallel_hpo.server.graphql.resolvers.context import (
    Info,
    Page,
    Resolver,
    constant,
    context,
    key_of_run,
    make_run_id,
    page,
    reading,
    renamed,
    timed,
)
from parallel_hpo.server.graphql.resolvers.projects import project_of, user
from parallel_hpo.server.rules.runs import RunState
from parallel_hpo.server.services import runs as run_service
from parallel_hpo.server.services.runs import RunUpsert, Upserted
from parallel_hpo.server.store import lines
from parallel_hpo.server.store.lines import StepRange, Stream
from parallel_hpo.server.store.records import CLIENT_FIELDS, Run
from parallel_hpo.server.store.runs import RunPath
from parallel_hpo.server.values import LogLine, RefusedError, read_line, read_object, sample

_SPELLED: Final[Mapping[str, str]] = {"commit_hash": "commit", "program": "jobProgram", "repo": "jobRepo"}
"""Client names of a run's columns, where they differ from ours."""
_DEFAULT_SAMPLES: Final = 500
_MAX_SAMPLES: Final = 10_000


def _upsert(_source: Any, info: Info, input: dict[str, Any]) -> Upserted:
    tags = input.get("tags")
    upsert = RunUpsert(
        id=None if input.get("id") is None else key_of_run(input["id"]),
        name=input.get("name"),
        entity=input.get("entityName"),
        project=input.get("modelName"),
        sweep=input.get("sweep") or None,
        tags=None if tags is None else tuple(tags),
        config=input.get("config"),
        summary=input.get("summaryMetrics"),
        **{
            name: input.get(_SPELLED.get(name) or snake_to_camel(name, upper=False)) for name in CLIENT_FIELDS
        },
    )
    return run_service.upsert(context(info).app, upsert, opener=context(info).caller.label)


def _stop(_source: Any, info: Info, input: dict[str, Any]) -> dict[str, bool]:
    return {"success": run_service.request_stop(context(info).app, key_of_run(input["id"]))}


def _delete(_source: Any, info: Info, input: dict[str, Any]) -> dict[str, None]:
    with_artifacts = bool(input.get("deleteArtifacts"))
    removal.delete_run(context(info).app, key_of_run(input["id"]), with_artifacts=with_artifacts)
    return {"clientMutationId": None}


def _rewind(_source: Any, info: Info, input: dict[str, Any]) -> dict[str, Run]:
    request = context(info)
    entity, project = input.get("entityName") or DEFAULT_ENTITY, input.get("projectName") or DEFAULT_PROJECT
    path = RunPath(entity, project, input["runName"])
    metric, value = input["metricName"], input["metricValue"]
    run = run_service.rewind(request.app, path, metric, value, opener=request.caller.label)
    request.must_last = True  # else the lines that were cut off could return after a power cut
    return {"rewoundRun": run}


def _set_state(_source: Any, info: Info, input: dict[str, Any]) -> dict[str, bool]:
    run_service.set_state(context(info).app, key_of_run(input["id"]), input["state"])
    return {"success": True}


def _alert(_source: Any, info: Info, input: dict[str, Any]) -> dict[str, bool]:
    path = RunPath(input["entityName"], input["projectName"], input["runName"])
    severity = input.get("severity") or "INFO"  # wandb client: what alert() takes without a level
    run_service.alert(context(info).app, path, input["title"], input["text"], severity)
    return {"success": True}


def _wandb_config(run: Run, _info: Info, keys: list[str] | None = None) -> str | None:
    """Return the part of `_wandb` that shows that a run has started; None if it was only issued."""
    if run.started_at is None:
        return None
    known = json.loads(run.config).get("_wandb")
    inner = known.get("value", {}) if isinstance(known, dict) else {}
    return json.dumps({"t": inner.get("t", 1) if isinstance(inner, dict) else 1})


@dataclass(frozen=True, slots=True)
class SampleSpec:
    """The rows and keys of a history that a client requests."""

    keys: list[str]
    steps: StepRange
    samples: int


def _history(
    run: Run,
    info: Info,
    samples: int | None = None,
    minStep: int | None = None,
    maxStep: int | None = None,
) -> list[str]:
    """Return all history lines of a range of steps, or without one `samples` lines evenly spread."""
    if minStep is None and maxStep is None:
        return _spread(run, info, Stream.HISTORY, run.history_lines, samples)
    return list(lines.texts(reading(info), run.id, Stream.HISTORY, StepRange(minStep, maxStep)))


def _events(run: Run, info: Info, samples: int | None = None) -> list[str]:
    return _spread(run, info, Stream.EVENTS, run.event_lines, samples)


def _spread(run: Run, info: Info, stream: Stream, total: int, samples: int | None) -> list[str]:
    count = min(samples if samples is not None and samples > 0 else _DEFAULT_SAMPLES, _MAX_SAMPLES)
    return list(lines.spread(reading(info), run.id, stream, count, total))


def _tail(stream: Stream) -> Any:
    def resolve(run: Run, info: Info) -> str:
        last = lines.last(reading(info), run.id, stream)
        return json.dumps([] if last is None else [last])

    return resolve


def _sampled_history(run: Run, info: Info, specs: list[str]) -> list[list[dict[str, Any]]]:
    return [_rows(run, info, _spec(text)) for text in specs]


def _spec(text: str) -> SampleSpec:
    raw = read_object(text, "a history spec")
    keys = raw.get("keys") or []
    first, end, samples = raw.get("minStep"), raw.get("maxStep"), raw.get("samples", _DEFAULT_SAMPLES)
    if not isinstance(keys, list) or not all(isinstance(key, str) for key in keys):
        raise RefusedError("a history spec's keys must be a list of names")
    if not all(value is None or isinstance(value, int) for value in (first, end, samples)):
        raise RefusedError("a history spec's minStep, maxStep and samples must be integers")
    # wandb client: the last step asked for is maxStep itself, unlike in `history(maxStep:)`.
    return SampleSpec(
        list(dict.fromkeys(keys)), StepRange(first, None if end is None else end + 1), samples or 0
    )


def _rows(run: Run, info: Info, spec: SampleSpec) -> list[dict[str, Any]]:
    texts = lines.texts(reading(info), run.id, Stream.HISTORY, spec.steps)
    rows = [row for row in (sample(json.loads(text), spec.keys) for text in texts) if row is not None]
    if 0 < spec.samples < len(rows):
        rows = [rows[round(i * (len(rows) - 1) / max(spec.samples - 1, 1))] for i in range(spec.samples)]
    return [strict(row) for row in rows]


def _parquet_history(run: Run, info: Info, liveKeys: list[str] | None = None) -> dict[str, Any]:
    """Return no files, and all rows as live data."""
    spec = SampleSpec(liveKeys or [], StepRange(), 0)
    return {"parquetUrls": [], "liveData": _rows(run, info, spec)}


def _log_lines(
    run: Run,
    info: Info,
    first: int | None = None,
    after: str | None = None,
    last: int | None = None,
    useImprovedPagination: bool | None = None,
) -> Page[LogLine]:
    """Return a page of console lines, or the `last` ones."""
    texts = list(lines.texts(reading(info), run.id, Stream.CONSOLE))
    numbered = [read_line(number, text) for number, text in enumerate(texts)]
    if last is not None:
        return page(numbered[max(0, len(numbered) - max(last, 0)) :], None, None)
    return page(numbered, after, first)


RUN: Final[dict[str, Resolver]] = {
    "id": lambda run, _info: make_run_id(run.id),
    "displayName": lambda run, _info: run.display_name or run.name,
    "tags": lambda run, _info: json.loads(run.tags),
    "sweepName": renamed("sweep_id"),
    "group": renamed("group_name"),
    "commit": renamed("commit_hash"),
    "createdAt": timed("created_at"),
    "heartbeatAt": timed("heard_at"),
    "summaryMetrics": renamed("summary"),
    "systemMetrics": renamed("system_metrics"),
    "historyLineCount": renamed("history_lines"),
    "eventsLineCount": renamed("event_lines"),
    "logLineCount": renamed("log_lines"),
    "wandbConfig": _wandb_config,
    "readOnly": constant(False),
    "shouldStop": renamed("stop_requested"),
    "stopped": lambda run, _info: run.state is RunState.KILLED,
    "failed": lambda run, _info: run.state in (RunState.FAILED, RunState.CRASHED),
    "running": lambda run, _info: run.state in (RunState.RUNNING, RunState.PREEMPTING),
    "user": lambda _run, _info: user(),
    "projectId": renamed("project_id"),
    "project": project_of,
    "history": _history,
    "events": _events,
    "historyTail": _tail(Stream.HISTORY),
    "eventsTail": _tail(Stream.EVENTS),
    "historyKeys": lambda run, _info: json.loads(run.history_keys),
    "sampledHistory": _sampled_history,
    "parquetHistory": _parquet_history,
    "logLines": _log_lines,
}
MUTATION: Final[dict[str, Resolver]] = {
    "upsertBucket": _upsert,
    "stopRun": _stop,
    "deleteRun": _delete,
    "rewindRun": _rewind,
    "updateRunState": _set_state,
    "notifyScriptableRunAlert": _alert,
}
