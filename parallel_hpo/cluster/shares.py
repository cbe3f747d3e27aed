"""A fixed share of a pool's count, run on this machine, wherever it was begun.

    run … --share 2/4 ─▶ a node in the pool that takes the runs of that share only
                      └▶ share-2-of-4/: ledger and summary of all the share's runs, on any machine

So a launch can run the rest of a share after an earlier launch's machine and disk are lost.
"""

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

from parallel_hpo.analysis.result import SweepResult
from parallel_hpo.client.base import OpenedSweep
from parallel_hpo.client.choose import choose_backend
from parallel_hpo.client.credentials import find_credentials
from parallel_hpo.client.own_servers import RemoteBackend
from parallel_hpo.client.server_client import PoolClient, ask_patiently, is_away
from parallel_hpo.cluster.watcher import EventCopier, LedgerCopy
from parallel_hpo.config.section import HpoSection
from parallel_hpo.core.child_spec import ChildSetup
from parallel_hpo.core.errors import (
    BackendError,
    ExitCode,
    LedgerError,
    PoolOverError,
    ServerAwayError,
    UsageError,
)
from parallel_hpo.core.messages import SweepEnd
from parallel_hpo.core.notices import Message, Observer
from parallel_hpo.core.pool_messages import AT_ONCE, PoolEvent
from parallel_hpo.core.types import Program, Target, sweep_id_of
from parallel_hpo.count.policy import Share
from parallel_hpo.processes.reaper import new_owner_id
from parallel_hpo.records.folders import working_folder
from parallel_hpo.records.ledger_views import LEDGER
from parallel_hpo.session.commands import Commands
from parallel_hpo.session.hooks import notify_end
from parallel_hpo.session.launch_record import LaunchRecord, LaunchSettings
from parallel_hpo.session.node import AWAIT_SERVER_S, NodeTask, take_part
from parallel_hpo.session.open_sweep import EndedSweep, conclude
from parallel_hpo.session.resume import AskedCount
from parallel_hpo.session.signals import CommandPipe, Control

FOLLOW_S: Final = 2.0
"""Interval between copies of new events to the share's ledger, in seconds."""


class ShareEvents:
    """Selects a share's events; it must see all events of the pool in order."""

    def __init__(self, share: str) -> None:
        """`share` is that of `Join.share`."""
        self._share = share
        self._epochs: set[int | None] = set()
        self._runs: set[object] = set()

    def has(self, event: PoolEvent) -> bool:
        """Return whether an event is of the share's machines, or of a run that one of them started."""
        if event.kind == "joined" and event.body.get("share") == self._share:
            self._epochs.add(event.epoch)
        run_id = event.body["run"]["run_id"] if event.kind == "started" else event.body.get("run_id")
        if event.kind == "started" and event.epoch in self._epochs:
            self._runs.add(run_id)
        return event.epoch in self._epochs or run_id in self._runs


class ShareFollower:
    """Copies the share's events to its ledger while it is open; a context manager.

    Raises:
        LedgerError: another launch runs the share in this directory, or the ledger can't be written.
    """

    def __init__(
        self,
        part: NodeTask,
        section: HpoSection,
        main: Target | Program,
        observer: Observer,
        environment: Mapping[str, str] | None,
    ) -> None:
        self._stack = ExitStack()
        control = self._stack.enter_context(closing(Control()))
        self._setting = LaunchSettings(
            section=section,
            main=main,
            observer=observer,
            control=control,
            clock=time.monotonic,
            jitter=random.random,
            mark=new_owner_id(),
            began=time.monotonic(),
            share=part.share,
            name=main,
        )
        self._part = part
        self._sweep = OpenedSweep(part.path, part.pool.url, part.pool.configuration)
        self._folder = self._setting.folder_of(part.path.sweep_id)
        self._environment = dict(os.environ if environment is None else environment)
        self._pool = PoolClient(part.pool_url, part.key, part.path.sweep_id)
        self._events = ShareEvents(str(part.share))
        self._last_event = 0
        """Number of the last event received."""
        self._closing = threading.Event()
        # One thread uses the ledger, since SQLite's connections are bound to a thread.
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

    def conclude(self, ending: SweepEnd) -> SweepResult:
        """Write the share's `summary.json` and return its result."""
        self._closing.set()
        result = self._thread.submit(self._conclude, ending).result()
        notify_end(result, self._setting, Commands(self._environment, working_folder()))
        return result

    # --- in the ledger's thread ----------------------------------------------------------

    def _open(self) -> None:
        with ExitStack() as stack:
            self._ledger = stack.enter_context(LedgerCopy(self._folder / LEDGER))
            self._mailbox = stack.enter_context(CommandPipe(self._folder))
            self._copier = EventCopier(self._ledger, self._part.path.sweep_id, lambda notice: None)
            self._record()
            self._opened = stack.pop_all()

    def _record(self) -> None:
        count, facts = self._part.share_count, self._ledger.facts
        launch = LaunchRecord(
            setting=self._setting,
            opened=self._sweep,
            backend=RemoteBackend.name,
            count=count,
            asked=AskedCount(count, given=False, was=count),
            before=0,
            main_folder=self._folder,
            surroundings=ChildSetup(self._environment, tuple(sys.path), working_folder()),
        )
        where = f"the machines that have run share {self._part.share}"
        self._ledger.record_facts({**launch.facts(facts), "machines": where})

    def _follow(self) -> None:
        while not self._closing.wait(FOLLOW_S):
            for _ in self._mailbox.take():
                words = "workers of a share that a pool counts can't be scaled or drained by a command"
                self._setting.observer(Message(words, warning=True))
            with suppress(BackendError, LedgerError):  # it is retried at the end
                self._catch_up()

    def _catch_up(self) -> None:
        """Write the pool's new events; raises LedgerError, or BackendError if it can't be reached."""
        while True:
            news = self._pool.news(self._last_event, 0)
            own = tuple(event for event in news.events if self._events.has(event))
            self._copier.take(replace(news, events=own, notices=()))
            self._last_event = news.events[-1].number if news.events else self._last_event
            if len(news.events) < AT_ONCE:
                return

    def _conclude(self, ending: SweepEnd) -> SweepResult:
        try:
            ask_patiently(self._catch_up, within_s=AWAIT_SERVER_S)
        except (BackendError, LedgerError) as error:
            words = f"{error}: this share's runs on other machines are missing in its summary"
            self._setting.observer(Message(words, warning=True))
        ended = EndedSweep(
            opened=self._sweep,
            backend=RemoteBackend.name,
            folder=self._folder,
            count=self._part.share_count,
            phantoms=(),
        )
        return conclude(self._ledger, ending, self._setting, ended)


def find_share(
    section: HpoSection, sweep: str, share: Share, environment: Mapping[str, str], name: str
) -> NodeTask | None:
    """Return a share's node task in its sweep's pool, as machine `name`; None if the sweep has no pool.

    Waits for a server that does not answer, since it must be known whether a pool counts the share.

    Raises:
        UsageError: the share's count differs from the pool's.
        BackendError: the server does not answer.
    """
    credentials = find_credentials(environment)
    url, key = credentials.base_url, credentials.key or ""
    if not ask_patiently(lambda: _is_on_ours(section, environment, url), within_s=AWAIT_SERVER_S):
        return None
    pool = ask_patiently(PoolClient(url, key, sweep_id_of(sweep)).facts, within_s=AWAIT_SERVER_S)
    if pool is None:
        return None
    if None not in (pool.count, section.count) and pool.count != section.count:
        raise UsageError(
            f"--share {share} of {section.count} runs: the sweep was created with a count of {pool.count},"
            " which its shares divide; leave the other count out"
        )
    total = pool.count or section.count
    assert total is not None, "a share needs a count"
    return NodeTask(pool, url, key, name, share, share.count(total))


def _is_on_ours(section: HpoSection, environment: Mapping[str, str], url: str) -> bool:
    """Return whether the sweep is on a server of ours that another process has started.

    Raises ServerAwayError if no server answers.
    """
    chosen = choose_backend(section.backend, environment)
    if not chosen.ours and chosen.name != "local" and is_away(url):
        raise ServerAwayError(f"{url} does not answer: is the sweep's server up?")
    return chosen.ours


def perform_share(
    part: NodeTask,
    section: HpoSection,
    main: Target | Program,
    *,
    observer: Observer,
    environment: Mapping[str, str] | None = None,
) -> SweepResult:
    """Run the rest of a share; return the result of all its runs, on any machine.

    Raises what `take_part` raises, and LedgerError if another launch runs the share in this directory.
    """
    with ShareFollower(part, section, main, observer, environment) as follower:
        try:
            ended = take_part(part, section, main, observer=observer, once=False, environment=environment)
            ending = SweepEnd(ended.stop_reason, ExitCode(ended.exit_code))
        except PoolOverError as error:
            ending = SweepEnd(str(error), ExitCode(error.ends_with))
        return follower.conclude(ending)
