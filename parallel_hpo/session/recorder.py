"""Writes decisions into the ledger for the loop, and waits where the disk has no room for them.

Nothing may begin unrecorded: while a record can't be written the sweep stands still. After a stop
nothing begins: what can't be written then is tried again at the end (`settle`), and else is what a
resumed sweep finds open.
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
"""How often a ledger without room is tried again; it is a person who frees a disk."""
DELAYED_S: Final = 0.5
"""Duration of a record, in seconds, from which on its run's clock is set anew. SQLite waits by itself for
up to 5 s where another program holds the ledger."""


class UnrecordedError(Exception):
    """A stop came while a start waited for its record: the run does not begin."""


class Recorder:
    """One sweep's hand on its ledger; without a stop each method returns once its record is on the disk.

    Raises:
        LedgerError: the ledger can't be written, and will not be by waiting.
    """

    def __init__(
        self, ledger: Ledger, *, control: Control, observer: Observer, retry_s: float = ROOM_RETRY_S
    ) -> None:
        self._ledger = ledger
        self._control = control
        self._observer = observer
        self._retry_s = retry_s
        self._owed: list[Callable[[], None]] = []

    def known(self, run_id: RunId) -> RunRow | None:
        """Return what is recorded of a run; None where it was never started."""
        return self._ledger.run(run_id)

    def begun_with(self, parameters: Parameters) -> int:
        """Return how many runs with these parameters have begun."""
        return self._ledger.begun_with(parameters)

    def spawn(self, slot: Slot, device: str | None, *, again: bool) -> None:
        """A process is about to be started in the slot; `again`: in the place of one that ended."""
        self._write(lambda: self._ledger.record_spawn(slot, device, again=again))

    def start(self, record: RecordStart, device: str | None) -> bool:
        """An attempt is about to enter `main`: return whether its record had to wait.

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
        if self._owed:
            self._owed.pop()
            raise UnrecordedError
        return waited or self._control.clock() - began_at >= DELAYED_S

    def end(self, record: RecordEnd) -> None:
        """An attempt is over, and the run with it where the record is final."""
        self._write(lambda: self._end(record))

    def drop(self, record: RecordDrop) -> None:
        """A run that waited for another attempt gets none."""
        self._write(lambda: self._ledger.record_end(record.run.run_id, None, record.end))

    def quarantine(self, record: RecordQuarantine) -> None:
        """A device gets no runs for a while."""
        self._write(lambda: self._ledger.record_quarantine(record.device, record.reason))

    def _end(self, record: RecordEnd) -> None:
        run = record.run
        if record.final:
            self._ledger.record_end(run.run_id, run.attempt, record.end, earlier_s=run.spent_s)
        else:
            self._ledger.record_attempt_end(run.run_id, run.attempt, record.end)

    def settle(self, patience: StopAware) -> None:
        """Write what is owed, waiting for room for as long as a stop allows; say what can't be."""
        try:
            while self._owed and not self._pay():
                patience.sleep(self._retry_s)
        except (StoppedError, LedgerError) as error:
            why = f": {error}" if isinstance(error, LedgerError) else ""
            records = "1 record" if len(self._owed) == 1 else f"{len(self._owed)} records"
            words = f"{records} could not be written into the ledger{why}"
            self._observer(Message(f"{words}: --resume runs again what it finds open", warning=True))

    def _pay(self) -> bool:
        """Write what is owed, in its order; return whether all of it has been."""
        try:
            while self._owed:
                self._owed[0]()
                del self._owed[0]
        except NoRoomError:
            return False
        return True

    def _write(self, record: Callable[[], None]) -> bool:
        """Write a record, now or once there is room; return whether there was none at first."""
        if self._owed:
            self._owed.append(record)
            return True
        try:
            record()
        except LedgerError as error:
            if not self._control.has_stopped and not isinstance(error, NoRoomError):
                raise
            self._owed.append(record)
            if not self._control.has_stopped:
                self._wait_for_room(error)
            return True
        return False

    def _wait_for_room(self, error: LedgerError) -> None:
        self._observer(Message(f"{error} The sweep waits until it can go on", warning=True))
        while not self._control.wait_for_stop(self._retry_s):
            if self._pay():
                self._observer(Message("the ledger can be written again: the sweep goes on"))
                break
        self._control.ring()  # what rang meanwhile has been heard here
