"""Sets a sweep up from a checked section and a `main`, runs it, and cleans up. Called by `api`.

    choose backend ─▶ start server and fork server ─▶ try `main` in a child ─▶ open the
    sweep and its ledger ─▶ MachineSession.perform

All processes started here have ended when `supervise` returns or raises.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import replace
from typing import Any, Final

from parallel_hpo.analysis.result import SweepConclusion, SweepResult, summarise
from parallel_hpo.client.base import LOOPBACK, Backend, OpenedSweep, SweepRequest
from parallel_hpo.client.choose import ChosenBackend, choose_backend, make_backend
from parallel_hpo.client.own_servers import RemoteBackend
from parallel_hpo.client.server_client import PoolClient
from parallel_hpo.config.section import BackendChoice, HpoSection, StartMethod, expect_free
from parallel_hpo.core.child_spec import ChildSetup, PickledMain
from parallel_hpo.core.errors import ConfigError, ExitCode, TargetError, UsageError
from parallel_hpo.core.messages import SweepEnd
from parallel_hpo.core.notices import Message, Observer
from parallel_hpo.core.types import Program, StopKind, SweepPath, Target
from parallel_hpo.count.policy import Launch
from parallel_hpo.devices.cores import count_cores
from parallel_hpo.devices.library import no_library, opened
from parallel_hpo.devices.placing import SlotAssignment, SweepDevices, open_driver
from parallel_hpo.pickling.main import name_of, pack_main, weight_problem
from parallel_hpo.processes.environment import CLIENT_HIDDEN, base_environment, make_room_for
from parallel_hpo.processes.pool import ChildCalls, ChildPool
from parallel_hpo.processes.reaper import MARK, reap_leftovers
from parallel_hpo.records.folders import file_system_problem, prepare_directory, working_folder
from parallel_hpo.records.ledger import Ledger
from parallel_hpo.records.reader import LEDGER
from parallel_hpo.session.decide.events import StopAsked
from parallel_hpo.session.hooks import check_addresses
from parallel_hpo.session.machine import MachineSession
from parallel_hpo.session.planning import doubts_of, expect_ahead, library_for, place_workers
from parallel_hpo.session.resume import ResumeState, facts_of, find_folder
from parallel_hpo.session.settings import LaunchSettings
from parallel_hpo.session.signals import Control, SignalsTaken
from parallel_hpo.session.sweep import PreparedSweep
from parallel_hpo.session.waiting import StopAware, StoppedError

CHECK_LIMIT_S: Final = 600.0
"""Timeout of the check of `main`, in seconds: an import may load a large framework from a slow disk."""

NOTHING: Final = Program("")
"""The `main` of a sweep that is only created, not run."""

FLAPPING: Final = "WANDB_AGENT_DISABLE_FLAPPING"


def supervise(
    section: HpoSection,
    main: Callable[[], object] | Target | Program,
    *,
    observer: Observer,
    control: Control,
    launch: Launch,
) -> SweepResult:
    """Run a sweep, or the part of it that `launch` names.

    Raises:
        ConfigError, TargetError: raised before anything starts on the sweep's server.
        BackendError: the server can't be reached, or refuses.
        WorkerStartError: the fork server can't start.
        LedgerError: the ledger can't be written, or another session owns it.
    """
    resumes = launch.resume is not None
    with ExitStack() as stack:
        packed = pack_main(main, stack)
        setting = LaunchSettings(
            section=section,
            main=packed,
            observer=observer,
            control=control,
            share=launch.share,
            resumes=resumes,
            keep_configuration=launch.keep_configuration,
            name=name_of(main),
        )
        if heavy := weight_problem(main, packed):
            observer(Message(heavy, warning=True))
        stack.enter_context(SignalsTaken(control))
        return SessionSetup(setting, stack).perform(launch.resume)


DIVIDED: Final = "its count is divided into shares: start the missing ones with --share"
"""Why a pool ends whose sweep is run in shares."""


class SessionSetup:
    """The setup of one launch; `stack` cleans up."""

    def __init__(
        self,
        setting: LaunchSettings,
        stack: ExitStack,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        """`environment` is the user's; None: this process's."""
        self.setting = setting
        self.section = setting.section
        self.users_environment = dict(os.environ if environment is None else environment)
        self.environment = self.users_environment | {MARK: setting.owner_id}
        self.stack = stack
        self.waits = StopAware(setting.control, grace_s=self.section.grace_period_s)
        self.host = LOOPBACK
        """Address of the embedded server."""
        self.folder = working_folder()
        check_addresses(self.section.notify)
        now = time.time()
        expect_ahead(self.section, now=now, began_at=now - (setting.control.clock() - setting.began))
        prepare_directory(self.section.directory)
        if problem := file_system_problem(self.section.directory):
            setting.observer(Message(f"{problem}: a folder on a local disk is safer", warning=True))

    def perform(self, resume: str | None) -> SweepResult:
        """Run the sweep, or what an earlier launch left of it."""
        ledger = self._find_ledger(resume) if resume is not None else None
        try:
            there = self.open(facts_of(ledger, resume))
        except StoppedError:
            return self._nothing_done()
        self.waits.sweep_is_open()
        if ledger is None:
            folder = self.setting.folder_of(there.sweep.path.sweep_id)
            ledger = self.stack.enter_context(Ledger(folder / LEDGER))
        return MachineSession(there, ledger).perform()

    def open(self, facts: Mapping[str, Any]) -> PreparedSweep:
        """Open the sweep on its server; `facts` come from the ledger of a resumed sweep."""
        self.setting = replace(self.setting.with_seed_of(facts), run_cap=facts.get("run_cap"))
        self.section = self.setting.section
        self._expect_same_metric(facts)
        for doubt in () if facts else doubts_of(self.section):
            self.setting.observer(doubt)
        backend = self._open_backend(self._choose(facts))
        equipment = self._equip()
        surroundings = self._surround(equipment, keeps_login=backend.keeps_login)
        children = self._open_children(surroundings.environment)
        calls = ChildCalls(children, surroundings)
        if self.setting.main is not NOTHING:
            self.waits.call(lambda: self._try_main(calls))
        order = self._order(facts)
        sweep = self.waits.call(lambda: backend.open_sweep(order, calls.run))
        expect_free(self.section.seed_parameter, sweep.configuration)
        if self.setting.share is not None and isinstance(backend, RemoteBackend):
            self.waits.call(lambda: self._divide(backend.pool_of(sweep.path), sweep.path.sweep_id))
        self.setting = replace(self.setting, run_cap=sweep.run_cap)
        self.setting.compare_configuration(sweep.path.sweep_id, sweep.configuration)
        return self._prepared(sweep, backend, children, equipment, surroundings)

    def _prepared(
        self,
        sweep: OpenedSweep,
        backend: Backend,
        children: ChildPool,
        equipment: SweepDevices,
        surroundings: ChildSetup,
    ) -> PreparedSweep:
        return PreparedSweep(
            setting=self.setting,
            sweep=sweep,
            backend=backend,
            children=children,
            equipment=equipment,
            surroundings=surroundings,
            users_environment=self.users_environment,
            waits=self.waits,
        )

    def _divide(self, pool: PoolClient, sweep_id: str) -> None:
        """Close the sweep's pool, if it has one: either shares divide its count, or machines join.

        Raises:
            UsageError: machines have joined.
        """
        if not pool.divide(SweepEnd(DIVIDED, ExitCode.USAGE, StopKind.DRAIN)):
            raise UsageError(
                f"--share {self.setting.share}: machines have joined sweep {sweep_id}, whose server counts"
                f" its runs: use `parallel-hpo join {sweep_id}` on this machine too"
            )

    # --- preparation -----------------------------------------------------------------------

    def _find_ledger(self, resume: str) -> Ledger:
        folder = find_folder(self.section.directory, resume, self.setting.share)
        return self.stack.enter_context(Ledger(folder / LEDGER))

    def _choose(self, facts: Mapping[str, Any]) -> ChosenBackend:
        """Choose the backend; a resumed sweep keeps its own."""
        wanted = self.section.backend
        known = facts.get("backend")
        if known and wanted is BackendChoice.AUTO:
            wanted = BackendChoice(known)
        if known and wanted != known:
            raise ConfigError(f"hpo.backend is {wanted.value!r}, but the sweep to be resumed is on {known!r}")
        is_given = self.section.backend is not BackendChoice.AUTO
        why = "as configured" if is_given else "the sweep to be resumed is there"
        chosen = choose_backend(wanted, self.environment, why=why)
        self.setting.observer(Message(f"backend {chosen.name}: {chosen.reason}"))
        if self.environment.get(FLAPPING):
            words = f"ignoring {FLAPPING}: it would end wandb's agents after a failed run"
            self.setting.observer(Message(words, warning=True))
        return chosen

    def _expect_same_metric(self, facts: Mapping[str, Any]) -> None:
        """Raise ConfigError, before anything starts, if the resumed sweep has another metric."""
        if "path" in facts and "metric" in facts:
            sweep = SweepPath.parse(facts["path"]).sweep_id
            metric = facts["metric"] and {"name": facts["metric"], "goal": facts.get("goal", "minimize")}
            self.setting.compare_configuration(sweep, {"metric": metric}, metric_only=True)

    def _order(self, facts: Mapping[str, Any]) -> SweepRequest:
        section = self.section
        if "path" in facts:
            path = SweepPath.parse(facts["path"])
            count = self.setting.launch_count(facts, ResumeState())
            return SweepRequest(None, path.project, path.entity, path.sweep_id, reopens=count.is_raised)
        sweep_id = facts.get("sweep_id", section.sweep_id)
        return SweepRequest(
            section.sweep_configuration, section.project, section.entity, sweep_id, section.seed
        )

    def _equip(self) -> SweepDevices:
        idle = self.setting.main is NOTHING
        open_library = no_library if idle else library_for(self.section, open_driver)
        library = self.stack.enter_context(opened(open_library))
        placement = SlotAssignment(1) if idle else place_workers(self.section, self.environment, library)
        for note in placement.notes:
            self.setting.observer(note)
        equipment = SweepDevices(placement, library)
        if placement.grants:
            self.setting.observer(Message(f"devices: {', '.join(equipment.names)}"))
        make_room_for(equipment.workers)
        return equipment

    def _surround(self, equipment: SweepDevices, *, keeps_login: bool) -> ChildSetup:
        environment = base_environment(
            self.environment,
            cores=count_cores(),
            workers=equipment.workers,
            superseded=equipment.superseded,
        )
        if keeps_login:
            environment = {name: value for name, value in environment.items() if name not in CLIENT_HIDDEN}
        return ChildSetup(environment, tuple(sys.path), self.folder)

    # --- processes -------------------------------------------------------------------------

    def _open_backend(self, chosen: ChosenBackend) -> Backend:
        # Not a worker's id: the server is no worker's child.
        environment = self.environment | {MARK: f"{self.setting.owner_id}_server"}
        backend = make_backend(
            chosen,
            directory=self.section.directory,
            environment=environment,
            host=self.host,
        )
        backend.open(self._on_backend_lost, self._on_backend_trouble)
        self.stack.callback(backend.close)
        return backend

    def _on_backend_lost(self, why: str) -> None:
        self.setting.control.put(StopAsked(StopKind.INTERRUPT, why, ExitCode.OUR_FAULT))

    def _on_backend_trouble(self, why: str) -> None:
        if why:
            words = f"the sweep server is blocked: {why}. Runs wait until it continues"
        else:
            words = "the sweep server can write again: the sweep goes on"
        self.setting.observer(Message(words, warning=bool(why)))

    def _open_children(self, environment: Mapping[str, str]) -> ChildPool:
        fresh = self.section.start_method is StartMethod.SPAWN
        children = ChildPool(
            environment=environment,
            fresh=fresh,
            preload=tuple(self.section.preload),
            sys_path=tuple(sys.path),
        )
        children.open()
        self.stack.callback(children.close)
        left = reap_leftovers()
        if left:
            self.setting.observer(Message(f"killed {left} processes left by a dead sweep", warning=True))
        self.waits.call(children.wait_until_ready)
        if children.warning:
            self.setting.observer(Message(children.warning, warning=True))
        return children

    def _try_main(self, calls: ChildCalls) -> None:
        """Load `main` in a child, before the sweep is created."""
        main: PickledMain | Target | Program = self.setting.main
        unfit = calls.run("parallel_hpo.worker.target:main_problem", (main,), {}, CHECK_LIMIT_S)
        if unfit:
            raise TargetError(unfit)

    def _nothing_done(self) -> SweepResult:
        """Return the result of a sweep that was stopped before it was open."""
        asked = self.setting.control.take()[0]
        nothing = SweepConclusion(
            sweep_id="",
            sweep_url="",
            backend=self.section.backend,
            count=self.setting.count,
            stop_reason=f"{asked.reason} before the sweep was open",
            exit_code=asked.exit_code,
            duration_s=self.setting.control.clock() - self.setting.began,
        )
        return summarise((), (), nothing)
