"""From a checked section and a `main` to a result: sets the stage, lets the sweep run, clears it away.

    choose backend ─▶ start server and fork server ─▶ try `main` in a child ─▶ open the
    sweep and its ledger ─▶ OpenSweep.perform

Whatever happens, nothing that was started here lives when `supervise` is left.
"""

from __future__ import annotations

import os
import random
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

from parallel_hpo.backend.base import Backend, SweepOrder
from parallel_hpo.backend.choose import Chosen, choose_backend, make_backend
from parallel_hpo.config.hpo import BackendChoice, HpoSection, StartMethod
from parallel_hpo.errors import ConfigError, TargetError
from parallel_hpo.supervisor.children import Nursery
from parallel_hpo.supervisor.environment import CLIENT_HIDDEN, base_environment
from parallel_hpo.supervisor.errands import ErrandInterruptedError, Errands
from parallel_hpo.supervisor.ledger import Ledger
from parallel_hpo.supervisor.open_sweep import OpenSweep, Setting
from parallel_hpo.supervisor.pickling import pack_main
from parallel_hpo.supervisor.planning import count_cores, count_workers
from parallel_hpo.supervisor.reaper import MARK, make_mark, reap_leftovers
from parallel_hpo.supervisor.resuming import find_folder
from parallel_hpo.supervisor.signals import Control, SignalsTaken
from parallel_hpo.supervisor.summary import Closing, SweepResult, summarise
from parallel_hpo.words import Message, Observer, Target
from parallel_hpo.worker.spec import PickledMain, Surroundings

CHECK_LIMIT_S: Final = 600.0
"""Importing a target may load a large framework from a slow disk."""

FLAPPING: Final = "WANDB_AGENT_DISABLE_FLAPPING"


def supervise(
    section: HpoSection,
    main: Callable[[], object] | Target,
    *,
    observer: Observer,
    control: Control,
    resume: str | None = None,
    environment: Mapping[str, str] = os.environ,
    clock: Callable[[], float] = time.monotonic,
    jitter: Callable[[], float] = random.random,
) -> SweepResult:
    """Perform a sweep, or go on with the one whose id is `resume`, and return what became of it.

    Raises:
        ConfigError, TargetError: before anything is started on the sweep's server.
        BackendError: the server can't be reached or refuses us.
        WorkerStartError: the fork server can't start.
        LedgerError: the ledger can't be written, or another supervisor owns it.
    """
    setting = Setting(section, pack_main(main), observer, control, clock, jitter, make_mark(), clock())
    with ExitStack() as stack:
        stack.enter_context(SignalsTaken(control))
        return _Stage(setting, environment, stack).perform(resume)


class _Stage:
    """One call of `supervise`; what it starts, `stack` ends."""

    def __init__(self, setting: Setting, environment: Mapping[str, str], stack: ExitStack) -> None:
        self.setting = setting
        self.section = setting.section
        self.environment = dict(environment) | {MARK: setting.mark}
        self.stack = stack

    def perform(self, resume: str | None) -> SweepResult:
        ledger = self._find_ledger(resume) if resume else None
        facts = ledger.facts if ledger else {}
        backend = self._open_backend(self._choose(facts))
        workers = count_workers(self.section)
        self.base = base_environment(self.environment, cores=count_cores(), workers=workers)
        if backend.keeps_login:
            self.base = {name: value for name, value in self.base.items() if name not in CLIENT_HIDDEN}
        nursery = self._open_nursery()
        errands = Errands(nursery, self._surround, bell=self.setting.control.bell)
        try:
            self._try_main(errands)
            opened = backend.open_sweep(self._order(facts), errands.run)
        except ErrandInterruptedError:
            return self._nothing_done(backend)
        errands.stop_listening()
        if ledger is None:
            folder = self.section.directory / opened.path.sweep_id
            ledger = self.stack.enter_context(Ledger(folder / "ledger.db"))
        sweep = OpenSweep(self.setting, backend, nursery, opened, ledger, self._surround({}), workers)
        return sweep.perform()

    # --- what there is ---------------------------------------------------------------------

    def _find_ledger(self, resume: str) -> Ledger:
        folder = find_folder(self.section.directory, resume)
        return self.stack.enter_context(Ledger(folder / "ledger.db"))

    def _choose(self, facts: Mapping[str, Any]) -> Chosen:
        """Choose the backend; a resumed sweep stays where it is."""
        wanted = self.section.backend
        known = facts.get("backend")
        if known and wanted is BackendChoice.AUTO:
            wanted = BackendChoice(known)
        if known and wanted != known:
            raise ConfigError(f"hpo.backend is {wanted.value!r}, but the sweep to be resumed is on {known!r}")
        chosen = choose_backend(wanted, self.environment)
        self.setting.observer(Message(f"backend {chosen.name}: {chosen.reason}"))
        if self.environment.get(FLAPPING):
            words = f"{FLAPPING} is set: it would end wandb's agents after a failed run, and is ignored"
            self.setting.observer(Message(words, warning=True))
        return chosen

    def _order(self, facts: Mapping[str, Any]) -> SweepOrder:
        section = self.section
        if facts:
            entity, project, sweep_id = facts["path"].split("/")
            return SweepOrder(None, project, entity, sweep_id)
        return SweepOrder(section.sweep_configuration, section.project, section.entity, section.sweep_id)

    # --- what is started -------------------------------------------------------------------

    def _open_backend(self, chosen: Chosen) -> Backend:
        backend = make_backend(chosen, directory=self.section.directory, environment=self.environment)
        backend.open()
        self.stack.callback(backend.close)
        return backend

    def _open_nursery(self) -> Nursery:
        fresh = self.section.start_method is StartMethod.SPAWN
        nursery = Nursery(environment=self.base, fresh=fresh, preload=())
        nursery.open()
        self.stack.callback(nursery.close)
        left = reap_leftovers()
        if left:
            self.setting.observer(
                Message(f"killed {left} processes that a dead sweep had left", warning=True)
            )
        nursery.wait_until_ready()
        return nursery

    def _try_main(self, errands: Errands) -> None:
        """Load `main` in a child, before there is a sweep."""
        main: PickledMain | Target = self.setting.main
        unfit = errands.run("parallel_hpo.worker.target:why_unfit", (main,), {}, CHECK_LIMIT_S)
        if unfit:
            raise TargetError(unfit)

    def _surround(self, own: Mapping[str, str]) -> Surroundings:
        return Surroundings({**self.base, **own}, tuple(sys.path), str(Path.cwd()))

    def _nothing_done(self, backend: Backend) -> SweepResult:
        """The result where a stop came before there was a sweep."""
        asked = self.setting.control.take()[0]
        closing = Closing(
            sweep_id="",
            sweep_url="",
            backend=backend.name,
            count=self.section.count,
            goal="",
            stop_reason=f"{asked.reason} before the sweep was open",
            exit_code=asked.exit_code,
            duration_s=self.setting.clock() - self.setting.began,
        )
        return summarise((), (), closing)
