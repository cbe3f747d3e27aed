"""What a machine is yet to tell its pool. No thread, no clock: whoever uses it holds a lock.

Starts and ends stay until an answer has settled them; notices are said once, and may be lost.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

from parallel_hpo.notices import Message, Notice, OutputLine, SweepOpened, SweepOver, to_json
from parallel_hpo.protocol.pool import Exchange, Granted, PooledEnd, PooledStart
from parallel_hpo.supervisor.decisions.grants import PoolNeeds
from parallel_hpo.words import RunId

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
        self._start: PooledStart | None = None
        self._sent_start = False
        self._verdicts: dict[RunId, str] = {}
        self._ends: list[PooledEnd] = []
        self._notices: list[Mapping[str, Any]] = []
        self._more = 0
        self.needs = PoolNeeds()

    # --- what is to be told ------------------------------------------------------------

    def begin(self, start: PooledStart, needs: PoolNeeds) -> None:
        """An attempt waits for leave to start; one at a time.

        `needs` are those of a machine where it has started: else it would be told as held and as started.
        """
        self._start, self._sent_start, self.needs = start, False, needs
        self._verdicts.clear()

    def verdict(self) -> str | None:
        """Return '' where the attempt may start, else why not; None while it is not known."""
        assert self._start is not None
        return self._verdicts.get(self._start.run.run_id)

    def done(self, withdrawn: PooledEnd | None = None) -> None:
        """The attempt does not wait any more; `withdrawn` is what is said of one that will not start."""
        if withdrawn is not None and self._sent_start:
            self._ends.append(withdrawn)
        self._start = None

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
        return bool(self._ends) or self._is_asking

    @property
    def has_notices(self) -> bool:
        return bool(self._notices)

    @property
    def _is_asking(self) -> bool:
        return self._start is not None and not self._verdicts

    # --- telling it --------------------------------------------------------------------

    def compose(self) -> Exchange:
        """Return the next exchange: all that no answer has settled, and what is newly said."""
        self._number += 1
        starts = () if self._start is None or self._verdicts else (self._start,)
        self._sent_start = self._sent_start or bool(starts)
        notices, more = self._notices, self._more
        self._notices, self._more = [], 0
        if more:
            words = f"{more} more lines and other notices came at once, and were not passed on"
            notices.append(to_json(Message(words)))
        return Exchange(
            *(self._epoch, self._number, self.needs.wants, self.needs.wants_again),
            *(starts, tuple(self._ends), self.needs.over, tuple(notices)),
        )

    def settle(self, told: Exchange, answer: Granted) -> None:
        """Take what the pool has heard off the list."""
        del self._ends[: len(told.ends)]
        for start in told.starts:
            run_id = start.run.run_id
            if run_id in answer.started:
                self._verdicts[run_id] = ""
            elif run_id in answer.refused:
                self._verdicts[run_id] = answer.refused[run_id]
