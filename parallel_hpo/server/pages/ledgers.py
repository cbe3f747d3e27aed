"""What ledgers beside a server's database say of a sweep: those of supervisors of this machine."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from parallel_hpo import letters
from parallel_hpo.chronicle import Performed, performed, tallies
from parallel_hpo.consumption import in_words, total
from parallel_hpo.errors import LedgerError
from parallel_hpo.letters import is_supervised
from parallel_hpo.server.refusals import RefusedError
from parallel_hpo.server.services.supervision import SweepAt
from parallel_hpo.server.world import World
from parallel_hpo.words import Slot

_KEPT: Final = 64


def ledgers_of(world: World, at: SweepAt) -> list[Performed]:
    """Return what this machine's supervisors wrote of a sweep; what can't be read is as good as none."""
    if world.sweeps_in is None or not at.sweep.isalnum():
        return []
    try:
        found = performed(world.sweeps_in / at.sweep)
    except LedgerError:
        return []
    return [share for share in found if share.path == f"{at.entity}/{at.project}/{at.sweep}"]


@dataclass(frozen=True, slots=True)
class SweepCount:
    """What supervisors of this machine say of a sweep as a whole."""

    is_known: bool = False
    count: int | None = None
    """Runs asked for, over all its shares; None: no limit, or not known."""
    attempts: Mapping[str, int] = field(default_factory=dict)
    """Of the runs that have more than one."""
    workers: Sequence[Slot] = ()
    """Slots of the supervisor that runs it here now; none where several do: each has its own."""
    supervised: Path | None = None
    """Where that one works."""
    used: str = ""
    """What its runs have used of devices and energy, in words."""


class Ledgers:
    """Asks ledgers what they say of sweeps, and keeps it for `fresh_s` seconds; any thread may ask."""

    def __init__(self, *, fresh_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._fresh_s = fresh_s
        self._clock = clock
        self._told: OrderedDict[SweepAt, tuple[float, SweepCount]] = OrderedDict()

    def asked_of(self, world: World, at: SweepAt) -> SweepCount:
        """Return what a sweep's ledgers say of it as a whole."""
        told, now = self._told.get(at), self._clock()
        if told is None or now - told[0] >= self._fresh_s:
            told = self._told[at] = now, _asked_of(world, at)
            while len(self._told) > _KEPT:
                self._told.popitem(last=False)
        return told[1]


def _asked_of(world: World, at: SweepAt) -> SweepCount:
    if world.sweeps_in is None or not at.sweep.isalnum():
        return SweepCount()
    try:
        found = tallies(world.sweeps_in / at.sweep)
    except LedgerError:
        return SweepCount()
    own = [tally for tally in found if tally.path == f"{at.entity}/{at.project}/{at.sweep}"]
    counts = [tally.count for tally in own]
    on = [(tally, home) for tally in own if is_supervised(home := world.sweeps_in / at.sweep / tally.share)]
    return SweepCount(
        is_known=bool(own),
        count=None if None in counts else sum(each or 0 for each in counts),
        attempts={name: many for tally in own for name, many in tally.attempts.items()},
        workers=on[0][0].slots if len(on) == 1 else (),
        supervised=on[0][1] if len(on) == 1 else None,
        used=in_words(total(tally.consumption for tally in own)),
    )


def drain(world: World, at: SweepAt, worker: int) -> None:
    """Have a worker of this machine finish its run and leave for good; RefusedError where that can't be."""
    asked = _asked_of(world, at)
    if worker not in asked.workers or asked.supervised is None:
        slots = ", ".join(map(str, asked.workers)) or "none that can be told from here"
        raise RefusedError(f"sweep {at.sweep} has no worker {worker} to drain; it has {slots}", status=409)
    if not letters.send(asked.supervised, letters.drain(Slot(worker))):
        raise RefusedError(f"sweep {at.sweep} is not running any more", status=409)


def attempts_of(world: World, at: SweepAt, run_id: str) -> list[dict[str, Any]]:
    """Return a run's attempts with their reasons, as its page shows them; [] where no ledger has it."""
    return [
        {
            "attempt": attempt.attempt,
            "worker": share.name_of(attempt.slot),
            "device": share.devices.get(attempt.run_id),
            "started": attempt.started_at,
            "ended": attempt.ended_at,
            "outcome": attempt.outcome or "running",
            "reason": attempt.reason,
            "used": in_words(attempt.consumption),
        }
        for share in ledgers_of(world, at)
        for attempt in share.attempts
        if attempt.run_id == run_id
    ]
