"""The ledger of a sweep on many machines, written from what its pool tells: workers are at machines here.

Each worker of each machine has a slot of its own, which it keeps when the machine goes and comes back under
its name. What is written `together` is there together or not at all.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from parallel_hpo.supervisor.records.ledger import Ledger
from parallel_hpo.words import RunId, Slot


class MirrorLedger(Ledger):
    """A ledger of many machines, owned by this process until it is closed; raises what `Ledger` raises."""

    _inside = False
    """Whether something is being written together."""

    @contextmanager
    def together(self) -> Iterator[None]:
        """Within the block everything is one transaction; it is read from the pool again if it is lost."""
        with super()._written(synchronous="NORMAL"):
            self._inside = True
            try:
                yield
            finally:
                self._inside = False

    def record_machine(self, epoch: int, name: str, folder: str) -> None:
        """A machine takes part, for the first time or again."""
        with self._written():
            self._db.execute(
                "INSERT INTO machines (epoch, name, folder) VALUES (?, ?, ?)", (epoch, name, folder)
            )

    def record_departure(self, epoch: int, how: str) -> None:
        """A machine has left or is gone: how, in words."""
        with self._written():
            self._db.execute("UPDATE machines SET departure = ? WHERE epoch = ?", (how, epoch))

    def machine(self, epoch: int) -> str | None:
        """Return the name of the machine of an epoch; None: it is not known."""
        return next((name for (name,) in self._query(_NAME, str(epoch))), None)

    def earlier_s(self, run_id: RunId, attempt: int | None) -> float:
        """Return what a run's attempts before this one took together, in seconds."""
        (found,) = self._query(_EARLIER, run_id, str(attempt or 0))
        return float(found[0])

    def slot_at(self, machine: str, number: int) -> tuple[Slot, bool]:
        """Return the slot of a machine's worker by its number there, and whether it is a new one."""
        with self._written():
            made = self._db.execute(
                "INSERT OR IGNORE INTO places (slot, machine, number)"
                " SELECT COALESCE(MAX(slot) + 1, 0), ?, ? FROM places",
                (machine, number),
            ).rowcount
            (slot,) = self._db.execute(
                "SELECT slot FROM places WHERE machine = ? AND number = ?", (machine, number)
            ).fetchone()
        return Slot(slot), made == 1

    def places(self) -> list[tuple[Slot, str, int]]:
        """Return each slot with its machine and its number there."""
        return [(Slot(slot), machine, number) for machine, number, slot in self._places()]

    @contextmanager
    def _written(self, synchronous: str = "FULL") -> Iterator[None]:
        if self._inside:
            yield
            return
        with super()._written(synchronous):
            yield


_NAME = "SELECT name FROM machines WHERE epoch = ?"
_EARLIER = "SELECT TOTAL(duration_s) FROM attempts WHERE run_id = ? AND attempt < ?"
