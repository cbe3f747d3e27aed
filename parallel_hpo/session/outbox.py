"""Messages from a machine to its pool. No thread, no clock; the caller (`membership`) holds a lock.

Starts and ends stay until an answer has acknowledged them; notices are sent once, and may be lost.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

from parallel_hpo.core.notices import Message, Notice, OutputLine, SweepOpened, SweepOver, to_json
from parallel_hpo.core.pool_messages import Exchange, Granted, PooledEnd, PooledStart
from parallel_hpo.core.types import RunId, Slot
from parallel_hpo.session.decide.demand import PoolNeeds
from parallel_hpo.session.decide.events import StartGranted, StartRefused

NOTICES: Final = 200
"""Maximum notices per message; of a flood, the coordinator shows these and the number of the others."""
LINE_CHARS: Final = 1000
"""Maximum characters of a line; the worker's log has all of it."""
OF_THE_MACHINE: Final = (SweepOpened, SweepOver)
"""Notices about this machine's part; the coordinator has its own about the whole sweep."""


class Outbox:
    """The messages of one epoch of a node."""

    def __init__(self, epoch: int) -> None:
        self._epoch = epoch
        self._number = 0
        self._starts: dict[RunId, PooledStart] = {}
        """Starts that wait for an answer."""
        self._sent: set[RunId] = set()
        """Starts that an exchange has sent."""
        self._ends: list[PooledEnd] = []
        self._notices: list[Mapping[str, Any]] = []
        self._more = 0
        self.needs = PoolNeeds()

    # --- adding -------------------------------------------------------------------

    def ask(self, start: PooledStart, needs: PoolNeeds) -> None:
        """Ask whether an attempt may start.

        `needs` is the demand with the attempt started; else the run would count twice, as held and as
        started.
        """
        self._starts[start.run.run_id], self.needs = start, needs

    def withdraw(self, end: PooledEnd) -> None:
        """Withdraw a start; send `end` if the pool may have counted the attempt."""
        waits = self._starts.pop(end.run_id, None) is not None
        if not waits or end.run_id in self._sent:
            self._ends.append(end)
        self._sent.discard(end.run_id)

    def end(self, end: PooledEnd) -> None:
        self._ends.append(end)

    def note(self, notice: Notice) -> None:
        if isinstance(notice, OF_THE_MACHINE):
            return
        if len(self._notices) >= NOTICES:
            self._more += 1
            return
        if isinstance(notice, OutputLine):
            notice = replace(notice, text=notice.text[:LINE_CHARS])
        self._notices.append(to_json(notice))

    @property
    def has_pending(self) -> bool:
        """Return whether starts or ends wait for an answer."""
        return bool(self._ends) or bool(self._starts)

    def names(self, run_id: RunId) -> bool:
        """Return whether a start or an end of this run waits for an answer."""
        return run_id in self._starts or any(end.run_id == run_id for end in self._ends)

    @property
    def size(self) -> int:
        """Number of starts and ends that wait for an answer."""
        return len(self._ends) + len(self._starts)

    @property
    def has_notices(self) -> bool:
        return bool(self._notices)

    # --- sending -----------------------------------------------------------------------

    def compose(self) -> Exchange:
        """Return the next exchange: all unacknowledged starts and ends, and new notices."""
        self._number += 1
        starts = tuple(self._starts.values())
        self._sent.update(self._starts)
        notices, more = self._notices, self._more
        self._notices, self._more = [], 0
        if more:
            words = f"{more} more lines and other notices came at once and were dropped"
            notices.append(to_json(Message(words)))
        return Exchange(
            self._epoch,
            self._number,
            self.needs.wants,
            self.needs.wants_again,
            starts,
            tuple(self._ends),
            self.needs.over,
            tuple(notices),
            self.needs.workers,
        )

    def acknowledge(self, message: Exchange, answer: Granted) -> list[StartGranted | StartRefused]:
        """Remove what the pool has received; return its answers about starts."""
        del self._ends[: len(message.ends)]
        decided: list[StartGranted | StartRefused] = []
        for start in message.starts:
            slot, run_id = Slot(start.slot), start.run.run_id
            if self._starts.get(run_id) is not start:
                continue  # withdrawn in the meantime
            if run_id in answer.started:
                decided.append(StartGranted(slot, run_id))
            elif run_id in answer.refused:
                decided.append(StartRefused(slot, run_id, answer.refused[run_id]))
            else:
                continue
            del self._starts[run_id]
            self._sent.discard(run_id)
        return decided
