"""The coordinator's session of an open sweep on many machines: its count, its pool, the loop, and the end.

As `session/open_sweep.py` for one machine, but no run is executed here.
"""

from __future__ import annotations

import queue
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Final

from parallel_hpo.analysis.result import SweepResult
from parallel_hpo.client.base import Backend, OpenedSweep
from parallel_hpo.cluster.base import HEAD_STDERR, STDERR, ClusterMachine, NodeCommand, open_file
from parallel_hpo.cluster.loop import ClusterLoop, ClusterTools
from parallel_hpo.cluster.nodes import NodeManager, NodeReport
from parallel_hpo.cluster.watcher import Answer, EventCopier, PoolSource, PoolWatcher
from parallel_hpo.config.section import HpoSection
from parallel_hpo.config.tables import Machines
from parallel_hpo.core.child_spec import ChildSetup
from parallel_hpo.core.errors import ConfigError, ExitCode, LedgerError, ParallelHPOError
from parallel_hpo.core.messages import SweepEnd
from parallel_hpo.core.notices import Message, Observer, SweepOpened
from parallel_hpo.core.pool_messages import AT_ONCE, NODE_TOKEN, POOL_KEY, POOL_URL, NewPool
from parallel_hpo.core.types import StopKind
from parallel_hpo.pickling.payload import to_text
from parallel_hpo.records.ledger import Ledger
from parallel_hpo.records.reader import RunRow
from parallel_hpo.session.commands import Commands
from parallel_hpo.session.hooks import notify_end
from parallel_hpo.session.launch_record import (
    LaunchRecord,
    LaunchSettings,
    announce_new_count,
    count_before,
    warn_if_paused,
)
from parallel_hpo.session.membership import versions_here
from parallel_hpo.session.open_sweep import EndedSweep, conclude, find_phantoms, should_finish
from parallel_hpo.session.resume import AskedCount, asked_count, count_or_cap, read_earlier
from parallel_hpo.session.setup import NOTHING
from parallel_hpo.session.signals import CommandPipe
from parallel_hpo.session.waiting import StopAware, StoppedError


@dataclass(frozen=True, slots=True)
class PoolCount:
    """The count of a launch."""

    total: int | None
    """Total of the pool's runs, earlier counts included; None: no limit."""
    before: int
    """Number of runs of earlier counts."""
    asked: AskedCount


def count_runs(
    count: int | None,
    *,
    run_cap: int | None = None,
    given: bool,
    resumes: bool,
    facts: Mapping[str, Any],
    rows: Iterable[RunRow],
    known: NewPool | None,
) -> PoolCount:
    """Return the count of a launch that asks for `count`; `facts` and `rows` are the ledger's.

    Without a count the sweep's `run_cap` is used. If the ledger of a resumed sweep is empty, the total comes
    from its pool.
    """
    if resumes and "count" not in facts and known is not None:
        facts = {**facts, "count": known.count, "count_given": count is None}
    before = count_before(facts, read_earlier(rows), goes_on=resumes)
    count = count_or_cap(count, run_cap, before=before)
    asked = asked_count(count, given=given, facts=facts, goes_on=resumes)
    return PoolCount(None if asked.count is None else before + asked.count, before, asked)


OF_THE_HEAD: Final = (
    *("apply", "kind", "count", "machines", "sweep_configuration", "sweep_id", "project", "entity"),
    *("backend", "engine", "on_end", "notify"),
)
"""Keys of the section that no node needs: the coordinator applies them, or nodes get them otherwise."""
KEY_FILE: Final = "sweep.key"


@dataclass(frozen=True, slots=True)
class PoolAddress:
    """Addresses and keys of a sweep and its pool, for nodes."""

    url: str
    key: str = field(repr=False)
    """Valid for this sweep only."""
    is_apart: bool
    """Whether the sweep itself is on W&B's server."""
    login: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Variables for the sweep's server in that case."""

    @property
    def variables(self) -> dict[str, str]:
        """Variables for a node's environment."""
        url, key = ("WANDB_BASE_URL", "WANDB_API_KEY")
        if self.is_apart:
            url, key = (POOL_URL, POOL_KEY)
        return {**self.login, url: self.url, key: self.key}


def new_pool(
    setting: LaunchSettings,
    opened: OpenedSweep,
    count: int | None,
    *,
    is_apart: bool,
    node_timeout_s: float,
    headed: bool = True,
) -> NewPool:
    """Return the pool of a sweep; TargetError if `main` is too large to be sent to each machine."""
    return NewPool(
        path=str(opened.path),
        backend="wandb" if is_apart else "local",
        url=opened.url,
        count=count,
        node_timeout_s=node_timeout_s,
        section=_section(setting, headed=headed),
        configuration=opened.configuration,
        main="" if setting.main is NOTHING else to_text(setting.main),
        versions=versions_here(),
        headed=headed,
    )


def _section(setting: LaunchSettings, *, headed: bool) -> dict[str, Any]:
    section = section_of_nodes(setting.section)
    if headed and "deadline" in section:
        section["deadline"] = setting.deadline_for_machines(time.time())
    return section


def section_of_nodes(section: HpoSection) -> dict[str, Any]:
    """Return the keys that were set and that concern a node, as in a configuration file."""
    given = section.model_dump(mode="json", exclude_unset=True)
    return {key: value for key, value in given.items() if key not in OF_THE_HEAD}


def node_command(
    sweep_id: str, place: PoolAddress, machine: ClusterMachine, token: str, *, grace_s: float
) -> NodeCommand:
    """Return the command of a node on a machine."""
    return NodeCommand(
        arguments=("-m", "parallel_hpo", "join", sweep_id, "--name", machine.name, "--once"),
        variables={**place.variables, NODE_TOKEN: token, HEAD_STDERR: open_file(STDERR)},
        grace_s=grace_s,
    )


def write_key(folder: Path, key: str) -> Path:
    """Write a sweep's key, for nodes started by hand, into a file that only the user may read."""
    path = folder / KEY_FILE
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch(mode=0o600)
    path.chmod(0o600)
    path.write_text(key + "\n")
    return path


def how_to_join(sweep_id: str, place: PoolAddress, key_file: Path) -> str:
    """Return the command by which another machine joins, without the key."""
    of_pool = {name: value for name, value in place.variables.items() if name not in place.login}
    words = [
        f"{name}={f'$(cat {key_file})' if value == place.key else value}" for name, value in of_pool.items()
    ]
    return " ".join([*words, "parallel-hpo join", sweep_id])


NODES_STOP_IN_S: Final = 3.0
"""Timeout for the engine to end the last nodes, in seconds; a hanging node ends by its own fence."""


@dataclass(frozen=True, slots=True)
class ClusterContext:
    """The objects that a sweep on many machines works with."""

    setting: LaunchSettings
    machines: Machines
    sweep: OpenedSweep
    backend: Backend
    place: PoolAddress
    pool: PoolSource
    ledger: Ledger
    nodes: NodeManager | None
    """None: machines join by themselves."""
    which: str
    """The machines, in words."""
    reports: queue.SimpleQueue[NodeReport | Answer]
    patience: StopAware
    make_commands: Callable[[], Commands]
    surroundings: ChildSetup
    """The launch's own."""


class ClusterSweep:
    """One sweep on many machines, at its coordinator."""

    def __init__(self, context: ClusterContext) -> None:
        self._it = context
        self._setting = context.setting
        self._sweep_id = context.sweep.path.sweep_id
        self._folder = context.setting.folder_of(self._sweep_id)
        self._phantoms: tuple[str, ...] = ()

    def perform(self) -> SweepResult:
        """Run the sweep and return its result, which is also written to `summary.json`."""
        known = self._it.patience.call(self._it.pool.facts)
        if known is None and self._setting.resumes:
            raise ConfigError(
                f"sweep {self._sweep_id} was begun on one machine: resume it there, without hpo.machines"
            )
        if known is not None:
            self._catch_up()
        self._count = self._count_runs(known)
        self._record()
        self._announce()
        warn_if_paused(self._it.sweep, self._setting.section.directory, self._setting.observer)
        copier = self._copier(self._setting.observer)
        watcher = PoolWatcher(self._it.pool, lambda: (copier.last_event, copier.last_notice), self._post)
        try:
            with CommandPipe(self._folder) as mailbox:
                ending = self._run(watcher, mailbox, copier)
        except BaseException as error:
            reason = str(error) if isinstance(error, ParallelHPOError) else f"internal error: {error}"
            watcher.close()
            self._let_go(reason)
            with suppress(LedgerError):  # without the ledger the runs are unknown
                self._conclude(SweepEnd(reason, ExitCode.OUR_FAULT))
            raise
        return self._conclude(ending)

    def _post(self, answer: Answer) -> None:
        self._it.reports.put(answer)
        self._setting.control.ring()

    # --- before anything runs ----------------------------------------------------------

    def _catch_up(self) -> None:
        """Copy the events that this ledger lacks: all, if the sweep was begun on another machine."""
        copier = self._copier(lambda notice: None)
        while True:
            last = copier.last_event, copier.last_notice
            news = self._it.patience.call(partial(self._it.pool.news, *last))
            copier.take(news)
            if len(news.events) < AT_ONCE:
                return

    def _count_runs(self, known: NewPool | None) -> PoolCount:
        setting = self._setting
        count = count_runs(
            setting.count,
            run_cap=setting.run_cap,
            given="count" in setting.section.overridden,
            resumes=setting.resumes,
            facts=self._it.ledger.facts,
            rows=self._it.ledger.runs(),
            known=known,
        )
        announce_new_count(count.asked, setting.observer)
        return count

    def _record(self) -> None:
        it, count = self._it, self._count
        launch = LaunchRecord(
            setting=self._setting,
            opened=it.sweep,
            backend=it.backend.name,
            count=count.total,
            asked=count.asked,
            before=count.before,
            main_folder=self._folder,
            surroundings=it.surroundings,
        )
        it.ledger.record_facts({**launch.facts(it.ledger.facts), "machines": it.which})

    def _announce(self) -> None:
        it = self._it
        it.patience.call(lambda: it.pool.create(self._new_pool()))
        self._setting.observer(
            SweepOpened(
                path=it.sweep.path,
                url=it.backend.address_for_people(it.sweep.url),
                backend=it.backend.title,
                count=self._count.total,
                workers=0,
                shares=(),
                folder=str(self._folder),
                metric=it.sweep.metric,
                goal=it.sweep.goal,
                method=str(it.sweep.configuration.get("method", "")),
                machines=it.which,
            )
        )
        key_file = write_key(self._folder, it.place.key)
        command = how_to_join(self._sweep_id, it.place, key_file)
        self._setting.observer(Message(f"other machines can join by: {command}"))

    def _new_pool(self) -> NewPool:
        return new_pool(
            self._setting,
            self._it.sweep,
            self._count.total,
            is_apart=self._it.place.is_apart,
            node_timeout_s=self._it.machines.node_timeout_s,
        )

    # --- while it runs -----------------------------------------------------------------

    def _run(self, watcher: PoolWatcher, mailbox: CommandPipe, copier: EventCopier) -> SweepEnd:
        it, setting = self._it, self._setting
        copier.name_workers()
        if it.nodes is not None:
            it.nodes.begin(self._command_for)
        watched = ClusterTools(
            control=setting.control,
            mailbox=mailbox,
            watcher=watcher,
            copier=copier,
            observer=setting.observer,
            stop_nodes=it.nodes.stop if it.nodes else None,
            reports=it.reports,
            grace_s=setting.section.grace_period_s,
        )
        ending = ClusterLoop(watched).run()
        it.patience.runs_are_over(ending.stop)
        if it.nodes is not None:
            it.nodes.stop_within(NODES_STOP_IN_S)
        with suppress(StoppedError):
            self._finish(ending)
        return ending

    def _command_for(self, machine: ClusterMachine, token: str) -> NodeCommand:
        grace_s = self._setting.section.grace_period_s
        return node_command(self._sweep_id, self._it.place, machine, token, grace_s=grace_s)

    def _finish(self, ending: SweepEnd) -> None:
        """Finish a sweep on W&B's server; on a server of ours the pool has done so."""
        it = self._it
        if it.place.is_apart and should_finish(ending, it.ledger):
            it.patience.call(lambda: it.backend.finish_sweep(it.sweep.path))
        self._phantoms = find_phantoms(
            it.backend, it.sweep.path, it.ledger, ending, self._setting, it.patience
        )

    # --- the end -----------------------------------------------------------------------

    def _let_go(self, reason: str) -> None:
        """Make all machines leave after an error of ours, as far as possible."""
        ends = SweepEnd(f"a fault at the head: {reason}", ExitCode.OUR_FAULT, StopKind.INTERRUPT)
        with suppress(ParallelHPOError):
            self._it.pool.stop(ends)
        if self._it.nodes is not None:
            self._it.nodes.stop_within(NODES_STOP_IN_S)

    def _copier(self, observer: Observer) -> EventCopier:
        return EventCopier(self._it.ledger, observer)

    def _conclude(self, ending: SweepEnd) -> SweepResult:
        ended = EndedSweep(
            opened=self._it.sweep,
            backend=self._it.backend.name,
            folder=self._folder,
            count=self._count.total,
            phantoms=self._phantoms,
        )
        result = conclude(self._it.ledger, ending, self._setting, ended)
        notify_end(result, self._setting, self._it.make_commands())
        return result
