"""Messages of machines and coordinators to a pool, as short as tests want them."""

from __future__ import annotations

from typing import Any, Final

from parallel_hpo.core.pool_messages import (
    Exchange,
    Join,
    NewPool,
    PooledEnd,
    PooledRun,
    PooledStart,
    Versions,
)
from parallel_hpo.core.types import Outcome, RunId

VERSIONS: Final = Versions(python="3.12", wandb="0.30", parallel_hpo="1.0")
TIMEOUT_S: Final = 30.0


def new_pool(sweep: str = "s", **more: Any) -> NewPool:
    """A pool of 4 runs, of a sweep that is elsewhere."""
    known: dict[str, Any] = {
        "path": f"local/p/{sweep}",
        "backend": "wandb",
        "url": f"http://server/local/p/sweeps/{sweep}",
        "count": 4,
        "node_timeout_s": TIMEOUT_S,
        "section": {},
        "versions": VERSIONS,
        "has_coordinator": False,
    }
    return NewPool(**known | more)


def machine(name: str = "a", mark: str = "", workers: int = 2) -> Join:
    return Join(name, VERSIONS, workers, mark)


def start(run: str, attempt: int = 1, **more: Any) -> PooledStart:
    return PooledStart(PooledRun(RunId(run), {"x": 1}, attempt, **more), slot=0)


def end(run: str, attempt: int | None = 1, outcome: Outcome = Outcome.FINISHED, **more: Any) -> PooledEnd:
    return PooledEnd(RunId(run), attempt, outcome=outcome, **more)


def stopped(run: str, attempt: int | None = 1) -> PooledEnd:
    """A run that its machine can't go on with."""
    return end(run, attempt, Outcome.STOPPED, resumable=True)


def told(epoch: int, number: int, wants: int = 0, **more: Any) -> Exchange:
    return Exchange(epoch, number, wants, **{"wants_again": wants} | more)
