"""Sends runs in a child process with the wandb client.

database, files ─▶ a run's folder as the client writes it ─▶ `wandb sync`
"""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import chain
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from parallel_hpo.client import uploading
from parallel_hpo.client.run_file import ArtifactCopy, ConsoleLine, RunCopy, RunLines
from parallel_hpo.core.types import SweepPath
from parallel_hpo.server.artifacts.contents import blob_of, manifest_of
from parallel_hpo.server.context import AppContext
from parallel_hpo.server.files.storage import FileRef
from parallel_hpo.server.store import artifact_collections, artifacts, files, lines, runs
from parallel_hpo.server.store.artifacts import Artifact
from parallel_hpo.server.store.database import Transaction
from parallel_hpo.server.store.lines import Stream
from parallel_hpo.server.store.records import Run
from parallel_hpo.server.values import read_line
from parallel_hpo.upload.plan import RunUpload, SourceDatabase, exit_code_of, json_object


@dataclass(frozen=True, slots=True)
class UploadTask:
    """Runs to send to a sweep, one after another."""

    source: SourceDatabase
    target: SweepPath
    sends: Sequence[RunUpload]
    folder: Path
    """Folder for copies of runs while they are sent."""


def send_runs(task: UploadTask) -> tuple[str, ...]:
    """Send the runs; return for each its error, or ''."""
    with task.source.opened() as app:
        return tuple(_send(app, task, send) for send in task.sends)


def _send(app: AppContext, task: UploadTask, send: RunUpload) -> str:
    with TemporaryDirectory(dir=task.folder) as temporary, app.database.read() as transaction:
        run = runs.find(transaction, send.run.row)
        if run is None:
            return "it was deleted here meanwhile"
        before = _line_before(transaction, run, send)
        folder = Path(temporary) / f"offline-run-19700101_000000-{run.name}"
        (folder / "files").mkdir(parents=True)
        names = _copy_files(app, transaction, run, folder / "files") if send.whole else ()
        try:
            copy = _copy(app, transaction, run, task.target, send, names)
            uploading.send(folder, copy, _lines(transaction, run, send), before)
        except RuntimeError as error:
            return str(error)
        except FileNotFoundError as error:
            return f"the server's files are missing ({error.filename}): copy them here, or give --files"
    return ""


def _copy_files(app: AppContext, transaction: Transaction, run: Run, folder: Path) -> tuple[str, ...]:
    """Copy a run's files into its client's folder; copies, since the client writes into some of them."""
    names = []
    for file in files.of_run(transaction, run.id):
        stored, own = FileRef(str(run.id), file.name).path_in(app.files), folder / file.name
        if stored.is_file():
            own.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(stored, own)
            names.append(file.name)
    return tuple(names)


def _copy(
    app: AppContext,
    transaction: Transaction,
    run: Run,
    target: SweepPath,
    send: RunUpload,
    names: tuple[str, ...],
) -> RunCopy:
    logged = [artifacts.find(transaction, key) for key in send.artifacts]
    return RunCopy(
        path=target,
        run_id=run.name,
        display_name=run.display_name or run.name,
        notes=run.notes or "",
        group=run.group_name or "",
        job_type=run.job_type or "",
        host=run.host or "",
        repo=run.repo or "",
        commit=run.commit_hash or "",
        tags=tuple(json.loads(run.tags)),
        config={key: entry.get("value") for key, entry in json_object(run.config).items()},
        summary=json_object(run.summary) if send.whole else {},
        began_at=_began_at(transaction, run),
        exit_code=exit_code_of(send.run),
        files=names,
        artifacts=tuple(_artifact(app, transaction, each) for each in logged if each is not None),
    )


def _began_at(transaction: Transaction, run: Run) -> float:
    """Return the time from which the run's client counts the runtime of events, or of history."""
    for stream in (Stream.EVENTS, Stream.HISTORY):
        for line in lines.part(transaction, run.id, stream, 0, 1):
            row = json.loads(line.text)
            began = beginning_in(row)
            if began is not None:
                return began
    return run.started_at or run.created_at


def beginning_in(row: Mapping[str, Any]) -> float | None:
    """Return the time from which a row's runtime counts; None if the run logged other values as its times."""
    match row:
        case {"_timestamp": int() | float() as now, "_runtime": int() | float() as runtime}:
            began = float(now - runtime)
            return began if math.isfinite(began) else None
    return None


def _lines(transaction: Transaction, run: Run, send: RunUpload) -> RunLines:
    if not send.whole:
        return RunLines((), (), ())
    return RunLines(
        _history(transaction, run.id, send.first_line),
        lines.texts(transaction, run.id, Stream.EVENTS),
        _console(lines.texts(transaction, run.id, Stream.CONSOLE)),
    )


def _history(transaction: Transaction, run_id: int, first: int) -> Iterator[str]:
    texts = lines.texts(transaction, run_id, Stream.HISTORY)
    return (text for number, text in enumerate(texts) if number >= first)


def _line_before(transaction: Transaction, run: Run, send: RunUpload) -> str:
    if not (send.whole and send.first_line):
        return ""
    texts = lines.texts(transaction, run.id, Stream.HISTORY)
    return next((text for number, text in enumerate(texts, 1) if number == send.first_line), "")


def _console(texts: Iterable[str]) -> Iterator[ConsoleLine]:
    for number, text in enumerate(texts):
        line = read_line(number, text)
        at = None if line.timestamp is None else datetime.fromisoformat(line.timestamp)
        yield ConsoleLine(line.line, at, to_stderr=line.level == "error")


def _artifact(app: AppContext, transaction: Transaction, artifact: Artifact) -> ArtifactCopy:
    manifest = json.loads(manifest_of(artifact.id).path_in(app.files).read_text(encoding="utf-8"))
    aliases = artifact_collections.aliases_with_collections(transaction, artifact.id)
    return ArtifactCopy(
        name=artifact.collection.name,
        type=artifact.collection.type,
        digest=artifact.digest,
        client_id=artifact.client_id or "",
        description=artifact.description or "",
        metadata=artifact.metadata or "",
        aliases=tuple(alias for alias, of in aliases if of.id == artifact.collection.id),
        tags=tuple(json.loads(artifact.tags)),
        ttl_s=artifact.ttl_s,
        manifest=manifest,
        files={
            path: blob_of(entry["digest"]).path_in(app.files)
            for path, entry in manifest["contents"].items()
            if not entry.get("ref")
        },
    )


def batches(sends: Iterable[RunUpload], most: int) -> Iterator[list[RunUpload]]:
    """Yield batches of up to `most` consecutive runs of the same program."""
    batch: list[RunUpload] = []
    for send in chain(sends, [None]):
        if batch and (send is None or len(batch) == most or send.run.program != batch[0].run.program):
            yield batch
            batch = []
        if send is not None:
            batch.append(send)
