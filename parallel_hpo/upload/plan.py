"""Reads a sweep from a server's database for an upload, and plans what to send in which order.

Runs are sent one after another, so that versions of artifacts keep their numbers: each version goes before
the next one of its collection. If another run's version lies between two of a run's, the run is sent more
than once, the last time with everything else.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from enum import Enum, auto
from pathlib import Path
from typing import Any, Final

import yaml

from parallel_hpo.client.uploading import ArtifactUse, RemoteRun, logged_at
from parallel_hpo.core.errors import BackendError, UsageError
from parallel_hpo.core.types import SweepId, SweepPath
from parallel_hpo.server import local
from parallel_hpo.server.context import AppContext
from parallel_hpo.server.rules.runs import RunState
from parallel_hpo.server.rules.sweeps import SweepState
from parallel_hpo.server.store import artifacts, runs, sweeps
from parallel_hpo.server.store.database import Transaction
from parallel_hpo.server.store.records import Run


@dataclass(frozen=True, slots=True)
class SourceDatabase:
    """A server's data: the path or URL of its database, and its folder of files."""

    database: str
    files: str | None = None

    def opened(self) -> AbstractContextManager[AppContext]:
        """Open it; UsageError if the file does not exist, BackendError if it can't be opened."""
        return local.opened_at(self.database, self.files)


@dataclass(frozen=True, slots=True)
class LocalRun:
    """A run of the sweep."""

    row: int
    """Its key in the database."""
    run_id: str
    state: RunState
    lines: int
    """Number of lines of its history."""
    exit_code: int | None
    program: str
    logged_at: float | None
    """Time of its last log call, by its own summary."""


@dataclass(frozen=True, slots=True)
class LocalArtifact:
    """A version that a run of the sweep logged; one for each run if several logged it."""

    row: int
    """Its key in the database."""
    run_id: str
    name: str
    """Name of its collection."""
    digest: str


@dataclass(frozen=True, slots=True)
class LocalSweep:
    """A sweep with its started runs in order of creation, and the artifacts they logged and used."""

    path: SweepPath
    state: SweepState
    display_name: str | None
    configuration: Mapping[str, Any]
    runs: tuple[LocalRun, ...]
    artifacts: tuple[LocalArtifact, ...]
    """In order of creation."""
    uses: tuple[ArtifactUse, ...]


def read_sweep(app: AppContext, sweep_id: str) -> LocalSweep | None:
    """Return the sweep of that id, or None."""
    with app.database.read() as transaction:
        sweep = sweeps.find(transaction, sweep_id)
        if sweep is None:
            return None
        own = [run for run in runs.of_sweep(transaction, sweep_id) if _has_begun(run)]
        logged = [each for run in own for each in _logged(transaction, run)]
        return LocalSweep(
            path=SweepPath(sweep.entity, sweep.project, SweepId(sweep.id)),
            state=sweep.state,
            display_name=sweep.display_name,
            configuration=_configuration(sweep.config),
            runs=tuple(_run(run) for run in own),
            artifacts=tuple(sorted(logged, key=lambda each: each.row)),
            uses=tuple(use for run in own for use in _uses(transaction, run)),
        )


def _configuration(text: str) -> Mapping[str, Any]:
    configuration = yaml.safe_load(text)
    if not isinstance(configuration, dict):
        raise BackendError("the sweep's configuration can't be read")
    return configuration


def _has_begun(run: Run) -> bool:
    """Return whether a run has started; one that was only issued may never start."""
    return run.state is not RunState.PENDING or run.started_at is not None


def _run(run: Run) -> LocalRun:
    return LocalRun(
        row=run.id,
        run_id=run.name,
        state=run.state,
        lines=run.history_lines,
        exit_code=run.exitcode,
        program=run.program or "",
        logged_at=logged_at(json_object(run.summary)),
    )


def _logged(transaction: Transaction, run: Run) -> Iterator[LocalArtifact]:
    for artifact in artifacts.outputs_of_run(transaction, run.id):
        yield LocalArtifact(artifact.id, run.name, artifact.collection.name, artifact.digest)


def _uses(transaction: Transaction, run: Run) -> Iterator[ArtifactUse]:
    for artifact in artifacts.used_by_run(transaction, run.id):
        if artifact.version is not None:
            of = artifact.collection
            yield ArtifactUse(run.name, of.project, of.name, of.type, artifact.version, artifact.digest)


def json_object(text: str | None) -> dict[str, Any]:
    """Return a client's JSON object; NaN and Infinity are accepted."""
    read = json.loads(text or "{}")
    return read if isinstance(read, dict) else {}


def database_at(database: str, files: str | None) -> SourceDatabase:
    """Return another server's data, with absolute paths, since children have another working directory."""
    return SourceDatabase(
        database if "://" in database else str(Path(database).absolute()),
        None if files is None else str(Path(files).absolute()),
    )


def database_in(directory: Path) -> SourceDatabase:
    """Return the data of a directory's embedded server."""
    return SourceDatabase(str(directory / local.DATABASE))


_NAME: Final = "upload"


@contextmanager
def upload_folder(directory: Path, sweep_id: str) -> Iterator[Path]:
    """Provide an upload's folder, emptied of an earlier one's files, and remove it at the end.

    UsageError if another upload of the sweep runs, or the folder can't be written.
    """
    folder = directory / sweep_id / _NAME
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        raise UsageError(f"{folder} can't be used: {error.strerror}; name another --directory") from None
    try:
        _lock(handle, sweep_id)
        _empty(folder)
        try:
            yield folder
        finally:
            _leave(folder)
    finally:
        os.close(handle)


def _lock(handle: int, sweep_id: str) -> None:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        raise UsageError(f"another upload of {sweep_id} is running: wait for its end") from None


def _empty(folder: Path) -> None:
    for path in folder.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()


def _leave(folder: Path) -> None:
    _empty(folder)
    folder.rmdir()
    with suppress(OSError):  # the sweep's own folder, if it is empty
        folder.parent.rmdir()


INTERRUPTED: Final = 255
"""wandb client: the exit code of a run that Ctrl-C ended; W&B calls it killed."""
ENDED: Final = frozenset({RunState.FINISHED, RunState.FAILED, RunState.CRASHED, RunState.KILLED})
VERBS: Final[Mapping[SweepState, str]] = {SweepState.FINISHED: "stop", SweepState.CANCELED: "cancel"}
"""Options of `wandb sweep` that set these states."""
OVER: Final = frozenset(VERBS)
_SAME_S: Final = 0.001
"""Tolerance of equal times in seconds: servers may keep fewer digits than clients send."""
MARK: Final = "uploaded by parallel_hpo from sweep"


class UploadAction(Enum):
    """What an upload does with a run."""

    SEND = auto()
    GO_ON = auto()
    """The destination has a part of it."""
    THERE = auto()
    OPEN = auto()
    """It has not ended."""
    ELSEWHERE = auto()
    """The destination's project has another run of that id, not of this sweep."""
    CHANGED = auto()
    """The destination has an earlier attempt: the run was run again since."""


@dataclass(frozen=True, slots=True)
class RunUpload:
    """A run to send with some of its artifacts; `whole`: with everything else too."""

    run: LocalRun
    artifacts: tuple[int, ...]
    """Their keys in the database."""
    first_line: int
    """First line of its history to send; the destination has those before it."""
    whole: bool


def mark_of(source: SweepPath) -> str:
    """Return the line that identifies an uploaded sweep in its description."""
    return f"{MARK} {source}"


def configuration_of(sweep: LocalSweep) -> dict[str, object]:
    """Return the sweep's configuration for the destination, with the mark in its description."""
    description = str(sweep.configuration.get("description") or "")
    named = {"name": sweep.display_name} if sweep.display_name else {}
    marked = {"description": f"{description}\n{mark_of(sweep.path)}".strip()}
    return {**sweep.configuration, **named, **marked}


def exit_code_of(run: LocalRun) -> int | None:
    """Return the exit code that gives a run its state at the destination; None: unknown."""
    match run.state:
        case RunState.FINISHED:
            return 0
        case RunState.KILLED:
            return INTERRUPTED
        case RunState.FAILED:
            return run.exit_code or 1
        case _:
            return None


def action_for(
    run: LocalRun, logged: Sequence[LocalArtifact], there: RemoteRun | None, sweep_id: str | None
) -> UploadAction:
    """Return what to do with a run, given the artifacts it `logged` and its sweep's id at the destination."""
    if run.state not in ENDED:
        return UploadAction.OPEN
    if there is None:
        return UploadAction.SEND
    if sweep_id is None or there.sweep_id != sweep_id:
        return UploadAction.ELSEWHERE
    if there.lines > run.lines or (there.lines == run.lines and _is_of_another_attempt(run, there)):
        return UploadAction.CHANGED
    ended_so = there.is_closed and (there.state != RunState.CRASHED or run.state is RunState.CRASHED)
    is_whole = there.lines == run.lines and ended_so and not missing(logged, there)
    return UploadAction.THERE if is_whole else UploadAction.GO_ON


def _is_of_another_attempt(run: LocalRun, there: RemoteRun) -> bool:
    if run.logged_at is None or there.logged_at is None:
        return False
    return abs(run.logged_at - there.logged_at) > _SAME_S


def missing(logged: Iterable[LocalArtifact], there: RemoteRun | None) -> list[LocalArtifact]:
    """Return the run's artifacts that the destination lacks; several versions may have one content."""
    known = Counter(() if there is None else there.artifacts)
    left = []
    for artifact in logged:
        if known[artifact.name, artifact.digest]:
            known[artifact.name, artifact.digest] -= 1
        else:
            left.append(artifact)
    return left


def sends(
    runs: Sequence[LocalRun], artifacts: Sequence[LocalArtifact], there: Mapping[str, RemoteRun]
) -> Iterator[RunUpload]:
    """Yield what to send of these runs; `artifacts` are in order of creation."""
    waiting = {run.run_id: run for run in runs}
    due = _due(waiting, artifacts, there)
    to_come = Counter(artifact.run_id for artifact in due)
    held: dict[str, list[LocalArtifact]] = {}
    holders: dict[str, str] = {}

    def send(run_id: str) -> RunUpload:
        those = held.pop(run_id, [])
        for artifact in those:
            holders.pop(artifact.name, None)
        whole = not to_come[run_id]
        run = waiting.pop(run_id) if whole else waiting[run_id]
        first = there[run_id].lines if run_id in there else 0
        return RunUpload(run, tuple(artifact.row for artifact in those), first, whole)

    for artifact in due:
        holder = holders.get(artifact.name, artifact.run_id)
        if holder != artifact.run_id:
            yield send(holder)
        held.setdefault(artifact.run_id, []).append(artifact)
        holders[artifact.name] = artifact.run_id
        to_come[artifact.run_id] -= 1
    for run_id in list(waiting):
        yield send(run_id)


def _due(
    runs: Collection[str], artifacts: Iterable[LocalArtifact], there: Mapping[str, RemoteRun]
) -> list[LocalArtifact]:
    """Return the artifacts to send with these runs, in order of creation."""
    logged: dict[str, list[LocalArtifact]] = {run_id: [] for run_id in runs}
    for artifact in artifacts:
        if artifact.run_id in logged:
            logged[artifact.run_id].append(artifact)
    left = (each for run_id, own in logged.items() for each in missing(own, there.get(run_id)))
    return sorted(left, key=lambda each: each.row)
