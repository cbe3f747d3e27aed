"""What every kind of HPO is to its user: `optimize`, `start`, `interrupt`, `drain`.

A kind implements `_prepare` and the two stops; what holds for all of them is
here: no sweep in a sweep, one at a time, the display, the signal raised again.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

from parallel_hpo.config.hpo import HpoSection
from parallel_hpo.config.loader import inside_worker
from parallel_hpo.errors import ExitCode, UsageError
from parallel_hpo.hpo.handle import Handle, Performance, begin, open_display
from parallel_hpo.notices import Observer
from parallel_hpo.plan import Launch
from parallel_hpo.ui import Terminal
from parallel_hpo.words import Program, Target

if TYPE_CHECKING:
    from parallel_hpo.supervisor.records.summary import SweepResult
from parallel_hpo.config.sweep import parse_sweep_configuration
from parallel_hpo.config.sweep_words import Constant, Path

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

    def optimize(
        self, main: Callable[[], object], *, resume: str | None = None, keep_configuration: bool = False
    ) -> SweepResult:
        """Perform the sweep's runs, each a call of `main`, and show them on stderr.

        `resume` is the id of an earlier sweep in the same directory: what is left of
        its count is performed, beginning with the runs that were cut. It keeps its sweep
        configuration; one that has another metric or goal now is a ConfigError, unless
        `keep_configuration` is true.

        Raises UsageError inside a worker or while another sweep runs in this
        process, ConfigError, TargetError, BackendError and WorkerStartError for
        what their names say. Where a signal ended the sweep, that signal is raised
        again (SIGINT: KeyboardInterrupt), if this is the main thread.
        """
        launch = Launch(resume=resume, keep_configuration=keep_configuration)
        with Terminal(sys.stderr, varied=varied_parameters(self.section)) as terminal:
            result = self.perform(main, observer=terminal, launch=launch)
            terminal.conclude(result, go_on=_go_on("optimize", launch).format(result.sweep_id))
        _raise_again(result.exit_code)
        return result

    def start(
        self, main: Callable[[], object], *, resume: str | None = None, keep_configuration: bool = False
    ) -> Handle:
        """Begin what `optimize` does, and return at once: a handle tells of it, stops it, has its result.

        It shows itself in the notebook's cell that calls this, else on stderr. No signal reaches it: an
        interrupt in the notebook, or Ctrl-C, is the caller's own. When the main thread ends the sweep
        is stopped, and the interpreter waits for its end.

        Raises what `optimize` raises before anything is started: UsageError and TargetError.
        """
        launch = Launch(resume=resume, keep_configuration=keep_configuration)
        performance = self._begin(main, launch)
        display = open_display(varied_parameters(self.section))
        return begin(self, performance, display, go_on=_go_on("start", launch))

    @classmethod
    def from_dict(cls, section: Mapping[str, Any]) -> HPO | None:
        """Return the HPO of what stands under "hpo" in a configuration file, as `ConfigLoader.hpo` does.

        None where `apply` is false, and inside a worker. The environment may override it. Raises
        ConfigError: the key's path, the value, and what is allowed.
        """
        made: HPO | None = import_module("parallel_hpo.hpo.configuration").hpo_of(
            section, asker=sys._getframe(1)
        )  # late, and by name: it imports this file
        return made

    def perform(self, main: Main, *, observer: Observer, launch: Launch = ALL) -> SweepResult:
        """Do what `optimize` does, but tell `observer` instead of stderr, and raise no signal."""
        return self._begin(main, launch)(observer)

    def _begin(self, main: Main, launch: Launch) -> Performance:
        """Return what performs the sweep, and is to be called: the process is this sweep's from now on."""
        if self._host.platform == "win32":
            raise UsageError("Windows is not supported: run parallel_hpo on Linux or macOS (WSL is a Linux)")
        if inside_worker(self._host.environment):
            raise UsageError(
                "optimize() was called inside a worker of a sweep, which can't start a sweep of its own;"
                " ConfigLoader(...).hpo is None there, call main() then"
            )
        if launch.keep_configuration and launch.resume is None:
            raise UsageError(
                "--keep-configuration (keep_configuration=True) is for a sweep that is resumed: a new one has"
                " the configuration that it is given; leave it out, or say which sweep by --resume (resume=…)"
            )
        from parallel_hpo.supervisor.processes.descriptors import fill_standard  # late: takes 0.3 s to import

        fill_standard()
        leave = _enter_alone()
        try:
            performance = self._prepare(main, launch)
        except BaseException:
            leave()
            raise

        def perform(observer: Observer) -> SweepResult:
            try:
                return performance(observer)
            finally:
                leave()

        return perform

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
    def _prepare(self, main: Main, launch: Launch) -> Performance:
        """Return what performs the sweep; it can be interrupted and drained from now on. One at a time."""


def _enter_alone() -> Callable[[], None]:
    """Have the process for one sweep; return what gives it back, from any thread."""
    if not _ONE_AT_A_TIME.acquire(blocking=False):
        raise UsageError(
            "a sweep is already running in this process; wait for its optimize() to return,"
            " or for the result() of its handle, or stop that"
        )
    return _ONE_AT_A_TIME.release


def _go_on(call: str, launch: Launch) -> str:
    """Return the call that goes on with a sweep, `{}` in its id's place."""
    kept = ", keep_configuration=True" if launch.keep_configuration else ""
    return f'{call}(main, resume="{{}}"{kept})'


def _raise_again(exit_code: int) -> None:
    """Raise the signal that ended a sweep, so that the caller's script ends like any other."""
    number = exit_code - ExitCode.SIGNAL_BASE
    if number not in signal.valid_signals() or threading.current_thread() is not threading.main_thread():
        return
    signal.raise_signal(number)
    if number == signal.SIGINT and signal.getsignal(number) is signal.SIG_IGN:
        raise KeyboardInterrupt  # a shell's background job ignores SIGINT, but the sweep has obeyed it


def varied_parameters(section: HpoSection) -> frozenset[Path] | None:
    """Return the nested names of the parameters that vary; None for a sweep that somebody else made."""
    if section.sweep_configuration is None or section.sweep_id is not None:
        return None
    sweep = parse_sweep_configuration(section.sweep_configuration, where="sweep_configuration")
    return frozenset(item.path for item in sweep.parameters if not isinstance(item.distribution, Constant))
