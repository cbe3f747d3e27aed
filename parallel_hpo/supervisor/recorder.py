"""Writes decisions into the ledger for the loop, and waits where the disk has no room for them.

Nothing may happen unrecorded: while a record can't be written the sweep stands still.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from parallel_hpo.errors import NoRoomError
from parallel_hpo.supervisor.actions import RecordDrop, RecordEnd, RecordStart
from parallel_hpo.supervisor.ledger import Ledger
from parallel_hpo.supervisor.signals import Control
from parallel_hpo.words import Message, Observer, Slot

ROOM_RETRY_S: Final = 1.0
"""How often a ledger without room is tried again; it is a person who frees a disk."""


class Recorder:
    """One sweep's hand on its ledger; each method returns once its record is on the disk.

    Raises:
        NoRoomError: from any method, where a stop was asked while it waited for room; what is
            running then is run again by a resumed sweep.
        LedgerError: the ledger can't be written, and will not be by waiting.
    """

    def __init__(
        self, ledger: Ledger, *, control: Control, observer: Observer, retry_s: float = ROOM_RETRY_S
    ) -> None:
        self._ledger = ledger
        self._control = control
        self._observer = observer
        self._retry_s = retry_s

    def spawn(self, slot: Slot, device: str | None, *, again: bool) -> None:
        """A process is about to be started in the slot; `again`: in the place of one that ended."""
        self._write(lambda: self._ledger.record_spawn(slot, device, again=again))

    def start(self, record: RecordStart, device: str | None) -> None:
        """An attempt is about to enter `main`."""
        run = record.run
        self._write(
            lambda: self._ledger.record_start(
                run.run_id, parameters=run.parameters, attempt=run.attempt, slot=record.slot, device=device
            )
        )

    def end(self, record: RecordEnd) -> None:
        """An attempt is over, and the run with it where the record is final."""
        self._write(lambda: self._end(record))

    def drop(self, record: RecordDrop) -> None:
        """A run that waited for another attempt gets none."""
        self._write(
            lambda: self._ledger.record_end(
                record.run.run_id,
                None,
                outcome=record.outcome,
                reason=record.reason,
                value=None,
                duration_s=record.run.spent_s,
                resumable=record.resumable,
            )
        )

    def _end(self, record: RecordEnd) -> None:
        ledger, run = self._ledger, record.run
        if not record.final:
            ledger.record_attempt_end(
                run.run_id,
                run.attempt,
                outcome=record.outcome,
                reason=record.reason,
                duration_s=record.duration_s,
            )
            return
        ledger.record_end(
            run.run_id,
            run.attempt,
            outcome=record.outcome,
            reason=record.reason,
            value=record.value,
            duration_s=record.duration_s,
            resumable=record.resumable,
        )

    def _write(self, record: Callable[[], None]) -> None:
        try:
            record()
        except NoRoomError as error:
            self._observer(Message(f"{error} The sweep waits until it can go on", warning=True))
            self._write_when_there_is_room(record)
            self._observer(Message("the ledger can be written again: the sweep goes on"))
            self._control.ring()  # what rang meanwhile has been heard here

    def _write_when_there_is_room(self, record: Callable[[], None]) -> None:
        while True:
            stopped = self._control.wait_for_stop(self._retry_s)
            try:
                return record()
            except NoRoomError:
                if stopped:
                    raise
