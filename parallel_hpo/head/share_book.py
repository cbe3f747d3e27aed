"""Ledger and summary of a share whose runs a pool counts: all that it has had, on whichever machines."""

from __future__ import annotations

import os
import random
import sys
import threading
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, suppress
from dataclasses import replace
from types import TracebackType
from typing import Final, Self

from parallel_hpo.backend.base import OpenedSweep
from parallel_hpo.backend.door import ask_patiently
from parallel_hpo.backend.pool import PoolDoor
from parallel_hpo.backend.remote import RemoteBackend
from parallel_hpo.chronicle import LEDGER
from parallel_hpo.config.hpo import HpoSection
from parallel_hpo.errors import BackendError, LedgerError
from parallel_hpo.head.mirror import Mirror
from parallel_hpo.notices import Message, Observer
from parallel_hpo.protocol.ends import Ending
from parallel_hpo.protocol.pool import AT_ONCE, PoolEvent
from parallel_hpo.protocol.spec import Surroundings
from parallel_hpo.supervisor.commands import Commands
from parallel_hpo.supervisor.conclusion import EndedSweep, conclude
from parallel_hpo.supervisor.control.mailbox import Mailbox
from parallel_hpo.supervisor.control.signals import Control
from parallel_hpo.supervisor.node import AWAIT_SERVER_S
from parallel_hpo.supervisor.node_stage import NodePart
from parallel_hpo.supervisor.noted_launch import NotedLaunch
from parallel_hpo.supervisor.on_end import tell_of_end
from parallel_hpo.supervisor.processes.reaper import make_mark
from parallel_hpo.supervisor.records.directory import working_folder
from parallel_hpo.supervisor.records.mirror import MirrorLedger
from parallel_hpo.supervisor.records.resuming import AskedCount
from parallel_hpo.supervisor.records.summary import SweepResult
from parallel_hpo.supervisor.setting import Setting
from parallel_hpo.words import Program, Target

FOLLOW_S: Final = 2.0
"""So often the ledger of a share that is performed follows its pool."""


class EventsOfShare:
    """Tells a share's events from those of the others; all of a pool's pass by, in their order."""

    def __init__(self, share: str) -> None:
        """`share` is as in `Join.share`."""
        self._share = share
        self._epochs: set[int | None] = set()
        self._runs: set[object] = set()

    def has(self, event: PoolEvent) -> bool:
        """Say whether an event is of the share's machines, or of a run that one of them has begun."""
        if event.kind == "joined" and event.body.get("share") == self._share:
            self._epochs.add(event.epoch)
        run_id = event.body["run"]["run_id"] if event.kind == "started" else event.body.get("run_id")
        if event.kind == "started" and event.epoch in self._epochs:
            self._runs.add(run_id)
        return event.epoch in self._epochs or run_id in self._runs


class ShareBook:
    """Follows the pool while it is open; a context manager.

    Raises:
        LedgerError: another launch performs the share in this directory, or the ledger can't be written.
    """

    def __init__(
        self,
        part: NodePart,
        section: HpoSection,
        main: Target | Program,
        observer: Observer,
        environment: Mapping[str, str] | None,
    ) -> None:
        """`part` is this launch's; nothing is opened yet."""
        self._stack = ExitStack()
        control = self._stack.enter_context(closing(Control()))
        self._setting = Setting(
            *(section, main, observer, control, time.monotonic, random.random),
            *(make_mark(), time.monotonic(), part.share),
            name=main,
        )
        self._part = part
        self._sweep = OpenedSweep(part.path, part.pool.url, part.pool.configuration)
        self._folder = self._setting.folder_of(part.path.sweep_id)
        self._environment = dict(os.environ if environment is None else environment)
        self._door = PoolDoor(part.pool_url, part.key, part.path.sweep_id)
        self._events = EventsOfShare(str(part.share))
        self._heard = 0
        """The last event's number that has passed by."""
        self._closing = threading.Event()
        # One thread does all that the ledger is asked for: it is SQLite's.
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="parallel_hpo-share")

    def __enter__(self) -> Self:
        self._stack.callback(self._thread.shutdown)
        try:
            self._thread.submit(self._open).result()
        except BaseException:
            self._stack.close()
            raise
        self._following = self._thread.submit(self._follow)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self._closing.set()
        self._thread.submit(self._opened.close).result()
        self._stack.close()

    def conclude(self, ending: Ending) -> SweepResult:
        """Return what became of the share, which is in its ledger and its `summary.json` by then."""
        self._closing.set()
        result = self._thread.submit(self._conclude, ending).result()
        tell_of_end(result, self._setting, Commands(self._environment, working_folder()))
        return result

    # --- in the ledger's thread ----------------------------------------------------------

    def _open(self) -> None:
        with ExitStack() as stack:
            self._ledger = stack.enter_context(MirrorLedger(self._folder / LEDGER))
            self._mailbox = stack.enter_context(Mailbox(self._folder))
            self._mirror = Mirror(self._ledger, self._part.path.sweep_id, lambda notice: None)
            self._record()
            self._opened = stack.pop_all()

    def _record(self) -> None:
        count, facts = self._part.share_count, self._ledger.facts
        launch = NotedLaunch(
            *(self._setting, self._sweep, RemoteBackend.name, count, AskedCount(count, False, count), 0),
            main_folder=self._folder,
            surroundings=Surroundings(self._environment, tuple(sys.path), working_folder()),
        )
        where = f"the machines that have performed share {self._part.share}"
        self._ledger.record_facts({**launch.facts(facts), "machines": where})

    def _follow(self) -> None:
        while not self._closing.wait(FOLLOW_S):
            for _ in self._mailbox.take():
                words = "workers of a share that a pool counts are neither scaled nor drained by a command"
                self._setting.observer(Message(words, warning=True))
            with suppress(BackendError, LedgerError):  # at the end it is tried again
                self._catch_up()

    def _catch_up(self) -> None:
        """Write what the pool has told since; raises LedgerError, or BackendError where it can't be asked."""
        while True:
            news = self._door.news(self._heard, 0)
            own = tuple(event for event in news.events if self._events.has(event))
            self._mirror.take(replace(news, events=own, notices=()))
            self._heard = news.events[-1].number if news.events else self._heard
            if len(news.events) < AT_ONCE:
                return

    def _conclude(self, ending: Ending) -> SweepResult:
        try:
            ask_patiently(self._catch_up, within_s=AWAIT_SERVER_S)
        except (BackendError, LedgerError) as error:
            words = f"{error}: what other machines had of this share is not in its summary"
            self._setting.observer(Message(words, warning=True))
        ended = EndedSweep(
            opened=self._sweep,
            backend=RemoteBackend.name,
            folder=self._folder,
            count=self._part.share_count,
            phantoms=(),
        )
        return conclude(self._ledger, ending, self._setting, ended)
