"""A sweep on many machines that is open on its server: its pool, its announcement, its course, its end.

What `supervisor/open_sweep.py` is for one machine. Nothing runs here: what runs is the machines', and what
is known of it the pool's.
"""

from __future__ import annotations

import queue
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Final

from parallel_hpo.backend.base import Backend, OpenedSweep
from parallel_hpo.config.tables import Machines
from parallel_hpo.errors import ConfigError, ExitCode, LedgerError, ParallelHPOError
from parallel_hpo.head.counting import PoolCount, count_runs
from parallel_hpo.head.crew import Crew, CrewReport
from parallel_hpo.head.line import Answer, HeadDoor, HeadLine
from parallel_hpo.head.loop import HeadLoop, HeadTools
from parallel_hpo.head.mirror import Mirror
from parallel_hpo.head.offer import PoolPlace, how_to_join, new_pool, node_command, write_key
from parallel_hpo.machines.base import FoundMachine, NodeCommand
from parallel_hpo.notices import Message, Observer, SweepOpened
from parallel_hpo.protocol.ends import Ending
from parallel_hpo.protocol.pool import AT_ONCE, NewPool
from parallel_hpo.protocol.spec import Surroundings
from parallel_hpo.supervisor.commands import Commands
from parallel_hpo.supervisor.conclusion import EndedSweep, conclude, find_phantoms, is_to_be_finished
from parallel_hpo.supervisor.control.mailbox import Mailbox
from parallel_hpo.supervisor.control.patience import Patience, StoppedError
from parallel_hpo.supervisor.noted_launch import NotedLaunch, say_if_paused, say_where_it_differs
from parallel_hpo.supervisor.on_end import tell_of_end
from parallel_hpo.supervisor.records.mirror import MirrorLedger
from parallel_hpo.supervisor.records.summary import SweepResult
from parallel_hpo.supervisor.setting import Setting
from parallel_hpo.words import StopKind

CREW_STOPS_IN_S: Final = 3.0
"""Nodes that were told to leave have gone; one that hangs is left to its engine, and to its own fence."""


@dataclass(frozen=True, slots=True)
class Theatre:
    """What a sweep on many machines is performed with."""

    setting: Setting
    machines: Machines
    sweep: OpenedSweep
    backend: Backend
    place: PoolPlace
    door: HeadDoor
    ledger: MirrorLedger
    crew: Crew | None
    """None: machines come by themselves."""
    which: str
    """Which machines, in words."""
    reports: queue.SimpleQueue[CrewReport | Answer]
    patience: Patience
    make_commands: Callable[[], Commands]
    surroundings: Surroundings
    """The launch's own."""


class PooledSweep:
    """One sweep on many machines, as its head sees it."""

    def __init__(self, theatre: Theatre) -> None:
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
        say_if_paused(self._it.sweep, self._setting.section.directory, self._setting.observer)
        mirror = self._mirror(self._setting.observer)
        line = HeadLine(self._it.door, lambda: (mirror.last_event, mirror.last_notice), self._post)
        try:
            with Mailbox(self._folder) as mailbox:
                ending = self._run(line, mailbox, mirror)
        except BaseException as error:
            reason = str(error) if isinstance(error, ParallelHPOError) else f"a fault of ours: {error}"
            line.close()
            self._let_go(reason)
            with suppress(LedgerError):  # where that is the fault, nothing can be said of the runs
                self._conclude(Ending(reason, ExitCode.OUR_FAULT))
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
        say_where_it_differs(count.asked, setting.observer)
        return count

    def _record(self) -> None:
        it, count = self._it, self._count
        launch = NotedLaunch(
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
                backend=it.backend.name,
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

    def _run(self, line: HeadLine, mailbox: Mailbox, mirror: Mirror) -> Ending:
        it, setting = self._it, self._setting
        mirror.name_workers()
        if it.crew is not None:
            it.crew.begin(self._command_for)
        watched = HeadTools(
            control=setting.control,
            mailbox=mailbox,
            line=line,
            mirror=mirror,
            observer=setting.observer,
            stop_crew=it.crew.stop if it.crew else None,
            reports=it.reports,
            grace_s=setting.section.grace_period_s,
        )
        ending = HeadLoop(watched).run()
        it.patience.runs_are_over(ending.stop)
        if it.crew is not None:
            it.crew.stop_within(CREW_STOPS_IN_S)
        with suppress(StoppedError):
            self._finish(ending)
        return ending

    def _command_for(self, machine: FoundMachine, token: str) -> NodeCommand:
        grace_s = self._setting.section.grace_period_s
        return node_command(self._sweep_id, self._it.place, machine, token, grace_s=grace_s)

    def _finish(self, ending: Ending) -> None:
        """Finish a sweep of ours that is on W&B's server; on one of ours the pool has done so."""
        it = self._it
        if it.place.is_apart and is_to_be_finished(ending, it.ledger):
            it.patience.call(lambda: it.backend.finish_sweep(it.sweep.path))
        self._phantoms = find_phantoms(
            it.backend, it.sweep.path, it.ledger, ending, self._setting, it.patience
        )

    # --- the end -----------------------------------------------------------------------

    def _let_go(self, reason: str) -> None:
        """Have all machines leave after a fault of ours, as far as that can be done now."""
        ends = Ending(f"a fault at the head: {reason}", ExitCode.OUR_FAULT, StopKind.INTERRUPT)
        with suppress(ParallelHPOError):
            self._it.door.stop(ends)
        if self._it.crew is not None:
            self._it.crew.stop_within(CREW_STOPS_IN_S)

    def _mirror(self, observer: Observer) -> Mirror:
        return Mirror(self._it.ledger, self._sweep_id, observer)

    def _conclude(self, ending: Ending) -> SweepResult:
        ended = EndedSweep(
            opened=self._it.sweep,
            backend=self._it.backend.name,
            folder=self._folder,
            count=self._count.total,
            phantoms=self._phantoms,
        )
        result = conclude(self._it.ledger, ending, self._setting, ended)
        tell_of_end(result, self._setting, self._it.make_commands())
        return result
