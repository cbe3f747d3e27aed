"""The kind `wandb_sweeps`: a W&B sweep, run by `wandb.agent`s on every device of this machine."""

from __future__ import annotations

import threading
from typing import Final, Protocol

from parallel_hpo.config.hpo import HpoSection
from parallel_hpo.hpo.base import HERE, HPO, Host, Main
from parallel_hpo.notices import Observer
from parallel_hpo.plan import Launch
from parallel_hpo.supervisor.control.signals import Control
from parallel_hpo.supervisor.launch import supervise
from parallel_hpo.supervisor.records.summary import SweepResult
from parallel_hpo.words import StopKind


class Supervise(Protocol):
    """Performs a whole sweep: `parallel_hpo.supervisor.supervise`."""

    def __call__(
        self, section: HpoSection, main: Main, *, observer: Observer, control: Control, launch: Launch
    ) -> SweepResult: ...


class WandbSweeps(HPO):
    """A W&B sweep under a supervisor."""

    def __init__(
        self,
        section: HpoSection,
        *,
        supervise: Supervise = supervise,
        host: Host = HERE,
    ) -> None:
        """Prepare; nothing starts before `optimize`."""
        super().__init__(section, host=host)
        self._supervise = supervise
        self._control: Control | None = None
        self._guard = threading.Lock()
        """Held so that no stop reaches a control that is being closed."""

    def interrupt(self) -> None:
        """Stop as SIGINT does: `main` gets KeyboardInterrupt. From any thread; no sweep, no effect."""
        self._stop(StopKind.INTERRUPT)

    def drain(self) -> None:
        """Let the running runs finish and start none. From any thread; no sweep, no effect."""
        self._stop(StopKind.DRAIN)

    def _perform(self, main: Main, observer: Observer, launch: Launch) -> SweepResult:
        control = self._control = Control()
        try:
            return self._supervise(self.section, main, observer=observer, control=control, launch=launch)
        finally:
            with self._guard:
                self._control = None
                control.close()

    def _stop(self, kind: StopKind) -> None:
        with self._guard:
            if self._control is not None:
                self._control.stop(kind)


KIND: Final = WandbSweeps
