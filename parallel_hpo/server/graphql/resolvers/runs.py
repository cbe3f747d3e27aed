"""Runs: their fields, and the operations that start, change and stop them and take their files."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

from graphql.pyutils import snake_to_camel

from parallel_hpo.server import removal
from parallel_hpo.server.context import DEFAULT_ENTITY, DEFAULT_PROJECT
from parallel_hpo.server.graphql.resolvers.context import (
    Info,
    Resolver,
    constant,
    context,
    key_of_run,
    make_run_id,
    renamed,
    timed,
)
from parallel_hpo.server.graphql.resolvers.projects import project_of
from parallel_hpo.server.graphql.resolvers.viewer import user
from parallel_hpo.server.rules.runs import RunState
from parallel_hpo.server.services import runs as run_service
from parallel_hpo.server.services.runs import RunUpsert, Upserted
from parallel_hpo.server.store.records import TOLD, Run
from parallel_hpo.server.store.runs import RunPath

_SPELLED: Final[Mapping[str, str]] = {"commit_hash": "commit", "program": "jobProgram", "repo": "jobRepo"}
"""What clients call that which they tell of a run, where it isn't the column's name."""


def _upsert(_source: Any, info: Info, input: dict[str, Any]) -> Upserted:
    tags = input.get("tags")
    wishes = RunUpsert(
        id=None if input.get("id") is None else key_of_run(input["id"]),
        name=input.get("name"),
        entity=input.get("entityName"),
        project=input.get("modelName"),
        sweep=input.get("sweep") or None,
        tags=None if tags is None else tuple(tags),
        config=input.get("config"),
        summary=input.get("summaryMetrics"),
        **{name: input.get(_SPELLED.get(name) or snake_to_camel(name, upper=False)) for name in TOLD},
    )
    return run_service.upsert(context(info).world, wishes, opener=context(info).caller.label)


def _stop(_source: Any, info: Info, input: dict[str, Any]) -> dict[str, bool]:
    return {"success": run_service.request_stop(context(info).world, key_of_run(input["id"]))}


def _delete(_source: Any, info: Info, input: dict[str, Any]) -> dict[str, None]:
    with_artifacts = bool(input.get("deleteArtifacts"))
    removal.delete_run(context(info).world, key_of_run(input["id"]), with_artifacts=with_artifacts)
    return {"clientMutationId": None}


def _rewind(_source: Any, info: Info, input: dict[str, Any]) -> dict[str, Run]:
    request = context(info)
    entity, project = input.get("entityName") or DEFAULT_ENTITY, input.get("projectName") or DEFAULT_PROJECT
    path = RunPath(entity, project, input["runName"])
    metric, value = input["metricName"], input["metricValue"]
    run = run_service.rewind(request.world, path, metric, value, opener=request.caller.label)
    request.must_last = True  # else the lines that were cut off would stand behind those that come
    return {"rewoundRun": run}


def _set_state(_source: Any, info: Info, input: dict[str, Any]) -> dict[str, bool]:
    run_service.set_state(context(info).world, key_of_run(input["id"]), input["state"])
    return {"success": True}


def _alert(_source: Any, info: Info, input: dict[str, Any]) -> dict[str, bool]:
    path = RunPath(input["entityName"], input["projectName"], input["runName"])
    severity = input.get("severity") or "INFO"  # wandb client: what alert() takes without a level
    run_service.alert(context(info).world, path, input["title"], input["text"], severity)
    return {"success": True}


def _wandb_config(run: Run, _info: Info, keys: list[str] | None = None) -> str | None:
    """Return the parts of `_wandb` that say that a run really began; None for one that was only issued."""
    if run.started_at is None:
        return None
    known = json.loads(run.config).get("_wandb")
    inner = known.get("value", {}) if isinstance(known, dict) else {}
    return json.dumps({"t": inner.get("t", 1) if isinstance(inner, dict) else 1})


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
}
MUTATION: Final[dict[str, Resolver]] = {
    "upsertBucket": _upsert,
    "stopRun": _stop,
    "deleteRun": _delete,
    "rewindRun": _rewind,
    "updateRunState": _set_state,
    "notifyScriptableRunAlert": _alert,
}
