"""Writes the loop's records into the ledger, and waits while the disk is full.

No run starts unrecorded: while a record can't be written, the sweep waits. After a stop, nothing starts:
pending records are tried again at the end (`flush`); if that fails too, a resumed sweep finds these runs
open.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from parallel_hpo.core.errors import LedgerError, NoRoomError
from parallel_hpo.core.notices import Message, Observer
from parallel_hpo.core.types import Parameters, RunId, Slot
from parallel_hpo.records.ledger import Ledger
from parallel_hpo.records.reader import RunRow
from parallel_hpo.session.decide.events import RecordDrop, RecordEnd, RecordQuarantine, RecordStart
from parallel_hpo.session.signals import Control
from parallel_hpo.session.waiting import StopAware, StoppedError

ROOM_RETRY_S: Final = 1.0
"""Retry interval in seconds while the disk is full; a person has to free it."""
DELAYED_S: Final = 0.5
"""Duration of a record, in seconds, from which on its run's clock is set anew. SQLite waits by itself for
up to 5 s where another program holds the ledger."""


class UnrecordedError(Exception):
    """A stop came while a start waited for its record: the run does not start."""


class Recorder:
    """Writes one sweep's ledger. Without a stop, each method returns once its record is on the disk.

    Raises:
        LedgerError: the ledger can't be written, and waiting does not help.
    """

    def __init__(
        self, ledger: Ledger, *, control: Control, observer: Observer, retry_s: float = ROOM_RETRY_S
    ) -> None:
        self._ledger = ledger
        self._control = control
        self._observer = observer
        self._retry_s = retry_s
        self._pending: list[Callable[[], None]] = []

    def known(self, run_id: RunId) -> RunRow | None:
        """Return the record of a run, None if it has never started."""
        return self._ledger.run(run_id)

    def begun_with(self, parameters: Parameters) -> int:
        """Return how many runs with these parameters have begun."""
        return self._ledger.begun_with(parameters)

    def spawn(self, slot: Slot, device: str | None, *, again: bool) -> None:
        """Record the start of a process in the slot; `again`: it replaces one."""
        self._write(lambda: self._ledger.record_spawn(slot, device, again=again))

    def start(self, record: RecordStart, device: str | None) -> bool:
        """Record that an attempt enters `main`; return whether the record had to wait.

        Raises:
            UnrecordedError: a stop came before the record could be written.
        """
        run = record.run
        began_at = self._control.clock()
        waited = self._write(
            lambda: self._ledger.record_start(
                run.run_id,
                parameters=run.parameters,
                attempt=run.attempt,
                slot=record.slot,
                device=device,
                seed=run.seed,
            )
        )
        if self._pending:
            self._pending.pop()
            raise UnrecordedError
        return waited or self._control.clock() - began_at >= DELAYED_S

    def end(self, record: RecordEnd) -> None:
        """Record the end of an attempt, and of its run if the record is final."""
        self._write(lambda: self._end(record))

    def drop(self, record: RecordDrop) -> None:
        """Record that a run waiting for another attempt gets none."""
        self._write(lambda: self._ledger.record_end(record.run.run_id, None, record.end))

    def quarantine(self, record: RecordQuarantine) -> None:
        """Record that a device is in quarantine."""
        self._write(lambda: self._ledger.record_quarantine(record.device, record.reason))

    def _end(self, record: RecordEnd) -> None:
        run = record.run
        if record.final:
            self._ledger.record_end(run.run_id, run.attempt, record.end, earlier_s=run.spent_s)
        else:
            self._ledger.record_attempt_end(run.run_id, run.attempt, record.end)

    def flush(self, patience: StopAware) -> None:
        """Write pending records, waiting as long as a stop allows; warn about the rest."""
        try:
            while self._pending and not self._flush_once():
                patience.sleep(self._retry_s)
        except (StoppedError, LedgerError) as error:
            why = f": {error}" if isinstance(error, LedgerError) else ""
            records = "1 record" if len(self._pending) == 1 else f"{len(self._pending)} records"
            words = f"{records} could not be written into the ledger{why}"
            self._observer(Message(f"{words}: --resume runs these runs again", warning=True))

    def _flush_once(self) -> bool:
        """Write pending records in order; return whether none is left."""
        try:
            while self._pending:
                self._pending[0]()
                del self._pending[0]
        except NoRoomError:
            return False
        return True

    def _write(self, record: Callable[[], None]) -> bool:
        """Write a record, now or once the disk has room; return whether it had to wait."""
        if self._pending:
            self._pending.append(record)
            return True
        try:
            record()
        except LedgerError as error:
            if not self._control.has_stopped and not isinstance(error, NoRoomError):
                raise
            self._pending.append(record)
            if not self._control.has_stopped:
                self._wait_for_room(error)
            return True
        return False

    def _wait_for_room(self, error: LedgerError) -> None:
        self._observer(Message(f"{error} The sweep waits until it can be written", warning=True))
        while not self._control.wait_for_stop(self._retry_s):
            if self._flush_once():
                self._observer(Message("the ledger can be written again: the sweep goes on"))
                break
        self._control.ring()  # other wake-ups were consumed here
