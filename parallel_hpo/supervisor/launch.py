"""From a checked section and a `main` to a result: sets the stage, lets the loop run, clears it away.

    choose backend ─▶ start server and fork server ─▶ try `main` in a child ─▶ open the
    sweep ─▶ ledger ─▶ loop ─▶ summary

Whatever happens, nothing that was started here lives when `supervise` is left.
"""

from __future__ import annotations

import os
import queue
import random
import secrets
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

from parallel_hpo.backend.base import Backend, OpenedSweep, SweepOrder
from parallel_hpo.backend.choose import choose_backend, make_backend
from parallel_hpo.config.hpo import HpoSection, StartMethod
from parallel_hpo.errors import ExitCode, TargetError
from parallel_hpo.supervisor.children import Nursery
from parallel_hpo.supervisor.courier import Courier
from parallel_hpo.supervisor.environment import CLIENT_HIDDEN, base_environment, worker_environment
from parallel_hpo.supervisor.errands import ErrandInterruptedError, Errands
from parallel_hpo.supervisor.ledger import Ledger
from parallel_hpo.supervisor.loop import Loop, Tools
from parallel_hpo.supervisor.output import OutputPump, worker_folder
from parallel_hpo.supervisor.pickling import pack_main
from parallel_hpo.supervisor.planning import count_cores, count_workers, shares_of
from parallel_hpo.supervisor.signals import Control, SignalsTaken
from parallel_hpo.supervisor.summary import Closing, SweepResult, summarise, write_summary
from parallel_hpo.supervisor.view import Limits, SweepSeen, open_view
from parallel_hpo.words import Message, Observer, OutputLine, Slot, SweepOpened, Target
from parallel_hpo.worker.spec import PickledMain, Surroundings, WorkerSpec

CHECK_LIMIT_S = 600.0
"""Importing a target may load a large framework from a slow disk."""

FLAPPING = "WANDB_AGENT_DISABLE_FLAPPING"


def supervise(
    section: HpoSection,
    main: Callable[[], object] | Target,
    *,
    observer: Observer,
    control: Control,
    environment: Mapping[str, str] = os.environ,
    clock: Callable[[], float] = time.monotonic,
    jitter: Callable[[], float] = random.random,
) -> SweepResult:
    """Perform a sweep and return what became of it.

    Raises:
        ConfigError, TargetError: before anything is started on the sweep's server.
        BackendError: the server can't be reached or refuses us.
        WorkerStartError: the fork server can't start.
        LedgerError: the ledger can't be written, or another supervisor owns it.
    """
    stage = _Stage(section, pack_main(main), observer, control, environment, clock, jitter)
    with ExitStack() as stack:
        return stage.perform(stack)


@dataclass(slots=True)
class _Sweep:
    """The sweep that was opened, and what the loop needs to know of it."""

    opened: OpenedSweep
    metric: str | None
    goal: str
    folder: Path
    created: bool


class _Stage:
    """One call of `supervise`."""

    def __init__(
        self,
        section: HpoSection,
        main: PickledMain | Target,
        observer: Observer,
        control: Control,
        environment: Mapping[str, str],
        clock: Callable[[], float],
        jitter: Callable[[], float],
    ) -> None:
        self.section = section
        self.main = main
        self.observer = observer
        self.control = control
        self.environment = environment
        self.clock = clock
        self.jitter = jitter
        self.began = clock()
        self.mark = secrets.token_hex(8)

    def perform(self, stack: ExitStack) -> SweepResult:
        stack.enter_context(SignalsTaken(self.control))
        backend = self._open_backend(stack)
        workers = count_workers(self.section)
        self.base = base_environment(self.environment, cores=count_cores(), workers=workers)
        if backend.keeps_login:
            self.base = {name: value for name, value in self.base.items() if name not in CLIENT_HIDDEN}
        nursery = self._open_nursery(stack)
        try:
            sweep = self._open_sweep(backend, Errands(nursery, self._surround, bell=self.control.bell))
        except ErrandInterruptedError:
            return self._nothing_done(backend)
        with Ledger(sweep.folder / "ledger.db") as ledger:
            return self._run(backend, nursery, sweep, ledger, workers)

    # --- setting the stage ---------------------------------------------------------------

    def _open_backend(self, stack: ExitStack) -> Backend:
        chosen = choose_backend(self.section.backend, self.environment)
        backend = make_backend(chosen, directory=self.section.directory, environment=self.environment)
        self.observer(Message(f"backend {chosen.name}: {chosen.reason}"))
        if self.environment.get(FLAPPING):
            self.observer(
                Message(f"{FLAPPING} is set: it would end wandb's agents after a failed run, and is ignored")
            )
        backend.open()
        stack.callback(backend.close)
        return backend

    def _open_nursery(self, stack: ExitStack) -> Nursery:
        nursery = Nursery(
            environment=self.base,
            mark=self.mark,
            fresh=self.section.start_method is StartMethod.SPAWN,
            preload=(),
        )
        nursery.open()
        stack.callback(nursery.close)
        nursery.wait_until_ready()
        return nursery

    def _open_sweep(self, backend: Backend, errands: Errands) -> _Sweep:
        unfit = errands.run("parallel_hpo.worker.target:why_unfit", (self.main,), {}, CHECK_LIMIT_S)
        if unfit:
            raise TargetError(unfit)
        section = self.section
        order = SweepOrder(section.sweep_configuration, section.project, section.entity, section.sweep_id)
        opened = backend.open_sweep(order, errands.run)
        metric = (opened.configuration or section.sweep_configuration or {}).get("metric") or {}
        return _Sweep(
            opened=opened,
            metric=metric.get("name"),
            goal=metric.get("goal", "minimize"),
            folder=section.directory / opened.path.sweep_id,
            created=section.sweep_id is None,
        )

    def _surround(self, own: Mapping[str, str]) -> Surroundings:
        return Surroundings({**self.base, **own}, tuple(sys.path), str(Path.cwd()))

    # --- the sweep ---------------------------------------------------------------------------

    def _run(
        self, backend: Backend, nursery: Nursery, sweep: _Sweep, ledger: Ledger, workers: int
    ) -> SweepResult:
        path = sweep.opened.path
        self._announce(backend, sweep, ledger, workers)
        answers: queue.SimpleQueue[SweepSeen] = queue.SimpleQueue()

        def post(seen: SweepSeen) -> None:
            answers.put(seen)
            self.control.ring()

        courier = Courier(backend, path, observer=self.observer, post=post)
        pump = OutputPump(sweep.folder, lambda slot, text: self.observer(OutputLine(slot, text)))
        pump.start()
        limits = Limits(self.section.count, self.section.retries, self.section.grace_period_s)
        tools = Tools(
            nursery=nursery,
            ledger=ledger,
            courier=courier,
            pump=pump,
            control=self.control,
            observer=self.observer,
            make_spec=lambda slot, label: self._spec(backend, sweep, slot, label, workers),
            mark=self.mark,
            clock=self.clock,
            jitter=self.jitter,
        )
        try:
            ending = Loop(open_view(limits, workers), tools, answers).run()
            if ending.stop is None and ending.exit_code != ExitCode.FAILURE_POLICY and sweep.created:
                courier.finish_sweep()
        finally:
            nursery.close()
            pump.close()
            courier.close()
        return self._conclude(backend, sweep, ledger, ending.reason, ending.exit_code)

    def _announce(self, backend: Backend, sweep: _Sweep, ledger: Ledger, workers: int) -> None:
        """Record what the sweep is, and tell whoever watches."""
        opened = sweep.opened
        ledger.record_facts(
            {
                "path": str(opened.path),
                "url": opened.url,
                "backend": backend.name,
                "count": self.section.count,
                "metric": sweep.metric,
                "goal": sweep.goal,
                "mark": self.mark,
            }
        )
        self.observer(
            SweepOpened(
                path=opened.path,
                url=opened.url,
                backend=backend.name,
                count=self.section.count,
                workers=workers,
                shares=shares_of(self.section.count, workers),
                folder=str(sweep.folder),
                metric=sweep.metric,
                goal=sweep.goal,
            )
        )

    def _spec(self, backend: Backend, sweep: _Sweep, slot: Slot, label: str, workers: int) -> WorkerSpec:
        home = worker_folder(sweep.folder, slot)
        home.mkdir(parents=True, exist_ok=True)
        environment = worker_environment(
            self.base,
            backend.client_environment(label),
            slot=slot,
            workers=workers,
            sweep_id=sweep.opened.path.sweep_id,
            wandb_dir=str(home),
        )
        return WorkerSpec(
            surroundings=replace(self._surround({}), environment=environment),
            slot=slot,
            path=sweep.opened.path,
            main=self.main,
            metric=sweep.metric,
            goal=sweep.goal,
            keep_login=backend.keeps_login,
        )

    # --- the result ----------------------------------------------------------------------------

    def _conclude(
        self, backend: Backend, sweep: _Sweep, ledger: Ledger, reason: str, exit_code: int
    ) -> SweepResult:
        closing = Closing(
            sweep_id=sweep.opened.path.sweep_id,
            sweep_url=sweep.opened.url,
            backend=backend.name,
            count=self.section.count,
            goal=sweep.goal,
            stop_reason=reason,
            exit_code=exit_code,
            duration_s=self.clock() - self.began,
        )
        result = summarise(ledger.runs(), ledger.workers(), closing)
        write_summary(result, sweep.folder / "summary.json")
        return result

    def _nothing_done(self, backend: Backend) -> SweepResult:
        """The result where a stop came before there was a sweep."""
        asked = self.control.take()[0]
        closing = Closing(
            sweep_id="",
            sweep_url="",
            backend=backend.name,
            count=self.section.count,
            goal="",
            stop_reason=f"{asked.reason} before the sweep was open",
            exit_code=asked.exit_code,
            duration_s=self.clock() - self.began,
        )
        return summarise((), (), closing)
