"""What `ConfigLoader.hpo` is while a script is loaded and not run: an HPO that performs nothing."""

from __future__ import annotations

import sys
from collections.abc import Callable

from parallel_hpo.errors import ExitCode
from parallel_hpo.hpo.base import HPO, Main
from parallel_hpo.hpo.handle import Handle, Performance, over
from parallel_hpo.plan import Launch
from parallel_hpo.supervisor.records.summary import Closing, SweepResult, summarise
from parallel_hpo.worker.loading import LOADING

NOTHING = summarise(
    (),
    (),
    Closing(
        sweep_id="",
        sweep_url="",
        backend="",
        count=None,
        stop_reason="the script is being loaded, not run",
        exit_code=ExitCode.COMPLETE,
        duration_s=0.0,
    ),
)


class BeingLoaded(HPO):
    """Stands in for the section's HPO."""

    def __init__(self) -> None:
        """Read no section: the file is loaded whatever stands there."""
        LOADING.stand_in(self)

    def optimize(
        self, main: Callable[[], object], *, resume: str | None = None, keep_configuration: bool = False
    ) -> SweepResult:
        """End the loading of the target's file, if that calls this; else return a result of no runs."""
        LOADING.end(sys._getframe(1).f_globals)
        return NOTHING

    def start(
        self, main: Callable[[], object], *, resume: str | None = None, keep_configuration: bool = False
    ) -> Handle:
        """End the loading likewise; else return the handle of a sweep of no runs that is over."""
        LOADING.end(sys._getframe(1).f_globals)
        return over(self, NOTHING)

    def interrupt(self) -> None:
        """Do nothing."""

    def drain(self) -> None:
        """Do nothing."""

    def _prepare(self, main: Main, launch: Launch) -> Performance:
        return lambda observer: NOTHING
