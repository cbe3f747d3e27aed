"""A sweep that is open on its server and has its ledger: announce it, run it, conclude it."""

from __future__ import annotations

import queue
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Final

from parallel_hpo.backend.base import Backend, OpenedSweep
from parallel_hpo.config.hooks import words_of
from parallel_hpo.errors import ExitCode, LedgerError, ParallelHPOError
from parallel_hpo.notices import MemoryUsed, OutputLine, SweepOpened, shows_memory
from parallel_hpo.protocol.ends import Ending
from parallel_hpo.protocol.spec import Surroundings, WorkerSpec
from parallel_hpo.supervisor.commands import Commands
from parallel_hpo.supervisor.conclusion import (
    EndedSweep,
    conclude,
    cut_short,
    find_phantoms,
    is_to_be_finished,
)
from parallel_hpo.supervisor.control.mailbox import Mailbox
from parallel_hpo.supervisor.control.patience import Patience, StoppedError
from parallel_hpo.supervisor.decisions.view import PoolGrant, SlotView, SweepView, open_view
from parallel_hpo.supervisor.devices.equipment import Equipment
from parallel_hpo.supervisor.devices.owners import OwnerWatch
from parallel_hpo.supervisor.devices.presence import Presence
from parallel_hpo.supervisor.loop import Answer, Answers, Loop
from parallel_hpo.supervisor.membership.membership import Membership
from parallel_hpo.supervisor.noted_launch import (
    NotedLaunch,
    count_before,
    say_if_paused,
    say_where_it_differs,
)
from parallel_hpo.supervisor.on_end import tell_of_end
from parallel_hpo.supervisor.on_failure import Aftermath
from parallel_hpo.supervisor.planning import limits_of, shares_of
from parallel_hpo.supervisor.processes.child_pool import ChildPool
from parallel_hpo.supervisor.processes.environment import worker_environment
from parallel_hpo.supervisor.processes.memory import MemoryWatch
from parallel_hpo.supervisor.processes.output import OutputPump, worker_folder
from parallel_hpo.supervisor.records.ledger import Ledger
from parallel_hpo.supervisor.records.recorder import Recorder
from parallel_hpo.supervisor.records.resuming import read_earlier
from parallel_hpo.supervisor.records.summary import SweepResult
from parallel_hpo.supervisor.server_calls import ServerCalls, catch_up
from parallel_hpo.supervisor.setting import Setting
from parallel_hpo.supervisor.siblings import Siblings
from parallel_hpo.supervisor.standstill import Standstill
from parallel_hpo.supervisor.tools import Tools
from parallel_hpo.words import StopKind

ACTIVITY_PARTS: Final = 4
"""A worker says so often within the stall time-out that its run logs."""
PROGRESS_PER_S: Final = 50
"""All workers together say so often at the most how far their runs are."""


class OpenSweep:
    """One sweep, as this supervisor performs it."""

    def __init__(
        self,
        setting: Setting,
        backend: Backend,
        children: ChildPool,
        opened: OpenedSweep,
        ledger: Ledger,
        surroundings: Surroundings,
        equipment: Equipment,
        patience: Patience,
        make_commands: Callable[[], Commands],
        membership: Membership | None = None,
    ) -> None:
        """`membership` is in the pool that the sweep's runs are drawn from, where it has one."""
        self._setting = setting
        self._backend = backend
        self._children = children
        self._opened = opened
        self._ledger = ledger
        self._surroundings = surroundings
        self._equipment = equipment
        self._patience = patience
        self._make_commands = make_commands
        self._membership = membership
        self._workers = equipment.workers
        self._phantoms: tuple[str, ...] = ()
        self._earlier = read_earlier(ledger.runs())
        self._before = count_before(ledger.facts, self._earlier, goes_on=setting.goes_on)
        self._asked = setting.asked_count(ledger.facts, before=self._before)
        say_where_it_differs(self._asked, setting.observer)
        self._count = None if self._asked.count is None else self._before + self._asked.count
        self._folder = setting.folder_of(opened.path.sweep_id)
        self._sweep_folder = setting.section.directory / opened.path.sweep_id

    def perform(self) -> SweepResult:
        """Return what became of the sweep; it is in `summary.json` by then, also after a fault of ours."""
        marks = self._ledger.facts.get("marks", [])
        self._record()
        self._announce()
        say_if_paused(self._opened, self._setting.section.directory, self._setting.observer)
        try:
            with Mailbox(self._folder) as mailbox:
                ending = self._run(marks, mailbox)
        except BaseException as error:
            reason = str(error) if isinstance(error, ParallelHPOError) else f"a fault of ours: {error}"
            with suppress(LedgerError):  # where that is the fault, nothing can be said of the runs
                self._conclude(Ending(reason, ExitCode.OUR_FAULT))
            raise
        return self._conclude(ending)

    def _record(self) -> None:
        launch = NotedLaunch(
            *(self._setting, self._opened, self._backend.name, self._count, self._asked, self._before),
            main_folder=self._sweep_folder,
            surroundings=self._surroundings,
        )
        self._ledger.record_facts(launch.facts(self._ledger.facts))

    def _announce(self) -> None:
        count = self._count
        self._setting.observer(
            SweepOpened(
                path=self._opened.path,
                url=self._backend.address_for_people(self._opened.url),
                backend=self._backend.name,
                count=count,
                workers=self._workers,
                shares=shares_of(count, self._workers),
                folder=str(self._folder),
                metric=self._opened.metric,
                goal=self._opened.goal,
                method=str(self._opened.configuration.get("method", "")),
            )
        )

    def _run(self, marks: list[str], mailbox: Mailbox) -> Ending:
        setting = self._setting
        answers: Answers = queue.SimpleQueue()

        def post(seen: Answer) -> None:
            answers.put(seen)
            setting.control.ring()

        server_calls = ServerCalls(
            self._backend, self._opened.path, folder=self._folder, observer=setting.observer, post=post
        )
        catch_up(server_calls, marks, self._earlier, self._folder, self._ledger.last_starts)
        pump = OutputPump(self._folder, lambda slot, text: setting.observer(OutputLine(slot, text)))
        pump.start()
        owners = self._equipment.owners().look if setting.section.polite else dict
        seen = owners()
        memory = MemoryWatch(lambda slot, used_mb: setting.observer(MemoryUsed(slot, used_mb)))
        if shows_memory(setting.observer):
            memory.start()
        watch = OwnerWatch(owners, post, seen=seen)
        if setting.section.polite:
            watch.start()
        tools = self._equip(server_calls, pump, memory, mailbox)
        if self._membership is not None:
            self._membership.listen(post)
        try:
            return self._conduct(Loop(self._open_view(seen), tools, answers), tools)
        finally:
            self._children.close()
            pump.close()
            memory.close()
            watch.close()
            tools.aftermath.give_up()
            server_calls.close()

    def _open_view(self, seen: Mapping[str, str]) -> SweepView:
        """Return what is known at the beginning; `seen` are the owners of devices."""
        setting, earlier = self._setting, self._earlier
        return open_view(
            replace(limits_of(setting.section), count=self._count),
            self._workers,
            devices=self._equipment.names,
            started=earlier.started,
            reruns=earlier.reruns,
            failures=earlier.failures,
            occupancy=self._equipment.occupancy,
            presence=Presence(seen),
            took=earlier.took,
            deadline_at=setting.deadline_at(time.time()),
            grant=None if self._membership is None else PoolGrant(),
        )

    def _equip(
        self, server_calls: ServerCalls, pump: OutputPump, memory: MemoryWatch, mailbox: Mailbox
    ) -> Tools:
        setting = self._setting
        return Tools(
            children=self._children,
            recorder=Recorder(self._ledger, control=setting.control, observer=setting.observer),
            server_calls=server_calls,
            pump=pump,
            memory=memory,
            control=setting.control,
            mailbox=mailbox,
            patience=self._patience,
            standstill=Standstill(setting.clock, setting.observer, self._folder),
            siblings=Siblings(
                self._backend,
                self._opened.path,
                directory=setting.section.directory,
                mark=setting.mark,
            ),
            aftermath=Aftermath(
                self._sweep_folder,
                words_of(setting.section.on_failure or ()),
                commands=self._make_commands(),
                observer=setting.observer,
            ),
            observer=setting.observer,
            make_spec=self._make_spec,
            devices=self._equipment.watch,
            meter=self._equipment.meter,
            mark=setting.mark,
            clock=setting.clock,
            jitter=setting.jitter,
            membership=self._membership,
        )

    def _conduct(self, loop: Loop, tools: Tools) -> Ending:
        """Perform the runs, and write and tell what is to be known of their ends."""
        try:
            ending = loop.run()
        except StoppedError:
            tools.recorder.settle(self._patience)
            return loop.view.ending or cut_short(tools.control, StopKind.KILL)
        self._patience.runs_are_over(ending.stop)
        tools.recorder.settle(self._patience)
        try:
            if is_to_be_finished(ending, self._ledger):
                tools.server_calls.finish_sweep()
            tools.server_calls.settle(self._patience)  # its calls are children too
            if self._membership is not None:
                self._membership.settle(self._patience)
            self._patience.call(tools.aftermath.finish)
            self._phantoms = find_phantoms(
                self._backend, self._opened.path, self._ledger, ending, self._setting, self._patience
            )
        except StoppedError:
            return ending if ending.stop else cut_short(tools.control, StopKind.INTERRUPT)
        return ending

    def _make_spec(self, view: SlotView, label: str) -> WorkerSpec:
        slot = view.slot
        home = worker_folder(self._folder, slot)
        home.mkdir(parents=True, exist_ok=True)
        environment = worker_environment(
            self._surroundings.environment,
            self._backend.client_environment(label),
            slot=slot,
            workers=self._workers,
            sweep_id=self._opened.path.sweep_id,
            wandb_dir=str(home),
            device=self._equipment.variables(slot, view.device),
        )
        stall_s = self._setting.section.stall_timeout_s
        return WorkerSpec(
            surroundings=replace(
                self._surroundings,
                environment=environment,
                cpus=self._equipment.cpus(view.device),
                polite=self._setting.section.polite,
            ),
            slot=slot,
            path=self._opened.path,
            main=self._setting.main,
            metric=self._opened.metric,
            goal=self._opened.goal,
            keep_login=self._backend.keeps_login,
            activity_every_s=None if stall_s is None else stall_s / ACTIVITY_PARTS,
            progress_every_s=max(1.0, self._workers / PROGRESS_PER_S),
            seed_parameter=self._setting.section.seed_parameter,
        )

    def _conclude(self, ending: Ending) -> SweepResult:
        ended = EndedSweep(
            opened=self._opened,
            backend=self._backend.name,
            folder=self._folder,
            count=self._count,
            phantoms=self._phantoms,
            is_part=self._membership is not None,
        )
        result = conclude(self._ledger, ending, self._setting, ended)
        tell_of_end(result, self._setting, self._make_commands())
        return result
