"""How many runs a launch on many machines goes for, of those that its pool has and had. Pure.

What a sweep's machines are given: the pool that they draw from, and how a node there is started.

A sweep on many machines that is open on its server: its pool, its announcement, its course, its end.

What `session/open_sweep.py` is for one machine. Nothing runs here: what runs is the machines', and what
is known of it the pool's.
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
from parallel_hpo.cluster.nodes import CrewReport, NodeManager
from parallel_hpo.cluster.watcher import Answer, EventCopier, LedgerCopy, PoolSource, PoolWatcher
from parallel_hpo.config.section import HpoSection
from parallel_hpo.config.tables import Machines
from parallel_hpo.core.child_spec import ChildSetup
from parallel_hpo.core.errors import ConfigError, ExitCode, LedgerError, ParallelHPOError
from parallel_hpo.core.messages import SweepEnd
from parallel_hpo.core.notices import Message, Observer, SweepOpened
from parallel_hpo.core.pool_messages import AT_ONCE, NODE_TOKEN, POOL_KEY, POOL_URL, NewPool
from parallel_hpo.core.types import StopKind
from parallel_hpo.pickling.payload import to_text
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
    """Of the pool's runs in all, those of earlier counts included; None: no limit."""
    before: int
    """Runs of earlier counts."""
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

    The sweep's own `run_cap` counts where no count is given.
    What an empty ledger can't say of the sweep that is resumed, its pool does: the total.
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
"""Keys of the section that no node needs: what they are about is done at the head, or said otherwise."""
KEY_FILE: Final = "sweep.key"


@dataclass(frozen=True, slots=True)
class PoolAddress:
    """Where machines find the pool, and the sweep."""

    url: str
    key: str = field(repr=False)
    """Good for this sweep alone."""
    is_apart: bool
    """The sweep itself is on W&B's server."""
    login: Mapping[str, str] = field(default_factory=dict, repr=False)
    """By which nodes reach the sweep then."""

    @property
    def variables(self) -> dict[str, str]:
        """What a node's environment must have."""
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
    """Return the pool of a sweep; TargetError where `main` is too large to be sent to each machine."""
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
    """Return the keys that were given and that concern a node, as a configuration file has them."""
    given = section.model_dump(mode="json", exclude_unset=True)
    return {key: value for key, value in given.items() if key not in OF_THE_HEAD}


def node_command(
    sweep_id: str, place: PoolAddress, machine: ClusterMachine, token: str, *, grace_s: float
) -> NodeCommand:
    """Return what starts a node on a machine."""
    return NodeCommand(
        arguments=("-m", "parallel_hpo", "join", sweep_id, "--name", machine.name, "--once"),
        variables={**place.variables, NODE_TOKEN: token, HEAD_STDERR: open_file(STDERR)},
        grace_s=grace_s,
    )


def write_key(folder: Path, key: str) -> Path:
    """Keep a sweep's key for those who start nodes by hand, in a file that its owner alone may read."""
    path = folder / KEY_FILE
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch(mode=0o600)
    path.chmod(0o600)
    path.write_text(key + "\n")
    return path


def how_to_join(sweep_id: str, place: PoolAddress, key_file: Path) -> str:
    """Return the command by which another machine takes part; the key is not in it."""
    of_pool = {name: value for name, value in place.variables.items() if name not in place.login}
    words = [
        f"{name}={f'$(cat {key_file})' if value == place.key else value}" for name, value in of_pool.items()
    ]
    return " ".join([*words, "parallel-hpo join", sweep_id])


CREW_STOPS_IN_S: Final = 3.0
"""Nodes that were told to leave have gone; one that hangs is left to its engine, and to its own fence."""


@dataclass(frozen=True, slots=True)
class ClusterContext:
    """What a sweep on many machines is performed with."""

    setting: LaunchSettings
    machines: Machines
    sweep: OpenedSweep
    backend: Backend
    place: PoolAddress
    door: PoolSource
    ledger: LedgerCopy
    crew: NodeManager | None
    """None: machines come by themselves."""
    which: str
    """Which machines, in words."""
    reports: queue.SimpleQueue[CrewReport | Answer]
    patience: StopAware
    make_commands: Callable[[], Commands]
    surroundings: ChildSetup
    """The launch's own."""


class ClusterSweep:
    """One sweep on many machines, as its head sees it."""

    def __init__(self, theatre: ClusterContext) -> None:
        """Nothing is asked yet."""
        self._it = theatre
        self._setting = theatre.setting
        self._sweep_id = theatre.sweep.path.sweep_id
        self._folder = theatre.setting.folder_of(self._sweep_id)
        self._phantoms: tuple[str, ...] = ()

    def perform(self) -> SweepResult:
        """Return what became of the sweep; it is in `summary.json` by then, also after a fault of ours."""
        known = self._it.patience.call(self._it.door.facts)
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
        mirror = self._mirror(self._setting.observer)
        line = PoolWatcher(self._it.door, lambda: (mirror.last_event, mirror.last_notice), self._post)
        try:
            with CommandPipe(self._folder) as mailbox:
                ending = self._run(line, mailbox, mirror)
        except BaseException as error:
            reason = str(error) if isinstance(error, ParallelHPOError) else f"a fault of ours: {error}"
            line.close()
            self._let_go(reason)
            with suppress(LedgerError):  # where that is the fault, nothing can be said of the runs
                self._conclude(SweepEnd(reason, ExitCode.OUR_FAULT))
            raise
        return self._conclude(ending)

    def _post(self, answer: Answer) -> None:
        self._it.reports.put(answer)
        self._setting.control.ring()

    # --- before anything runs ----------------------------------------------------------

    def _catch_up(self) -> None:
        """Write what the pool knows and this ledger does not: all, where it is another machine's sweep."""
        mirror = self._mirror(lambda notice: None)
        while True:
            heard = mirror.last_event, mirror.last_notice
            news = self._it.patience.call(partial(self._it.door.news, *heard))
            mirror.take(news)
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
            *(self._setting, it.sweep, it.backend.name, count.total, count.asked, count.before),
            main_folder=self._folder,
            surroundings=it.surroundings,
        )
        it.ledger.record_facts({**launch.facts(it.ledger.facts), "machines": it.which})

    def _announce(self) -> None:
        it = self._it
        it.patience.call(lambda: it.door.create(self._new_pool()))
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
        self._setting.observer(Message(f"other machines take part by: {command}"))

    def _new_pool(self) -> NewPool:
        return new_pool(
            *(self._setting, self._it.sweep, self._count.total),
            is_apart=self._it.place.is_apart,
            node_timeout_s=self._it.machines.node_timeout_s,
        )

    # --- while it runs -----------------------------------------------------------------

    def _run(self, line: PoolWatcher, mailbox: CommandPipe, mirror: EventCopier) -> SweepEnd:
        it, setting = self._it, self._setting
        mirror.name_workers()
        if it.crew is not None:
            it.crew.begin(self._command_for)
        watched = ClusterTools(
            control=setting.control,
            mailbox=mailbox,
            line=line,
            mirror=mirror,
            observer=setting.observer,
            stop_crew=it.crew.stop if it.crew else None,
            reports=it.reports,
            grace_s=setting.section.grace_period_s,
        )
        ending = ClusterLoop(watched).run()
        it.patience.runs_are_over(ending.stop)
        if it.crew is not None:
            it.crew.stop_within(CREW_STOPS_IN_S)
        with suppress(StoppedError):
            self._finish(ending)
        return ending

    def _command_for(self, machine: ClusterMachine, token: str) -> NodeCommand:
        grace_s = self._setting.section.grace_period_s
        return node_command(self._sweep_id, self._it.place, machine, token, grace_s=grace_s)

    def _finish(self, ending: SweepEnd) -> None:
        """Finish a sweep of ours that is on W&B's server; on one of ours the pool has done so."""
        it = self._it
        if it.place.is_apart and should_finish(ending, it.ledger):
            it.patience.call(lambda: it.backend.finish_sweep(it.sweep.path))
        self._phantoms = find_phantoms(
            it.backend, it.sweep.path, it.ledger, ending, self._setting, it.patience
        )

    # --- the end -----------------------------------------------------------------------

    def _let_go(self, reason: str) -> None:
        """Have all machines leave after a fault of ours, as far as that can be done now."""
        ends = SweepEnd(f"a fault at the head: {reason}", ExitCode.OUR_FAULT, StopKind.INTERRUPT)
        with suppress(ParallelHPOError):
            self._it.door.stop(ends)
        if self._it.crew is not None:
            self._it.crew.stop_within(CREW_STOPS_IN_S)

    def _mirror(self, observer: Observer) -> EventCopier:
        return EventCopier(self._it.ledger, self._sweep_id, observer)

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
