"""An upload, from its first look at the other server to its last.

    look ─▶ make the sweep, unless an earlier upload has ─▶ send runs ─▶ note what they used
         ─▶ tell of those that crashed ─▶ look again ─▶ set the sweep's state

What is there already is seen there: nothing is written down here, and an upload that was cut short is gone on
with by the next one.
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
    configuration_of,
    judge,
    mark_of,
    sends,
)
from parallel_hpo.upload.sending import UploadTask, batches

AT_ONCE: Final = 10
"""So many runs are sent by one client: its start takes longer than a small run."""
PAUSES_S: Final = (2.0, 5.0, 15.0)
"""W&B's server takes what it is sent into its lists within seconds."""
_WHY_NOT: Final[Mapping[UploadAction, str]] = {
    UploadAction.ELSEWHERE: "the project has another run of that id: name another --project",
    UploadAction.CHANGED: "the destination has an earlier attempt of it: it was run again since",
    UploadAction.GO_ON: "it is there in part only: upload again",
    UploadAction.SEND: "it is not there: upload again",
}
Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Destination:
    """Where an upload goes; None: where the client goes by itself, and the project's own name."""

    entity: str | None
    project: str | None


@dataclass(frozen=True, slots=True)
class Uploaded:
    """What came of an upload, or would come of it."""

    target: OpenedSweep | None
    """The sweep there; None: there is none yet."""
    place: str
    """Its project there, with the entity."""
    state: str
    sent: tuple[str, ...] = ()
    """Runs that this upload sent, or would send."""
    there: tuple[str, ...] = ()
    """Runs that were there."""
    open: tuple[str, ...] = ()
    """Runs that are not over here."""
    failed: Mapping[str, str] = field(default_factory=dict)
    """Runs that are not there, or not whole, and why."""
    unlinked: tuple[ArtifactUse, ...] = ()
    """Uses of artifacts that are not there."""


class Upload:
    """One upload of a sweep."""

    def __init__(
        self,
        client: Client,
        source: SourceDatabase,
        sweep: LocalSweep,
        destination: Destination,
        *,
        door: RemoteBackend | None,
        say: Say,
        wait: Callable[[float], None] = time.sleep,
    ) -> None:
        """`door`: of the server that it goes to, where that is one of ours; `say` takes a line on a run.

        `wait` lets so many seconds pass.
        """
        self._client = client
        self._source = source
        self._sweep = sweep
        self._destination = destination
        self._door = door
        self._say = say
        self._wait = wait
        self._project = destination.project or sweep.path.project
        self._logged: dict[str, list[LocalArtifact]] = {run.run_id: [] for run in sweep.runs}
        for artifact in sweep.artifacts:
            self._logged[artifact.run_id].append(artifact)

    def plan(self) -> Uploaded:
        """Look, and say what would be done; nothing is changed."""
        return self._planned(self._look())

    def perform(self, folder: Path) -> Uploaded:
        """Bring what is not there yet; `folder` is the client's."""
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
        place = f"{target.path.entity}/{target.path.project}"
        return Uploaded(target, place, state, sent, planned.there, planned.open, failed, unlinked)

    def _look(self) -> UploadedState:
        logging = [run_id for run_id, logged in self._logged.items() if logged]
        runs = tuple(run.run_id for run in self._sweep.runs)
        mark = mark_of(self._sweep.path)
        sought = UploadQuery(self._destination.entity, self._project, self._sweep.path, mark, runs, logging)
        found = self._client.look(sought)
        if found.is_source:
            raise UsageError(
                f"{self._client.credentials.base_url} is the server that {self._sweep.path} is on: let"
                " WANDB_BASE_URL and WANDB_API_KEY name the one that it is to be brought to"
            )
        return found

    def _judge(self, run: LocalRun, found: UploadedState) -> UploadAction:
        sweep_id = None if found.sweep is None else found.sweep.path.sweep_id
        return judge(run, self._logged[run.run_id], found.runs.get(run.run_id), sweep_id)

    def _planned(self, found: UploadedState) -> Uploaded:
        verdicts = {run.run_id: self._judge(run, found) for run in self._sweep.runs}

        def those(*wanted: UploadAction) -> tuple[str, ...]:
            return tuple(run for run, verdict in verdicts.items() if verdict in wanted)

        return Uploaded(
            target=found.sweep,
            place=f"{found.entity}/{self._project}",
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
        self._say(f"sweep {opened.path} made")
        return opened

    def _send_all(
        self, target: OpenedSweep, found: UploadedState, planned: Uploaded, folder: Path
    ) -> Mapping[str, str]:
        """Send runs; return why some could not be sent."""
        runs = [run for run in self._sweep.runs if run.run_id in planned.sent]
        errors: dict[str, str] = {}
        done = 0
        for batch in batches(sends(runs, self._sweep.artifacts, found.runs), AT_ONCE):
            errand = UploadTask(self._source, target.path, tuple(batch), folder)
            for send, error in zip(batch, self._client.send(errand), strict=True):
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
        """Have runs that are there use what they used here; return what is not there to be used."""
        uses = [use for use in self._sweep.uses if use.run_id in known]
        if not uses:
            return ()
        project = self._project
        own = self._sweep.path.project
        moved = [replace(use, project=project) if use.project == own else use for use in uses]
        return tuple(self._client.note_uses(target.path, moved))

    def _tell_crashes(self, target: OpenedSweep, found: UploadedState, known: Collection[str]) -> None:
        """Tell a server of ours which runs never told their end; to W&B's they have failed.

        wandb client: `wandb sync` ends such a run with exit code 1.
        """
        if self._door is None:
            return
        told = {
            run_id for run_id, run in found.runs.items() if run.state == RunState.CRASHED and run.is_closed
        }
        for run in self._sweep.runs:
            if run.state is RunState.CRASHED and run.run_id in known and run.run_id not in told:
                self._door.end_run(target.path, RunId(run.run_id), RunState.CRASHED)

    def _look_at_last(self, planned: Uploaded, errors: Collection[str]) -> UploadedState:
        """Look again, more than once where a server has not counted yet all that it was sent."""
        found = self._look()
        for pause_s in PAUSES_S:
            if not self._missing(found, planned).keys() - errors:
                break
            self._wait(pause_s)
            found = self._look()
        return found

    def _missing(self, after: UploadedState, planned: Uploaded) -> Mapping[str, str]:
        """Return the runs that were to be there now, and are not."""
        verdicts = {run.run_id: self._judge(run, after) for run in self._sweep.runs}
        wanted = ((run, verdicts[run]) for run in planned.sent)
        return {run: _WHY_NOT[verdict] for run, verdict in wanted if verdict is not UploadAction.THERE}

    def _end(self, target: OpenedSweep, state: str) -> str:
        """Have the sweep end there as it ended here; return its state."""
        verb = VERBS.get(self._sweep.state)
        if verb is None or state in OVER:
            return state
        self._client.set_state(target.path, verb)
        return self._sweep.state
