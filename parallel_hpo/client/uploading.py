"""What an upload asks of the server that it goes to, through the wandb client: calls, each in a child.

Only functions in here import wandb.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from parallel_hpo.client.base import OpenedSweep, SweepRequest
from parallel_hpo.client.calls import open_sweep, send_rest, why_out_of_reach
from parallel_hpo.client.credentials import Credentials
from parallel_hpo.client.run_file import RunCopy, RunLines, write_run_file
from parallel_hpo.core.types import SweepId, SweepPath

AT_ONCE: Final = 200
"""So many runs are asked for by their names in one request."""
CLOSED: Final = ("finished", "failed", "killed")
LAST_FILE: Final = "wandb-summary.json"
"""wandb client: sent at a run's end, also by `wandb sync`."""


@dataclass(frozen=True, slots=True)
class UploadQuery:
    """What is looked for at the server that an upload goes to."""

    entity: str | None
    """None: the one that the client goes to by itself."""
    project: str
    source: SweepPath
    mark: str
    """The line of its description by which the uploaded sweep is known."""
    runs: tuple[str, ...]
    logging: Collection[str]
    """The runs of which it is asked which artifacts they have logged."""


@dataclass(frozen=True, slots=True)
class RemoteRun:
    """A run as the other server has it."""

    state: str
    lines: int
    """Of its history."""
    sweep_id: str | None
    artifacts: tuple[tuple[str, str], ...]
    """Name and digest of each that it has logged, where that was asked for."""
    is_closed: bool
    """It has told its end, whatever became of it since."""
    told_at: float | None
    """When it logged last, by its own summary."""


@dataclass(frozen=True, slots=True)
class UploadedState:
    """What is at the other server already."""

    entity: str
    is_source: bool
    """It is the very server that the sweep is on."""
    sweep: OpenedSweep | None
    state: str
    """The sweep's."""
    runs: Mapping[str, RemoteRun]


@dataclass(frozen=True, slots=True)
class ArtifactUse:
    """A version of an artifact that a run used, by its name and its number here."""

    run_id: str
    project: str
    name: str
    type: str
    version: int
    digest: str


def look(credentials: Credentials, sought: UploadQuery) -> UploadedState | str:
    """Return what an upload finds there, or why the server is of no use, with its address and its answer."""
    import wandb

    if why := why_out_of_reach(credentials, instead=""):
        return why
    api: Any = wandb.Api()
    entity = sought.entity or str(api.default_entity)
    place = f"{entity}/{sought.project}"
    runs = dict(_runs(api, place, sought))
    sweep = _sweep(api, entity, sought, [run.sweep_id for run in runs.values() if run.sweep_id])
    return UploadedState(
        entity=entity,
        is_source=_try_sweep(api, str(sought.source)) is not None,
        sweep=None if sweep is None else _opened(entity, sought.project, sweep),
        state="" if sweep is None else str(sweep.state),
        runs=runs,
    )


def _runs(api: Any, place: str, sought: UploadQuery) -> Iterator[tuple[str, RemoteRun]]:
    for begin in range(0, len(sought.runs), AT_ONCE):
        names = list(sought.runs[begin : begin + AT_ONCE])
        for run in _unless_missing(
            api.runs(place, filters={"name": {"$in": names}}, per_page=AT_ONCE, lazy=False)
        ):
            yield run.id, _run_there(run, asks_artifacts=run.id in sought.logging)


def _run_there(run: Any, *, asks_artifacts: bool) -> RemoteRun:
    return RemoteRun(
        state=run.state,
        lines=run.historyLineCount or 0,
        sweep_id=run.sweep_name,
        artifacts=tuple(map(_identity, run.logged_artifacts())) if asks_artifacts else (),
        # A silent run is called crashed too, which has not sent its last file.
        is_closed=run.state in CLOSED
        or (run.state == "crashed" and any(file.name == LAST_FILE for file in run.files([LAST_FILE]))),
        told_at=told_at(run.summary_metrics),
    )


def told_at(summary: Mapping[str, Any]) -> float | None:
    """Return when a run logged last, in seconds since the epoch; None: its summary doesn't say."""
    time = summary.get("_timestamp")
    return float(time) if isinstance(time, int | float) else None


def _identity(artifact: Any) -> tuple[str, str]:
    return artifact.source_name.partition(":")[0], artifact.digest


def _sweep(api: Any, entity: str, sought: UploadQuery, candidates: Sequence[str]) -> Any:
    """Return the sweep that an upload has made, found by its runs or else among all; None: there is none."""
    for name in dict.fromkeys(candidates):
        sweep = _try_sweep(api, f"{entity}/{sought.project}/{name}")
        if sweep is not None and _is_marked(sweep, sought.mark):
            return sweep
    marked = (sweep for sweep in _sweeps(api, entity, sought.project) if _is_marked(sweep, sought.mark))
    return next(marked, None)


def _sweeps(api: Any, entity: str, project: str) -> Iterator[Any]:
    return _unless_missing(api.project(project, entity).sweeps())


def _unless_missing(listed: Any) -> Iterator[Any]:
    """Yield what is listed; nothing where the project isn't there yet."""
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


def _opened(entity: str, project: str, sweep: Any) -> OpenedSweep:
    return OpenedSweep(SweepPath(entity, project, SweepId(sweep.id)), sweep.url, dict(sweep.config))


def create(order: SweepRequest) -> OpenedSweep:
    """Create the sweep there, and its project where there is none."""
    return open_sweep(order)


def send(folder: Path, copy: RunCopy, lines: RunLines, before: str) -> None:
    """Send a run, whose files are in the folder's `files`; RuntimeError says why it can't be.

    `before` is the line of its history that is the last one there; '' where there is none yet.
    """
    if before and not _is_last_there(copy, json.loads(before)):
        raise RuntimeError("what is there of it is of an earlier attempt: it was run again since")
    write_run_file(folder, copy, lines)
    send_rest(str(folder))


def _is_last_there(copy: RunCopy, row: Mapping[str, Any]) -> bool:
    import wandb

    run = wandb.Api().run(f"{copy.path.entity}/{copy.path.project}/{copy.run_id}")
    rows = run.scan_history(min_step=row.get("_step", 0))
    return any(each.get("_timestamp") == row.get("_timestamp") for each in rows)


def note_uses(entity: str, project: str, uses: Sequence[ArtifactUse]) -> tuple[ArtifactUse, ...]:
    """Have runs use what they used here; return what is not there to be used."""
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
    """Return the version with the same content: mostly the one with the same number."""
    import wandb

    try:
        same = api.artifact(f"{name}:v{use.version}")
        if same.digest == use.digest:
            return same
        return next((each for each in api.artifacts(use.type, name) if each.digest == use.digest), None)
    except (ValueError, wandb.errors.CommError):
        return None  # there is none of that name


def set_state(path: SweepPath, verb: str) -> None:
    """Set the sweep's state as `wandb sweep --stop` and `--cancel` do; `verb` is such a word."""
    from wandb.cli import cli

    cli.sweep.main([f"--{verb}", str(path)], standalone_mode=False)
