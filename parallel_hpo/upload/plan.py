"""What is to be done for each run, and in which order runs are sent. Pure.

Runs are sent one after another, so that the versions of artifacts get the numbers that they have here:
a version goes before the next one of its collection. A run that logged versions between which another run's
came is sent more than once, the last time with all else.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from typing import Final

from parallel_hpo.client.uploading import RemoteRun
from parallel_hpo.core.types import SweepPath
from parallel_hpo.server.rules.runs import RunState
from parallel_hpo.server.rules.sweeps import SweepState
from parallel_hpo.upload.source import LocalArtifact, LocalRun, LocalSweep

INTERRUPTED: Final = 255
"""wandb client: the exit code of a run that Ctrl-C ended; W&B calls it killed."""
ENDED: Final = frozenset({RunState.FINISHED, RunState.FAILED, RunState.CRASHED, RunState.KILLED})
VERBS: Final[Mapping[SweepState, str]] = {SweepState.FINISHED: "stop", SweepState.CANCELED: "cancel"}
"""By which a sweep's end is told."""
OVER: Final = frozenset(VERBS)
_SAME_S: Final = 0.001
"""Servers may keep fewer digits of a time than clients send."""
MARK: Final = "uploaded by parallel_hpo from sweep"


class UploadAction(Enum):
    """What an upload does about a run."""

    SEND = auto()
    GO_ON = auto()
    """It is there in part."""
    THERE = auto()
    OPEN = auto()
    """It is not over here."""
    ELSEWHERE = auto()
    """The other project has a run of that id that is none of this sweep's."""
    CHANGED = auto()
    """What is there is not what is here: it was run again since."""


@dataclass(frozen=True, slots=True)
class RunUpload:
    """A run to be sent with some of its artifacts; `whole`: with all else too."""

    run: LocalRun
    artifacts: tuple[int, ...]
    """Their keys here."""
    first_line: int
    """Of its history, those before it are there."""
    whole: bool


def mark_of(source: SweepPath) -> str:
    """Return the line of its description by which an uploaded sweep is found again."""
    return f"{MARK} {source}"


def configuration_of(sweep: LocalSweep) -> dict[str, object]:
    """Return the sweep's configuration as it is to be there, with the mark in its description."""
    told = str(sweep.configuration.get("description") or "")
    named = {"name": sweep.display_name} if sweep.display_name else {}
    marked = {"description": f"{told}\n{mark_of(sweep.path)}".strip()}
    return {**sweep.configuration, **named, **marked}


def exit_code_of(run: LocalRun) -> int | None:
    """Return the exit code by which another server takes a run for what it is; None: it never told one."""
    match run.state:
        case RunState.FINISHED:
            return 0
        case RunState.KILLED:
            return INTERRUPTED
        case RunState.FAILED:
            return run.exit_code or 1
        case _:
            return None


def judge(
    run: LocalRun, logged: Sequence[LocalArtifact], there: RemoteRun | None, sweep_id: str | None
) -> UploadAction:
    """Say what is to be done about a run, which logged these artifacts here; its sweep there has this id."""
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
    if run.told_at is None or there.told_at is None:
        return False
    return abs(run.told_at - there.told_at) > _SAME_S


def missing(logged: Iterable[LocalArtifact], there: RemoteRun | None) -> list[LocalArtifact]:
    """Return those of a run's artifacts that are not there; one content may be more than one version."""
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
    """Yield what is to be sent of these runs; `artifacts` in the order in which they were made."""
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
    """Return those that are to be sent with these runs, in the order in which they were made."""
    logged: dict[str, list[LocalArtifact]] = {run_id: [] for run_id in runs}
    for artifact in artifacts:
        if artifact.run_id in logged:
            logged[artifact.run_id].append(artifact)
    left = (each for run_id, own in logged.items() for each in missing(own, there.get(run_id)))
    return sorted(left, key=lambda each: each.row)
