"""What every kind of HPO is to its user: `optimize`, `interrupt`, `drain`.

A kind implements `_perform` and the two stops; what holds for all of them is
here: no sweep in a sweep, one at a time, the display, the signal raised again.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from parallel_hpo.config.hpo import HpoSection
from parallel_hpo.config.loader import inside_worker
from parallel_hpo.errors import ExitCode, UsageError
from parallel_hpo.hpo.varied import varied_parameters
from parallel_hpo.notices import Observer
from parallel_hpo.plan import Launch
from parallel_hpo.ui import Terminal
from parallel_hpo.words import Program, Target

if TYPE_CHECKING:
    from parallel_hpo.supervisor.records.summary import SweepResult

Main = Callable[[], object] | Target | Program
"""What a run calls: a function without arguments, or the name of one."""

ALL: Final = Launch()

_ONE_AT_A_TIME: Final = threading.Lock()
"""Held while a sweep runs in this process: its signals and children can belong to one sweep only."""


@dataclass(frozen=True, slots=True)
class Host:
    """Where this process runs, as far as it decides whether a sweep may start here."""

    environment: Mapping[str, str] = field(default_factory=lambda: os.environ, repr=False)
    platform: str = sys.platform


HERE: Final = Host()


class HPO(ABC):
    """Hyperparameter optimization as its section of the configuration says."""

    def __init__(self, section: HpoSection, *, host: Host = HERE) -> None:
        """Prepare; nothing starts before `optimize`."""
        self.section: Final = section
        self._host = host

    def optimize(self, main: Callable[[], object], *, resume: str | None = None) -> SweepResult:
        """Perform the sweep's runs, each a call of `main`, and show them on stderr.

        `resume` is the id of an earlier sweep in the same directory: what is left of
        its count is performed, beginning with the runs that were cut.

        Raises UsageError inside a worker or while another sweep runs in this
        process, ConfigError, TargetError, BackendError and WorkerStartError for
        what their names say. Where a signal ended the sweep, that signal is raised
        again (SIGINT: KeyboardInterrupt), if this is the main thread.
        """
        with Terminal(sys.stderr, varied=varied_parameters(self.section)) as terminal:
            result = self.perform(main, observer=terminal, launch=Launch(resume=resume))
            terminal.conclude(result, go_on=f'optimize(main, resume="{result.sweep_id}")')
        _raise_again(result.exit_code)
        return result

    def perform(self, main: Main, *, observer: Observer, launch: Launch = ALL) -> SweepResult:
        """Do what `optimize` does, but tell `observer` instead of stderr, and raise no signal."""
        if self._host.platform == "win32":
            raise UsageError("Windows is not supported: run parallel_hpo on Linux or macOS (WSL is a Linux)")
        if inside_worker(self._host.environment):
            raise UsageError(
                "optimize() was called inside a worker of a sweep, which can't start a sweep of its own;"
                " ConfigLoader(...).hpo is None there, call main() then"
            )
        from parallel_hpo.supervisor.processes.descriptors import fill_standard  # late: takes 0.3 s to import

        fill_standard()
        with _alone():
            return self._perform(main, observer, launch)

    def __reduce__(self) -> tuple[type[None], tuple[()]]:
        """Arrive at a worker as what it is there: None."""
        return type(None), ()

    @abstractmethod
    def interrupt(self) -> None:
        """Stop as SIGINT does: `main` gets KeyboardInterrupt. From any thread; no sweep, no effect."""

    @abstractmethod
    def drain(self) -> None:
        """Let the running runs finish and start none. From any thread; no sweep, no effect."""

    @abstractmethod
    def _perform(self, main: Main, observer: Observer, launch: Launch) -> SweepResult:
        """Perform the sweep; called by one thread at a time."""


@contextmanager
def _alone() -> Iterator[None]:
    if not _ONE_AT_A_TIME.acquire(blocking=False):
        raise UsageError("a sweep is already running in this process; wait for its optimize() to return")
    try:
        yield
    finally:
        _ONE_AT_A_TIME.release()


def _raise_again(exit_code: int) -> None:
    """Raise the signal that ended a sweep, so that the caller's script ends like any other."""
    number = exit_code - ExitCode.SIGNAL_BASE
    if number not in signal.valid_signals() or threading.current_thread() is not threading.main_thread():
        return
    signal.raise_signal(number)
    if number == signal.SIGINT and signal.getsignal(number) is signal.SIG_IGN:
        raise KeyboardInterrupt  # a shell's background job ignores SIGINT, but the sweep has obeyed it
