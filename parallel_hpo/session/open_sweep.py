"""Announces, runs and concludes a sweep that is open on its server and has its ledger. Called by `setup` and
`node`.

At the end, runs that the server counts as running though no worker started them ("phantoms") are named.
"""

from __future__ import annotations

import queue
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from parallel_hpo.analysis.result import SweepConclusion, SweepResult, summarise, write_summary
from parallel_hpo.client.base import Backend, OpenedSweep
from parallel_hpo.config.tables import words_of
from parallel_hpo.core.child_spec import ChildSetup, WorkerSpec
from parallel_hpo.core.errors import ExitCode, LedgerError, NoRoomError, ParallelHPOError
from parallel_hpo.core.messages import SweepEnd
from parallel_hpo.core.notices import MemoryUsed, Message, OutputLine, SweepOpened, SweepOver, shows_memory
from parallel_hpo.core.types import Outcome, StopKind, SweepPath
from parallel_hpo.count.policy import FailureLimits
from parallel_hpo.devices.placing import SweepDevices
from parallel_hpo.devices.sharing import DevicePresence
from parallel_hpo.devices.users import UserWatch
from parallel_hpo.processes.environment import worker_environment
from parallel_hpo.processes.output import OutputPump, worker_folder
from parallel_hpo.processes.pool import ChildPool
from parallel_hpo.processes.reaper import MemoryWatch
from parallel_hpo.records.ledger import Ledger
from parallel_hpo.records.reader import RunRow
from parallel_hpo.session.commands import Commands
from parallel_hpo.session.count import Count, LocalCount
from parallel_hpo.session.decide.state import SlotView, SweepView, open_view
from parallel_hpo.session.hooks import FailureHandler, notify_end
from parallel_hpo.session.launch_record import (
    LaunchRecord,
    LaunchSettings,
    announce_new_count,
    count_before,
    warn_if_paused,
)
from parallel_hpo.session.loop import Answer, Answers, Loop
from parallel_hpo.session.measuring import LoopContext, StallDetector
from parallel_hpo.session.membership import RemoteCount
from parallel_hpo.session.planning import limits_of, shares_of
from parallel_hpo.session.resume import counted_before, read_earlier, waiting_run
from parallel_hpo.session.server_calls import ServerCalls, catch_up
from parallel_hpo.session.signals import CommandPipe, Control
from parallel_hpo.session.waiting import StopAware, StoppedError


@dataclass(frozen=True, slots=True)
class EndedSweep:
    """Facts of an ended sweep that its ledger does not hold."""

    opened: OpenedSweep
    backend: str
    folder: Path
    count: int | None
    phantoms: tuple[str, ...]
    is_part: bool = False
    """Other machines have runs of it that are not in this ledger."""


def conclude(ledger: Ledger, ending: SweepEnd, setting: LaunchSettings, ended: EndedSweep) -> SweepResult:
    """Return the sweep's result, after writing it into the ledger and `summary.json`."""
    runs = [_with_outcome(row, ending) for row in ledger.runs()]
    exit_code = exit_code_of(ending, runs, metric=None if ended.is_part else ended.opened.metric)
    try:
        # This waits for the disk, so the ends recorded before survive a power cut too.
        ledger.record_facts({"stop_reason": ending.reason, "exit_code": exit_code})
    except NoRoomError as error:
        setting.observer(Message(f"{error}: the sweep's end is not in it", warning=True))
    closing = SweepConclusion(
        sweep_id=ended.opened.path.sweep_id,
        sweep_url=ended.opened.url,
        backend=ended.backend,
        count=ended.count,
        stop_reason=ending.reason,
        exit_code=exit_code,
        duration_s=setting.clock() - setting.began,
        phantoms=ended.phantoms,
        metric=ended.opened.metric,
        goal=ended.opened.goal,
        folder=str(ended.folder),
    )
    result = summarise(runs, ledger.workers(), closing, machines=ledger.machines())
    try:
        write_summary(result, ended.folder / "summary.json")
    except OSError as error:  # `status` and `--resume` read the ledger instead
        setting.observer(Message(f"the summary could not be written: {error}", warning=True))
    setting.observer(SweepOver(result.exit_code))
    return result


def exit_code_of(ending: SweepEnd, runs: Sequence[RunRow], *, metric: str | None) -> int:
    """Return a sweep's exit code; NO_RUN_FINISHED if a complete sweep has no value of its metric."""
    if ending.exit_code != ExitCode.COMPLETE or metric is None or not runs:
        return ending.exit_code
    has_value = any(run.outcome is Outcome.FINISHED and run.value is not None for run in runs)
    return ExitCode.COMPLETE if has_value else ExitCode.NO_RUN_FINISHED


def should_finish(ending: SweepEnd, ledger: Ledger) -> bool:
    """Return whether to set the sweep to finished: we created it, and all its runs have ended."""
    done = ending.stop is None and ending.exit_code != ExitCode.FAILURE_POLICY
    return done and bool(ledger.facts["created"])


def _with_outcome(row: RunRow, ending: SweepEnd) -> RunRow:
    """Return a run as stopped if its end could not be recorded; `--resume` runs it again."""
    if row.outcome is not None or ending.stop is None:
        return row
    return replace(row, outcome=Outcome.STOPPED, reason=f"{ending.reason}; its end could not be recorded")


def cut_short(control: Control, stop: StopKind) -> SweepEnd:
    """Return the ending by the latest stop."""
    asked = control.take()[-1]
    return SweepEnd(asked.reason, asked.exit_code, stop)


def find_phantoms(
    backend: Backend,
    path: SweepPath,
    ledger: Ledger,
    ending: SweepEnd,
    setting: LaunchSettings,
    patience: StopAware,
) -> tuple[str, ...]:
    """Return, with a warning, runs that the server counts as running though no worker started them.

    Raises:
        StoppedError: a stop left no time to ask.
    """
    if ending.stop is StopKind.KILL or not ledger.facts["created"] or setting.share:
        return ()
    known = {row.run_id for row in ledger.runs()}
    try:
        found = tuple(patience.call(lambda: backend.phantoms(path, known)))
    except ParallelHPOError as error:
        words = f"can't ask the server for runs that no worker started: {error}"
        setting.observer(Message(words, warning=True))
        return ()
    if found:
        words = f"the server lists runs of the sweep that no worker started: {', '.join(found)}"
        setting.observer(Message(words, warning=True))
    return found


ACTIVITY_PARTS: Final = 4
"""Activity reports per stall timeout."""
PROGRESS_PER_S: Final = 50
"""Maximum progress reports per second, of all workers."""


class OpenSweep:
    """One launch of a sweep."""

    def __init__(
        self,
        setting: LaunchSettings,
        backend: Backend,
        children: ChildPool,
        opened: OpenedSweep,
        ledger: Ledger,
        surroundings: ChildSetup,
        equipment: SweepDevices,
        patience: StopAware,
        make_commands: Callable[[], Commands],
        remote: RemoteCount | None = None,
    ) -> None:
        """`remote` is the count of a sweep on many machines; None: it is counted here."""
        self._setting = setting
        self._backend = backend
        self._children = children
        self._opened = opened
        self._ledger = ledger
        self._surroundings = surroundings
        self._equipment = equipment
        self._patience = patience
        self._make_commands = make_commands
        self._remote = remote
        self._workers = equipment.workers
        self._phantoms: tuple[str, ...] = ()
        self._earlier = read_earlier(ledger.runs())
        self._before = count_before(ledger.facts, self._earlier, goes_on=setting.goes_on)
        self._asked = setting.asked_count(ledger.facts, before=self._before)
        announce_new_count(self._asked, setting.observer)
        self._count = None if self._asked.count is None else self._before + self._asked.count
        self._folder = setting.folder_of(opened.path.sweep_id)
        self._sweep_folder = setting.section.directory / opened.path.sweep_id

    def perform(self) -> SweepResult:
        """Run the sweep and return its result, after writing `summary.json`, even after a bug of ours."""
        marks = self._ledger.facts.get("marks", [])
        self._record()
        self._announce()
        warn_if_paused(self._opened, self._setting.section.directory, self._setting.observer)
        try:
            with CommandPipe(self._folder) as command_pipe:
                ending = self._run(marks, command_pipe)
        except BaseException as error:
            reason = str(error) if isinstance(error, ParallelHPOError) else f"internal error: {error}"
            with suppress(LedgerError):  # if the ledger failed, there is no summary
                self._conclude(SweepEnd(reason, ExitCode.OUR_FAULT))
            raise
        return self._conclude(ending)

    def _record(self) -> None:
        launch = LaunchRecord(
            setting=self._setting,
            opened=self._opened,
            backend=self._backend.name,
            count=self._count,
            asked=self._asked,
            before=self._before,
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
                backend=self._backend.title,
                count=count,
                workers=self._workers,
                shares=shares_of(count, self._workers),
                folder=str(self._folder),
                metric=self._opened.metric,
                goal=self._opened.goal,
                method=str(self._opened.configuration.get("method", "")),
            )
        )

    def _run(self, marks: list[str], command_pipe: CommandPipe) -> SweepEnd:
        setting = self._setting
        count: Count = self._remote or self._count_here()
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
        other_users = self._equipment.other_users().look if setting.section.polite else dict
        seen = other_users()
        memory = MemoryWatch(lambda slot, used_mb: setting.observer(MemoryUsed(slot, used_mb)))
        if shows_memory(setting.observer):
            memory.start()
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
        wall = time.time() - setting.clock()
        pool = counted_before(
            self._ledger,
            earlier,
            count=self._count,
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
            now=lambda: wall + setting.clock(),
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
            patience=self._patience,
            stall_detector=StallDetector(setting.clock, setting.observer, self._folder),
            failure_handler=FailureHandler(
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
        )

    def _conduct(self, loop: Loop, tools: LoopContext) -> SweepEnd:
        """Run the loop, then flush records and reports to the server."""
        try:
            ending = loop.run()
        except StoppedError:
            ending = loop.view.ending or cut_short(tools.control, StopKind.KILL)
            self._flush(tools.count, ending)
            return ending
        self._patience.runs_are_over(ending.stop)
        self._flush(tools.count, ending)
        try:
            if should_finish(ending, self._ledger):
                tools.server_calls.finish_sweep()
            tools.server_calls.flush(self._patience)  # its calls are children too
            self._patience.call(tools.failure_handler.finish)
            self._phantoms = find_phantoms(
                self._backend, self._opened.path, self._ledger, ending, self._setting, self._patience
            )
        except StoppedError:
            return ending if ending.stop else cut_short(tools.control, StopKind.INTERRUPT)
        return ending

    def _flush(self, count: Count, ending: SweepEnd) -> None:
        with suppress(StoppedError):
            count.flush(self._patience)
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

    def _conclude(self, ending: SweepEnd) -> SweepResult:
        ended = EndedSweep(
            opened=self._opened,
            backend=self._backend.name,
            folder=self._folder,
            count=self._count,
            phantoms=self._phantoms,
            is_part=self._remote is not None,
        )
        result = conclude(self._ledger, ending, self._setting, ended)
        notify_end(result, self._setting, self._make_commands())
        return result
