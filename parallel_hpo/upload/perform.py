"""One upload of a sweep.

    look ─▶ create the sweep, unless an earlier upload has ─▶ send runs ─▶ record used artifacts
         ─▶ mark crashed runs ─▶ look again ─▶ set the sweep's state

The progress is read from the destination only, so the next upload continues an interrupted one.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from parallel_hpo.client.base import OpenedSweep, SweepRequest
from parallel_hpo.client.own_servers import RemoteBackend
from parallel_hpo.client.uploading import ArtifactUse, UploadedState, UploadQuery
from parallel_hpo.core.errors import UsageError
from parallel_hpo.core.types import RunId
from parallel_hpo.server.rules.runs import RunState
from parallel_hpo.upload.client import Client
from parallel_hpo.upload.plan import (
    OVER,
    VERBS,
    LocalArtifact,
    LocalRun,
    LocalSweep,
    RunUpload,
    SourceDatabase,
    UploadAction,
    action_for,
    configuration_of,
    mark_of,
    sends,
)
from parallel_hpo.upload.sending import UploadTask, batches

AT_ONCE: Final = 10
"""Maximum number of runs sent by one client, whose start takes longer than a small run."""
PAUSES_S: Final = (2.0, 5.0, 15.0)
"""Waits in seconds until W&B's server lists the data that it was sent."""
_WHY_NOT: Final[Mapping[UploadAction, str]] = {
    UploadAction.ELSEWHERE: "the project has another run of that id: name another --project",
    UploadAction.CHANGED: "the destination has an earlier attempt of it: it was run again since",
    UploadAction.GO_ON: "the destination has only a part of it: upload again",
    UploadAction.SEND: "the destination does not have it: upload again",
}
Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Uploaded:
    """The result of an upload, or its plan."""

    target: OpenedSweep | None
    """The sweep at the destination; None: not created yet."""
    project_path: str
    """Its entity and project there."""
    state: str
    sent: tuple[str, ...] = ()
    """Runs that this upload sent, or would send."""
    there: tuple[str, ...] = ()
    """Runs that were at the destination before."""
    open: tuple[str, ...] = ()
    """Runs that have not ended."""
    failed: Mapping[str, str] = field(default_factory=dict)
    """Runs that the destination lacks, wholly or in part, and why."""
    unlinked: tuple[ArtifactUse, ...] = ()
    """Uses of artifacts that the destination lacks."""


class Upload:
    """One upload of a sweep."""

    def __init__(
        self,
        client: Client,
        source: SourceDatabase,
        sweep: LocalSweep,
        *,
        entity: str | None,
        project: str | None,
        server: RemoteBackend | None,
        say: Say,
        wait: Callable[[float], None] = time.sleep,
    ) -> None:
        """`server` is the destination if it is a parallel_hpo server; `say` prints a line; `wait` sleeps.

        None as `entity`: the client's default; as `project`: the name of the sweep's own.
        """
        self._client = client
        self._source = source
        self._sweep = sweep
        self._entity = entity
        self._server = server
        self._say = say
        self._wait = wait
        self._project = project or sweep.path.project
        self._logged: dict[str, list[LocalArtifact]] = {run.run_id: [] for run in sweep.runs}
        for artifact in sweep.artifacts:
            self._logged[artifact.run_id].append(artifact)

    def plan(self) -> Uploaded:
        """Return what an upload would do, without changes."""
        return self._planned(self._look())

    def perform(self, folder: Path) -> Uploaded:
        """Upload everything that the destination lacks; `folder` is for the client's files."""
        found = self._look()
        planned = self._planned(found)
        target = found.sweep or self._create(found)
        errors = self._send_all(target, found, planned, folder)
        known = {*planned.sent, *planned.there} - set(errors)
        unlinked = self._link(target, known)
        self._tell_crashes(target, found, known)
        after = self._look_at_last(planned, errors) if planned.sent else found
        failed = {**planned.failed, **self._missing(after, planned), **errors}
        state = after.state
        if not (failed or planned.open):
            state = self._end(target, after.state)
        sent = tuple(run for run in planned.sent if run not in failed)
        project_path = f"{target.path.entity}/{target.path.project}"
        return Uploaded(target, project_path, state, sent, planned.there, planned.open, failed, unlinked)

    def _look(self) -> UploadedState:
        logging = [run_id for run_id, logged in self._logged.items() if logged]
        runs = tuple(run.run_id for run in self._sweep.runs)
        mark = mark_of(self._sweep.path)
        sought = UploadQuery(self._entity, self._project, self._sweep.path, mark, runs, logging)
        found = self._client.look(sought)
        if found.is_source:
            raise UsageError(
                f"{self._client.credentials.base_url} is the server that {self._sweep.path} is on: set"
                " WANDB_BASE_URL and WANDB_API_KEY to the destination's"
            )
        return found

    def _judge(self, run: LocalRun, found: UploadedState) -> UploadAction:
        sweep_id = None if found.sweep is None else found.sweep.path.sweep_id
        return action_for(run, self._logged[run.run_id], found.runs.get(run.run_id), sweep_id)

    def _planned(self, found: UploadedState) -> Uploaded:
        verdicts = {run.run_id: self._judge(run, found) for run in self._sweep.runs}

        def those(*wanted: UploadAction) -> tuple[str, ...]:
            return tuple(run for run, verdict in verdicts.items() if verdict in wanted)

        return Uploaded(
            target=found.sweep,
            project_path=f"{found.entity}/{self._project}",
            state=found.state,
            sent=those(UploadAction.SEND, UploadAction.GO_ON),
            there=those(UploadAction.THERE),
            open=those(UploadAction.OPEN),
            failed={
                run: _WHY_NOT[verdicts[run]] for run in those(UploadAction.ELSEWHERE, UploadAction.CHANGED)
            },
        )

    def _create(self, found: UploadedState) -> OpenedSweep:
        order = SweepRequest(configuration_of(self._sweep), self._project, found.entity, None)
        opened = self._client.create(order)
        self._say(f"sweep {opened.path} created")
        return opened

    def _send_all(
        self, target: OpenedSweep, found: UploadedState, planned: Uploaded, folder: Path
    ) -> Mapping[str, str]:
        """Send runs; return the errors by run id."""
        runs = [run for run in self._sweep.runs if run.run_id in planned.sent]
        errors: dict[str, str] = {}
        done = 0
        for batch in batches(sends(runs, self._sweep.artifacts, found.runs), AT_ONCE):
            task = UploadTask(self._source, target.path, tuple(batch), folder)
            for send, error in zip(batch, self._client.send(task), strict=True):
                if error:
                    errors[send.run.run_id] = error
                done += send.whole
                if send.whole:
                    self._tell(send, errors.get(send.run.run_id, ""), f"{done}/{len(runs)}")
        return errors

    def _tell(self, send: RunUpload, error: str, progress: str) -> None:
        run = send.run
        what = f"not sent: {error}" if error else f"sent ({run.state}, {run.lines} steps)"
        self._say(f"{progress} run {run.run_id} {what}")

    def _link(self, target: OpenedSweep, known: Collection[str]) -> tuple[ArtifactUse, ...]:
        """Record which artifacts the uploaded runs used; return those that the destination lacks."""
        uses = [use for use in self._sweep.uses if use.run_id in known]
        if not uses:
            return ()
        project = self._project
        own = self._sweep.path.project
        moved = [replace(use, project=project) if use.project == own else use for use in uses]
        return tuple(self._client.note_uses(target.path, moved))

    def _tell_crashes(self, target: OpenedSweep, found: UploadedState, known: Collection[str]) -> None:
        """Set crashed runs to crashed on a parallel_hpo server; on W&B's they count as failed.

        wandb client: `wandb sync` ends such a run with exit code 1.
        """
        if self._server is None:
            return
        told = {
            run_id for run_id, run in found.runs.items() if run.state == RunState.CRASHED and run.is_closed
        }
        for run in self._sweep.runs:
            if run.state is RunState.CRASHED and run.run_id in known and run.run_id not in told:
                self._server.end_run(target.path, RunId(run.run_id), RunState.CRASHED)

    def _look_at_last(self, planned: Uploaded, errors: Collection[str]) -> UploadedState:
        """Look again, repeatedly if the server does not list everything yet."""
        found = self._look()
        for pause_s in PAUSES_S:
            if not self._missing(found, planned).keys() - errors:
                break
            self._wait(pause_s)
            found = self._look()
        return found

    def _missing(self, after: UploadedState, planned: Uploaded) -> Mapping[str, str]:
        """Return the runs that the destination still lacks, and why."""
        verdicts = {run.run_id: self._judge(run, after) for run in self._sweep.runs}
        wanted = ((run, verdicts[run]) for run in planned.sent)
        return {run: _WHY_NOT[verdict] for run, verdict in wanted if verdict is not UploadAction.THERE}

    def _end(self, target: OpenedSweep, state: str) -> str:
        """End the sweep at the destination as it ended here; return its state."""
        verb = VERBS.get(self._sweep.state)
        if verb is None or state in OVER:
            return state
        self._client.set_state(target.path, verb)
        return self._sweep.state
