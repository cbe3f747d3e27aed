"""One launch of a sweep, from its opened sweep to its result: recorded, announced, run, concluded.

    setup ─▶ SweepSession.perform ─▶ record ▸ announce ▸ _run ▸ conclude: ledger, summary.json, on_end

`machine.MachineSession` runs the sweep's runs here, `cluster.session.ClusterSession` on many machines.
At the end, runs that the server counts as running though no worker started them ("phantoms") are named.
"""

from __future__ import annotations

import os
import shlex
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Final

from parallel_hpo.analysis.result import SweepConclusion, SweepResult, summarise, write_summary
from parallel_hpo.client.base import Backend, OpenedSweep
from parallel_hpo.core.child_spec import ChildSetup
from parallel_hpo.core.errors import ExitCode, LedgerError, NoRoomError, ParallelHPOError
from parallel_hpo.core.folders import find_directory
from parallel_hpo.core.messages import SweepEnd
from parallel_hpo.core.notices import Message, SweepOpened, SweepOver
from parallel_hpo.core.types import Outcome, StopKind
from parallel_hpo.devices.placing import SweepDevices
from parallel_hpo.pickling.main import note_main
from parallel_hpo.processes.environment import secrets_of
from parallel_hpo.processes.pool import ChildPool
from parallel_hpo.records.ledger import Ledger
from parallel_hpo.records.reader import RunRow
from parallel_hpo.session.hooks import Commands, notify_end
from parallel_hpo.session.membership import versions_here
from parallel_hpo.session.resume import read_earlier
from parallel_hpo.session.settings import LaunchSettings
from parallel_hpo.session.signals import CommandPipe
from parallel_hpo.session.waiting import StopAware

VERSIONS: Final = "versions"
"""The fact that has the versions which the last launch was made with."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PreparedSweep:
    """A sweep that is open on its server, and all that is needed to run it."""

    setting: LaunchSettings
    sweep: OpenedSweep
    backend: Backend
    children: ChildPool
    equipment: SweepDevices
    surroundings: ChildSetup
    """The setup that all children share."""
    users_environment: Mapping[str, str] = field(repr=False)
    """The environment of the user's own commands."""
    waits: StopAware


class SweepSession(ABC):
    """One launch of a sweep."""

    is_part = False
    """Other machines have runs of the sweep that are not in this ledger."""

    def __init__(self, there: PreparedSweep, ledger: Ledger) -> None:
        self._there = there
        self._setting = there.setting
        self._sweep = there.sweep
        self._backend = there.backend
        self._ledger = ledger
        self._waits = there.waits
        self._sweep_folder = there.setting.section.directory / there.sweep.path.sweep_id
        self._folder = there.setting.folder_of(there.sweep.path.sweep_id)
        self._phantoms: tuple[str, ...] = ()
        self._marks: list[str] = ledger.facts.get("marks", [])
        """Owner ids of earlier launches."""

    def perform(self) -> SweepResult:
        """Run the sweep and return its result, after writing `summary.json`, even after a bug of ours."""
        facts = self._find_facts()
        self._earlier = read_earlier(self._ledger.runs())
        self._count = self._setting.launch_count(facts, self._earlier)
        self._announce_new_count()
        self._ledger.record_facts(self._facts())
        self._announce()
        self._warn_if_paused()
        try:
            with CommandPipe(self._folder) as command_pipe:
                ending = self._run(command_pipe)
        except BaseException as error:
            reason = str(error) if isinstance(error, ParallelHPOError) else f"internal error: {error}"
            self._abandon(reason)
            with suppress(LedgerError):  # if the ledger failed, there is no summary
                self._conclude(SweepEnd(reason, ExitCode.OUR_FAULT))
            raise
        return self._conclude(ending)

    @abstractmethod
    def _announce(self) -> None:
        """Notify the user, by `_notify_opened`, that the sweep begins."""

    @abstractmethod
    def _run(self, command_pipe: CommandPipe) -> SweepEnd:
        """Run the sweep until nothing of it is left."""

    def _find_facts(self) -> Mapping[str, Any]:
        """Return the facts of the launch that this one continues."""
        return self._ledger.facts

    def _abandon(self, reason: str) -> None:  # noqa: B027 - mostly there is nothing
        """End what runs elsewhere, after an error of ours."""

    # --- before anything runs ----------------------------------------------------------

    def _facts(self) -> dict[str, Any]:
        """Return what a later launch must know of this one; facts of the sweep's start stay as they are."""
        known, setting, opened = self._ledger.facts, self._setting, self._sweep
        surroundings = self._there.surroundings
        secrets = secrets_of(surroundings.environment)
        return {
            "path": str(opened.path),
            "name": opened.configuration.get("name"),
            "began_at": known.get("began_at", time.time()),
            "url": opened.url,
            "backend": self._backend.name,
            "created": known.get("created", setting.section.sweep_id is None),
            "count": self._count.total,
            "count_given": self._count.given,
            "before": self._count.before,
            "run_cap": opened.run_cap,
            "seed": setting.section.seed,
            "seed_parameter": setting.section.seed_parameter,
            "metric": opened.metric,
            "goal": opened.goal,
            "marks": [*self._marks, setting.owner_id],
            **note_main(setting.name, setting.main, self._sweep_folder, secrets),
            "working_folder": surroundings.folder,
            "sys_path": list(surroundings.sys_path),
            VERSIONS: asdict(versions_here()),
        }

    def _notify_opened(self, *, workers: int, shares: tuple[int, ...] = (), machines: str = "") -> None:
        self._setting.observer(
            SweepOpened(
                path=self._sweep.path,
                url=self._backend.address_for_people(self._sweep.url),
                backend=self._backend.title,
                count=self._count.total,
                workers=workers,
                shares=shares,
                folder=str(self._folder),
                metric=self._sweep.metric,
                goal=self._sweep.goal,
                method=str(self._sweep.configuration.get("method", "")),
                machines=machines,
            )
        )

    def _announce_new_count(self) -> None:
        """Tell the user the count if it differs from that of the launch that this one continues."""
        if self._count.count != self._count.was:
            now, before = (count or "without limit" for count in (self._count.count, self._count.was))
            self._setting.observer(Message(f"count {now} from now on (it was {before})"))

    def _warn_if_paused(self) -> None:
        """Warn that the sweep is paused, with the command that resumes it in this environment's shell."""
        if not self._sweep.is_paused:
            return
        sweep_id, directory = self._sweep.path.sweep_id, self._setting.section.directory
        words = ["parallel-hpo", "resume", sweep_id]
        if directory != find_directory(None, os.environ):
            words += ["--directory", str(directory)]
        text = f"sweep {sweep_id} is paused: no new run starts until `{shlex.join(words)}`"
        self._setting.observer(Message(text, warning=True))

    # --- the end -----------------------------------------------------------------------

    def _conclude(self, ending: SweepEnd) -> SweepResult:
        """Return the result, after writing it into the ledger and `summary.json`, and notify of the end."""
        runs = [_with_outcome(row, ending) for row in self._ledger.runs()]
        exit_code = exit_code_of(ending, runs, metric=None if self.is_part else self._sweep.metric)
        try:
            # This waits for the disk, so the ends recorded before survive a power cut too.
            self._ledger.record_facts({"stop_reason": ending.reason, "exit_code": exit_code})
        except NoRoomError as error:
            self._warn(f"{error}: the sweep's end is not in it")
        conclusion = SweepConclusion(
            sweep_id=self._sweep.path.sweep_id,
            sweep_url=self._sweep.url,
            backend=self._backend.name,
            count=self._count.total,
            stop_reason=ending.reason,
            exit_code=exit_code,
            duration_s=self._setting.control.clock() - self._setting.began,
            phantoms=self._phantoms,
            metric=self._sweep.metric,
            goal=self._sweep.goal,
            folder=str(self._folder),
        )
        result = summarise(runs, self._ledger.workers(), conclusion, machines=self._ledger.machines())
        try:
            write_summary(result, self._folder / "summary.json")
        except OSError as error:  # `status` and `--resume` read the ledger instead
            self._warn(f"the summary could not be written: {error}")
        self._setting.observer(SweepOver(result.exit_code))
        notify_end(result, self._setting, self._commands())
        return result

    def _should_finish(self, ending: SweepEnd) -> bool:
        """Return whether to set the sweep to finished: we created it, and all its runs have ended."""
        done = ending.stop is None and ending.exit_code != ExitCode.FAILURE_POLICY
        return done and bool(self._ledger.facts["created"])

    def _find_phantoms(self, ending: SweepEnd) -> None:
        """Find, with a warning, runs that the server counts as running though no worker started them.

        Raises:
            StoppedError: a stop left no time to ask.
        """
        if ending.stop is StopKind.KILL or not self._ledger.facts["created"] or self._setting.share:
            return
        path, known = self._sweep.path, {row.run_id for row in self._ledger.runs()}
        try:
            self._phantoms = tuple(self._waits.call(lambda: self._backend.phantoms(path, known)))
        except ParallelHPOError as error:
            self._warn(f"can't ask the server for runs that no worker started: {error}")
        if self._phantoms:
            names = ", ".join(self._phantoms)
            self._warn(f"the server lists runs of the sweep that no worker started: {names}")

    def _commands(self) -> Commands:
        return Commands(self._there.users_environment, self._there.surroundings.folder)

    def _warn(self, words: str) -> None:
        self._setting.observer(Message(words, warning=True))


def exit_code_of(ending: SweepEnd, runs: Sequence[RunRow], *, metric: str | None) -> int:
    """Return a sweep's exit code; NO_RUN_FINISHED if a complete sweep has no value of its metric."""
    if ending.exit_code != ExitCode.COMPLETE or metric is None or not runs:
        return ending.exit_code
    has_value = any(run.outcome is Outcome.FINISHED and run.value is not None for run in runs)
    return ExitCode.COMPLETE if has_value else ExitCode.NO_RUN_FINISHED


def _with_outcome(row: RunRow, ending: SweepEnd) -> RunRow:
    """Return a run as stopped if its end could not be recorded; `--resume` runs it again."""
    if row.outcome is not None or ending.stop is None:
        return row
    return replace(row, outcome=Outcome.STOPPED, reason=f"{ending.reason}; its end could not be recorded")
