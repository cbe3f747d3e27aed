"""What is known of each worker while a sweep runs: pure, advanced by notices as the tally is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

from parallel_hpo.notices import MemoryUsed, Notice, RunBegan, RunOver, RunProgressed, WorkerChanged
from parallel_hpo.protocol.messages import Progress
from parallel_hpo.words import RunId, Slot, SlotState

GONE: Final = (SlotState.STOPPED, SlotState.EXITED, SlotState.FATAL)
"""States of a slot in which it has no worker and gets none."""


@dataclass(frozen=True, slots=True)
class WorkerSeen:
    """One slot's worker; `began_s` is on the clock of `now`."""

    state: SlotState = SlotState.STARTING
    device: str = ""
    run_id: RunId | None = None
    """The run that is on; None: none is."""
    began_s: float = 0.0
    progress: Progress | None = None
    memory_mb: float | None = None


Workers = Mapping[Slot, WorkerSeen]


def advance_workers(workers: Workers, notice: Notice, now: float) -> Workers:
    """Return the workers after a notice that came at `now` (seconds)."""
    match notice:
        case WorkerChanged(slot=slot, state=state) if state in GONE:
            return {known: seen for known, seen in workers.items() if known != slot}
        case WorkerChanged(slot=slot, state=state):
            seen = workers.get(slot, WorkerSeen())
            memory_mb = seen.memory_mb if state is not SlotState.STARTING else None
            return _with(workers, slot, replace(seen, state=state, memory_mb=memory_mb))
        case RunBegan():
            seen = replace(workers.get(notice.slot, WorkerSeen()), progress=None, began_s=now)
            return _with(workers, notice.slot, replace(seen, device=notice.device, run_id=notice.run_id))
        case RunOver(slot=slot) if slot in workers:
            return _with(workers, slot, replace(workers[slot], run_id=None, progress=None))
        case MemoryUsed(slot=slot, used_mb=used_mb) if slot in workers:
            return _with(workers, slot, replace(workers[slot], memory_mb=used_mb))
        case RunProgressed(slot=slot, progress=progress) if _is_on(workers, slot, progress.run_id):
            return _with(workers, slot, replace(workers[slot], progress=progress))
        case _:
            return workers


def _is_on(workers: Workers, slot: Slot, run_id: RunId) -> bool:
    """Whether that run is on: a late word of an earlier one says nothing of the next."""
    return slot in workers and workers[slot].run_id == run_id


def _with(workers: Workers, slot: Slot, seen: WorkerSeen) -> Workers:
    return {**workers, slot: seen}
