"""The kind `wandb_sweeps`: a W&B sweep, run by `wandb.agent`s on every device of one machine or many."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial

from parallel_hpo.analysis.result import SweepResult
from parallel_hpo.api.handle import Performance
from parallel_hpo.api.hpo import HERE, HPO, Main, Platform
from parallel_hpo.cluster.hosted import ClusterChoice, HostedEngine, chosen_engine
from parallel_hpo.cluster.setup import run_on_cluster
from parallel_hpo.config.section import HpoSection
from parallel_hpo.config.tables import Machines
from parallel_hpo.core.notices import Observer
from parallel_hpo.core.types import StopKind
from parallel_hpo.count.policy import Launch
from parallel_hpo.session.setup import supervise
from parallel_hpo.session.signals import Control

Supervise = Callable[..., SweepResult]
"""Runs a whole sweep: `supervise` on this machine, or `run_on_cluster` on many."""


class WandbSweeps(HPO):
    """HPO by a W&B sweep."""

    def __init__(
        self,
        section: HpoSection,
        *,
        supervise: Supervise = supervise,
        run_on_cluster: Supervise = run_on_cluster,
        choose: Callable[[Machines | None], ClusterChoice | None] = chosen_engine,
        host: Platform = HERE,
    ) -> None:
        """Prepare; nothing starts before `optimize`."""
        super().__init__(section, host=host)
        self._supervise = supervise
        self._run_on_cluster = run_on_cluster
        self._choose = choose
        self._control: Control | None = None
        self._guard = threading.Lock()
        """Held while stopping or closing the control, so that no stop reaches a closed one."""

    def interrupt(self) -> None:
        """Stop like SIGINT: `main` gets KeyboardInterrupt. From any thread; no effect without a sweep."""
        self._stop(StopKind.INTERRUPT)

    def drain(self) -> None:
        """Let the running runs finish and start none. From any thread; no effect without a sweep."""
        self._stop(StopKind.DRAIN)

    def _prepare(self, main: Main, launch: Launch) -> Performance:
        supervise = self._choose_supervise()
        control = self._control = Control()

        def perform(observer: Observer) -> SweepResult:
            try:
                return supervise(self.section, main, observer=observer, control=control, launch=launch)
            finally:
                with self._guard:
                    self._control = None
                    control.close()

        return perform

    def _choose_supervise(self) -> Supervise:
        """Return `supervise`, or `run_on_cluster` if the section or joblib names a cluster."""
        choice = self._choose(self.section.machines)
        machines = self.section.machines or (Machines() if choice else None)
        if machines is None:
            return self._supervise
        make_engine = None if choice is None else partial(HostedEngine, choice)
        return partial(self._run_on_cluster, machines=machines, make_engine=make_engine)

    def _stop(self, kind: StopKind) -> None:
        with self._guard:
            if self._control is not None:
                self._control.stop(kind)
