"""What is to be done for each run, and in which order runs are sent. Pure.

Runs are sent one after another, so that the versions of artifacts get the numbers that they have here:
a version goes before the next one of its collection. A run that logged versions between which another run's
came is sent more than once, the last time with all else.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from typing import Final

from parallel_hpo.backend.uploading import RunThere
from parallel_hpo.server.rules.run_states import RunState
from parallel_hpo.server.rules.sweep_states import SweepState
from parallel_hpo.upload.source import ArtifactHere, RunHere, SweepHere
from parallel_hpo.words import SweepPath

INTERRUPTED: Final = 255
"""wandb client: the exit code of a run that Ctrl-C ended; W&B calls it killed."""
ENDED: Final = frozenset({RunState.FINISHED, RunState.FAILED, RunState.CRASHED, RunState.KILLED})
VERBS: Final[Mapping[SweepState, str]] = {SweepState.FINISHED: "stop", SweepState.CANCELED: "cancel"}
"""By which a sweep's end is told."""
OVER: Final = frozenset(VERBS)
MARK: Final = "uploaded by parallel_hpo from sweep"


class Due(Enum):
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
    """More of it is there than here: it was run again since."""


@dataclass(frozen=True, slots=True)
class Sending:
    """A run to be sent with some of its artifacts; `whole`: with all else too."""

    run: RunHere
    artifacts: tuple[int, ...]
    """Their keys here."""
    first_line: int
    """Of its history, those before it are there."""
    whole: bool


def mark_of(source: SweepPath) -> str:
    """Return the line of its description by which an uploaded sweep is found again."""
    return f"{MARK} {source}"


def configuration_of(sweep: SweepHere) -> dict[str, object]:
    """Return the sweep's configuration as it is to be there, with the mark in its description."""
    told = str(sweep.configuration.get("description") or "")
    named = {"name": sweep.display_name} if sweep.display_name else {}
    marked = {"description": f"{told}\n{mark_of(sweep.path)}".strip()}
    return {**sweep.configuration, **named, **marked}


def exit_code_of(run: RunHere) -> int | None:
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


def judge(run: RunHere, there: RunThere | None, sweep_id: str | None, logged: int) -> Due:
    """Say what is to be done; `logged`: how many artifacts it has logged here."""
    if run.state not in ENDED:
        return Due.OPEN
    if there is None:
        return Due.SEND
    if sweep_id is None or there.sweep_id != sweep_id:
        return Due.ELSEWHERE
    if there.lines > run.lines:
        return Due.CHANGED
    ended_so = there.is_closed and (there.state != RunState.CRASHED or run.state is RunState.CRASHED)
    is_whole = there.lines == run.lines and there.artifacts >= logged and ended_so
    return Due.THERE if is_whole else Due.GO_ON


def sends(
    runs: Sequence[RunHere], artifacts: Sequence[ArtifactHere], there: Mapping[str, RunThere]
) -> Iterator[Sending]:
    """Yield what is to be sent of these runs; `artifacts` in the order in which they were made."""
    by_id = {run.run_id: run for run in runs}
    open_runs = dict.fromkeys(by_id)
    left = [artifact for artifact in artifacts if artifact.run_id in by_id]
    held: dict[str, list[ArtifactHere]] = {}

    def send(run_id: str) -> Sending:
        own = tuple(artifact.row for artifact in held.pop(run_id, ()))
        whole = all(artifact.run_id != run_id for artifact in left)
        if whole:
            del open_runs[run_id]
        first = there[run_id].lines if run_id in there else 0
        return Sending(by_id[run_id], own, first, whole)

    while left:
        artifact = left.pop(0)
        before = [
            run_id
            for run_id, those in held.items()
            if run_id != artifact.run_id and any(each.collection == artifact.collection for each in those)
        ]
        yield from map(send, before)
        held.setdefault(artifact.run_id, []).append(artifact)
    for run_id in list(open_runs):
        yield send(run_id)
