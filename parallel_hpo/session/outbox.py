"""What a machine is yet to tell its pool. No thread, no clock: whoever uses it holds a lock.

Starts and ends stay until an answer has settled them; notices are said once, and may be lost.
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
"""So many a message: of a flood of lines the head shows what it can, and how many there were."""
LINE_CHARS: Final = 1000
"""A line is passed on so far; all of it is in the worker's log."""
OF_THE_MACHINE: Final = (SweepOpened, SweepOver)
"""Notices that are about this machine's part; the head has its own of the whole."""


class Outbox:
    """What one node tells in the exchanges of its epoch."""

    def __init__(self, epoch: int) -> None:
        self._epoch = epoch
        self._number = 0
        self._starts: dict[RunId, PooledStart] = {}
        """Those that wait for an answer."""
        self._sent: set[RunId] = set()
        """Those of them that an exchange has told."""
        self._ends: list[PooledEnd] = []
        self._notices: list[Mapping[str, Any]] = []
        self._more = 0
        self.needs = PoolNeeds()

    # --- what is to be told ------------------------------------------------------------

    def ask(self, start: PooledStart, needs: PoolNeeds) -> None:
        """Ask whether an attempt may start.

        `needs` are those of a machine where it has started: else the run would count as held and as started.
        """
        self._starts[start.run.run_id], self.needs = start, needs

    def withdraw(self, end: PooledEnd) -> None:
        """Ask no more for an attempt; `end` is told where the pool may have counted it, or has."""
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
    def owes(self) -> bool:
        """Whether something is to be told that counts."""
        return bool(self._ends) or bool(self._starts)

    @property
    def has_notices(self) -> bool:
        return bool(self._notices)

    # --- telling it --------------------------------------------------------------------

    def compose(self) -> Exchange:
        """Return the next exchange: all that no answer has settled, and what is newly said."""
        self._number += 1
        starts = tuple(self._starts.values())
        self._sent.update(self._starts)
        notices, more = self._notices, self._more
        self._notices, self._more = [], 0
        if more:
            words = f"{more} more lines and other notices came at once, and were not passed on"
            notices.append(to_json(Message(words)))
        return Exchange(
            *(self._epoch, self._number, self.needs.wants, self.needs.wants_again),
            *(starts, tuple(self._ends), self.needs.over, tuple(notices)),
        )

    def settle(self, told: Exchange, answer: Granted) -> list[StartGranted | StartRefused]:
        """Take what the pool has heard off the list; return what it says of the starts that wait."""
        del self._ends[: len(told.ends)]
        decided: list[StartGranted | StartRefused] = []
        for start in told.starts:
            slot, run_id = Slot(start.slot), start.run.run_id
            if self._starts.get(run_id) is not start:
                continue  # it was withdrawn meanwhile
            if run_id in answer.started:
                decided.append(StartGranted(slot, run_id))
            elif run_id in answer.refused:
                decided.append(StartRefused(slot, run_id, answer.refused[run_id]))
            else:
                continue
            del self._starts[run_id]
            self._sent.discard(run_id)
        return decided
