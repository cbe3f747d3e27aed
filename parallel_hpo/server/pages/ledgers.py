"""What ledgers beside a server's database say of a sweep: those of supervisors of this machine."""

from __future__ import annotations

from typing import Any

from parallel_hpo.chronicle import Performed, performed
from parallel_hpo.errors import LedgerError
from parallel_hpo.server.services.supervision import SweepAt
from parallel_hpo.server.world import World


def ledgers_of(world: World, at: SweepAt) -> list[Performed]:
    """Return what this machine's supervisors wrote of a sweep; what can't be read is as good as none."""
    if world.sweeps_in is None or not at.sweep.isalnum():
        return []
    try:
        found = performed(world.sweeps_in / at.sweep)
    except LedgerError:
        return []
    return [share for share in found if share.path == f"{at.entity}/{at.project}/{at.sweep}"]


def attempts_of(world: World, at: SweepAt, run_id: str) -> list[dict[str, Any]]:
    """Return a run's attempts with their reasons, as its page shows them; [] where no ledger has it."""
    return [
        {
            "attempt": attempt.attempt,
            "worker": f"{share.share} worker {attempt.slot}".strip(),
            "device": share.devices.get(attempt.run_id),
            "started": attempt.started_at,
            "ended": attempt.ended_at,
            "outcome": attempt.outcome or "running",
            "reason": attempt.reason,
        }
        for share in ledgers_of(world, at)
        for attempt in share.attempts
        if attempt.run_id == run_id
    ]
