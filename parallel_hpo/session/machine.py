"""Runs a sweep's runs on this machine, alone or as a node of many. Called by `setup` and `node`."""

from __future__ import annotations

import queue
import random
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Final

from parallel_hpo.config.tables import words_of
from parallel_hpo.core.child_spec import WorkerSpec
from parallel_hpo.core.messages import SweepEnd
from parallel_hpo.core.notices import MemoryUsed, OutputLine, RunProgressed, shows_memory
from parallel_hpo.core.types import Program, StopKind
from parallel_hpo.count.policy import FailureLimits
from parallel_hpo.devices.sharing import DevicePresence
from parallel_hpo.devices.users import UserWatch
from parallel_hpo.processes.environment import worker_environment
from parallel_hpo.processes.output import OutputPump, worker_folder
from parallel_hpo.processes.reaper import MemoryWatch
from parallel_hpo.records.ledger import Ledger
from parallel_hpo.session.count import Count, LocalCount
from parallel_hpo.session.decide.state import SlotView, SweepView, open_view
from parallel_hpo.session.hooks import FailureHandler
from parallel_hpo.session.loop import Answer, Answers, Loop
from parallel_hpo.session.measuring import LoopContext, StallDetector
from parallel_hpo.session.membership import RemoteCount
from parallel_hpo.session.planning import limits_of, shares_of
from parallel_hpo.session.program_steps import ProgramSteps
from parallel_hpo.session.resume import counted_before, waiting_run
from parallel_hpo.session.server_calls import ServerCalls, catch_up
from parallel_hpo.session.signals import CommandPipe, Control
from parallel_hpo.session.sweep import PreparedSweep, SweepSession
from parallel_hpo.session.waiting import StoppedError

ACTIVITY_PARTS: Final = 4
"""Activity reports per stall timeout."""
PROGRESS_PER_S: Final = 50
"""Maximum progress reports per second, of all workers."""


class MachineSession(SweepSession):
    """One launch of a sweep on this machine, alone or as a node of many."""

    def __init__(self, there: PreparedSweep, ledger: Ledger, remote: RemoteCount | None = None) -> None:
        """`remote` is the count of a sweep on many machines; None: it is counted here."""
        super().__init__(there, ledger)
        self.is_part = remote is not None
        self._remote = remote
        self._children = there.children
        self._surroundings = there.surroundings
        self._equipment = there.equipment
        self._workers = there.equipment.workers

    def _announce(self) -> None:
        self._notify_opened(workers=self._workers, shares=shares_of(self._count.total, self._workers))

    def _run(self, command_pipe: CommandPipe) -> SweepEnd:
        setting = self._setting
        count: Count = self._remote or self._count_here()
        answers: Answers = queue.SimpleQueue()

        def post(seen: Answer) -> None:
            answers.put(seen)
            setting.control.ring()

        server_calls = ServerCalls(
            self._backend, self._sweep.path, folder=self._folder, observer=setting.observer, post=post
        )
        catch_up(server_calls, self._marks, self._earlier, self._folder, self._ledger.last_starts)
        pump = OutputPump(self._folder, lambda slot, text: setting.observer(OutputLine(slot, text)))
        pump.start()
        other_users = self._equipment.other_users().look if setting.section.polite else dict
        seen = other_users()
        memory = MemoryWatch(lambda slot, used_mb: setting.observer(MemoryUsed(slot, used_mb)))
        steps = ProgramSteps(
            partial(self._backend.steps, self._sweep.path),
            lambda slot, progress: setting.observer(RunProgressed(slot, progress)),
        )
        if shows_memory(setting.observer):
            memory.start()
            if isinstance(setting.main, Program):
                steps.start()
        watch = UserWatch(other_users, post, seen=seen)
        if setting.section.polite:
            watch.start()
        tools = self._equip(count, server_calls, pump, memory, command_pipe)
        try:
            return self._conduct(Loop(self._open_view(seen), tools, answers), tools)
        finally:
            self._children.close()
            pump.close()
            memory.close()
            steps.close()
            watch.close()
            tools.failure_handler.give_up()
            server_calls.close()

    def _open_view(self, seen: Mapping[str, str]) -> SweepView:
        """Return the view at the start; `seen` are other users of devices."""
        return open_view(
            limits_of(self._setting.section),
            self._workers,
            devices=self._equipment.names,
            occupancy=self._equipment.occupancy,
            presence=DevicePresence(seen),
            has_others=self._remote is not None,
        )

    def _count_here(self) -> LocalCount:
        """Return the count of a sweep on this machine, with what earlier launches have done."""
        setting, earlier = self._setting, self._earlier
        clock = setting.control.clock
        wall = time.time() - clock()
        pool = counted_before(
            self._ledger,
            earlier,
            count=self._count.total,
            opened_at=wall + setting.began,
            limits=FailureLimits(**setting.section.failures.model_dump()),
            sweep_timeout_s=setting.section.sweep_timeout_s,
            deadline=setting.section.deadline,
        )
        return LocalCount(
            self._ledger,
            pool,
            map(waiting_run, earlier.reruns),
            workers=self._workers,
            now=lambda: wall + clock(),
            control=setting.control,
            observer=setting.observer,
        )

    def _equip(
        self,
        count: Count,
        server_calls: ServerCalls,
        pump: OutputPump,
        memory: MemoryWatch,
        command_pipe: CommandPipe,
    ) -> LoopContext:
        setting = self._setting
        return LoopContext(
            children=self._children,
            count=count,
            server_calls=server_calls,
            pump=pump,
            memory=memory,
            control=setting.control,
            command_pipe=command_pipe,
            waits=self._waits,
            stall_detector=StallDetector(setting.control.clock, setting.observer, self._folder),
            failure_handler=FailureHandler(
                self._sweep_folder,
                words_of(setting.section.on_failure or ()),
                commands=self._commands(),
                observer=setting.observer,
            ),
            observer=setting.observer,
            make_spec=self._make_spec,
            devices=self._equipment.watch,
            meter=self._equipment.meter,
            owner_id=setting.owner_id,
            clock=setting.control.clock,
            jitter=random.random,
        )

    def _conduct(self, loop: Loop, tools: LoopContext) -> SweepEnd:
        """Run the loop, then flush records and reports to the server."""
        try:
            ending = loop.run()
        except StoppedError:
            ending = loop.view.ending or cut_short(tools.control, StopKind.KILL)
            self._flush(tools.count, ending)
            return ending
        self._waits.runs_have_ended(ending.stop)
        self._flush(tools.count, ending)
        try:
            if self._should_finish(ending):
                tools.server_calls.finish_sweep()
            tools.server_calls.flush(self._waits)  # its calls are children too
            self._waits.call(tools.failure_handler.finish)
            self._find_phantoms(ending)
        except StoppedError:
            return ending if ending.stop else cut_short(tools.control, StopKind.INTERRUPT)
        return ending

    def _flush(self, count: Count, ending: SweepEnd) -> None:
        with suppress(StoppedError):
            count.flush(self._waits)
        count.conclude(ending)

    def _make_spec(self, view: SlotView, label: str) -> WorkerSpec:
        slot = view.slot
        home = worker_folder(self._folder, slot)
        home.mkdir(parents=True, exist_ok=True)
        environment = worker_environment(
            self._surroundings.environment,
            self._backend.client_environment(label),
            slot=slot,
            workers=self._workers,
            sweep_id=self._sweep.path.sweep_id,
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
            path=self._sweep.path,
            main=self._setting.main,
            metric=self._sweep.metric,
            goal=self._sweep.goal,
            keep_login=self._backend.keeps_login,
            activity_every_s=None if stall_s is None else stall_s / ACTIVITY_PARTS,
            progress_every_s=max(1.0, self._workers / PROGRESS_PER_S),
            seed_parameter=self._setting.section.seed_parameter,
        )


def cut_short(control: Control, stop: StopKind) -> SweepEnd:
    """Return the ending by the latest stop."""
    asked = control.take()[-1]
    return SweepEnd(asked.reason, asked.exit_code, stop)
