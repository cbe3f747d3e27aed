"""An upload's calls to its destination server through the wandb client, each in a child process.

wandb is imported inside functions only.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from parallel_hpo.client.base import OpenedSweep, SweepRequest
from parallel_hpo.client.calls import connection_problem, open_sweep, send_rest
from parallel_hpo.client.credentials import Credentials
from parallel_hpo.client.run_file import RunCopy, RunLines, write_run_file
from parallel_hpo.core.types import SweepId, SweepPath

AT_ONCE: Final = 200
"""Maximum number of runs in one request."""
CLOSED: Final = ("finished", "failed", "killed")
LAST_FILE: Final = "wandb-summary.json"
"""wandb client: sent at a run's end, also by `wandb sync`."""


@dataclass(frozen=True, slots=True)
class UploadQuery:
    """A request for an upload's present state at its destination."""

    entity: str | None
    """None: the client's default."""
    project: str
    source: SweepPath
    mark: str
    """Line in a sweep's description that identifies the uploaded sweep."""
    runs: tuple[str, ...]
    logging: Collection[str]
    """Runs whose logged artifacts are requested."""


@dataclass(frozen=True, slots=True)
class RemoteRun:
    """A run at the destination."""

    state: str
    lines: int
    """Number of lines of its history."""
    sweep_id: str | None
    artifacts: tuple[tuple[str, str], ...]
    """Name and digest of each logged artifact, if requested."""
    is_closed: bool
    """Whether its end was received, even if its state differs."""
    logged_at: float | None
    """Time of its last log call, by its own summary."""


@dataclass(frozen=True, slots=True)
class UploadedState:
    """An upload's present state at its destination."""

    entity: str
    is_source: bool
    """Whether the destination is the sweep's own server."""
    sweep: OpenedSweep | None
    state: str
    """State of the sweep."""
    runs: Mapping[str, RemoteRun]


@dataclass(frozen=True, slots=True)
class ArtifactUse:
    """A version of an artifact that a run used, by its name and number at the source."""

    run_id: str
    project: str
    name: str
    type: str
    version: int
    digest: str


def look(credentials: Credentials, sought: UploadQuery) -> UploadedState | str:
    """Return an upload's state at the destination, or why the server can't be used."""
    import wandb

    if problem := connection_problem(credentials, instead=""):
        return problem
    api: Any = wandb.Api()
    entity = sought.entity or str(api.default_entity)
    project_path = f"{entity}/{sought.project}"
    runs = dict(_runs(api, project_path, sought))
    sweep = _sweep(api, entity, sought, [run.sweep_id for run in runs.values() if run.sweep_id])
    opened = None
    if sweep is not None:
        path = SweepPath(entity, sought.project, SweepId(sweep.id))
        opened = OpenedSweep(path, sweep.url, dict(sweep.config))
    return UploadedState(
        entity=entity,
        is_source=_try_sweep(api, str(sought.source)) is not None,
        sweep=opened,
        state="" if sweep is None else str(sweep.state),
        runs=runs,
    )


def _runs(api: Any, project_path: str, sought: UploadQuery) -> Iterator[tuple[str, RemoteRun]]:
    for begin in range(0, len(sought.runs), AT_ONCE):
        names = list(sought.runs[begin : begin + AT_ONCE])
        for run in _unless_missing(
            api.runs(project_path, filters={"name": {"$in": names}}, per_page=AT_ONCE, lazy=False)
        ):
            yield run.id, _run_there(run, asks_artifacts=run.id in sought.logging)


def _run_there(run: Any, *, asks_artifacts: bool) -> RemoteRun:
    return RemoteRun(
        state=run.state,
        lines=run.historyLineCount or 0,
        sweep_id=run.sweep_name,
        artifacts=tuple(map(_identity, run.logged_artifacts())) if asks_artifacts else (),
        # A silent run counts as crashed too, but has not sent its last file.
        is_closed=run.state in CLOSED
        or (run.state == "crashed" and any(file.name == LAST_FILE for file in run.files([LAST_FILE]))),
        logged_at=logged_at(run.summary_metrics),
    )


def logged_at(summary: Mapping[str, Any]) -> float | None:
    """Return the time of a run's last log call, in seconds since the epoch; None if unknown."""
    time = summary.get("_timestamp")
    return float(time) if isinstance(time, int | float) else None


def _identity(artifact: Any) -> tuple[str, str]:
    return artifact.source_name.partition(":")[0], artifact.digest


def _sweep(api: Any, entity: str, sought: UploadQuery, candidates: Sequence[str]) -> Any:
    """Return the uploaded sweep, found by its runs or else among all sweeps, or None."""
    for name in dict.fromkeys(candidates):
        sweep = _try_sweep(api, f"{entity}/{sought.project}/{name}")
        if sweep is not None and _is_marked(sweep, sought.mark):
            return sweep
    sweeps = _unless_missing(api.project(sought.project, entity).sweeps())
    return next((sweep for sweep in sweeps if _is_marked(sweep, sought.mark)), None)


def _unless_missing(listed: Any) -> Iterator[Any]:
    """Yield the listed items; nothing if the project does not exist yet."""
    try:
        yield from listed
    except ValueError as error:
        if "could not find project" not in str(error).lower():
            raise


def _try_sweep(api: Any, path: str) -> Any:
    import wandb

    try:
        return api.sweep(path)
    except (ValueError, wandb.errors.CommError) as error:
        if "could not find" not in str(error).lower():
            raise
    return None


def _is_marked(sweep: Any, mark: str) -> bool:
    return mark in str(dict(sweep.config or {}).get("description", "")).splitlines()


def create(order: SweepRequest) -> OpenedSweep:
    """Create the sweep at the destination, and its project if needed."""
    return open_sweep(order)


def send(folder: Path, copy: RunCopy, lines: RunLines, before: str) -> None:
    """Send a run, whose files are in the folder's `files`; RuntimeError says why it failed.

    `before` is the last line of its history at the destination; '' if there is none.
    """
    if before and not _is_last_there(copy, json.loads(before)):
        raise RuntimeError("the destination has an earlier attempt of it: it was run again since")
    write_run_file(folder, copy, lines)
    send_rest(str(folder))


def _is_last_there(copy: RunCopy, row: Mapping[str, Any]) -> bool:
    import wandb

    run = wandb.Api().run(f"{copy.path.entity}/{copy.path.project}/{copy.run_id}")
    rows = run.scan_history(min_step=row.get("_step", 0))
    return any(each.get("_timestamp") == row.get("_timestamp") for each in rows)


def note_uses(entity: str, project: str, uses: Sequence[ArtifactUse]) -> tuple[ArtifactUse, ...]:
    """Record which artifacts the runs used; return those that the destination lacks."""
    import wandb

    api: Any = wandb.Api()
    missing = []
    for run_id in dict.fromkeys(use.run_id for use in uses):
        run = api.run(f"{entity}/{project}/{run_id}")
        known = {artifact.digest for artifact in run.used_artifacts()}
        for use in (use for use in uses if use.run_id == run_id and use.digest not in known):
            artifact = _artifact(api, f"{entity}/{use.project}/{use.name}", use)
            if artifact is None:
                missing.append(use)
            else:
                run.use_artifact(artifact)
    return tuple(missing)


def _artifact(api: Any, name: str, use: ArtifactUse) -> Any:
    """Return the version with the same content, usually that with the same number."""
    import wandb

    try:
        same = api.artifact(f"{name}:v{use.version}")
        if same.digest == use.digest:
            return same
        return next((each for each in api.artifacts(use.type, name) if each.digest == use.digest), None)
    except (ValueError, wandb.errors.CommError):
        return None  # no artifact of that name


def set_state(path: SweepPath, verb: str) -> None:
    """Set the sweep's state as `wandb sweep --stop` or `--cancel` does; `verb` is such an option."""
    from wandb.cli import cli

    cli.sweep.main([f"--{verb}", str(path)], standalone_mode=False)
