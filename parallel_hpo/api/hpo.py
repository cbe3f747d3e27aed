"""`ConfigLoader` reads a user's configuration file; `HPO` is the interface to its `hpo` section.

A kind of HPO is a subclass in a module of this package, and a line of `_KINDS`. It implements `_prepare`,
`interrupt` and `drain`; `HPO` does the rest: it allows one sweep per process and none in a worker, shows the
sweep, and raises a signal again after it.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from importlib import import_module
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, Final

from parallel_hpo.analysis.result import SweepConclusion, SweepResult, summarise
from parallel_hpo.api.handle import Handle, Performance, finished_handle, open_display, start_in_thread
from parallel_hpo.config.loader import Sources, inside_worker, load_section, read_document
from parallel_hpo.config.section import SECTION, HpoSection
from parallel_hpo.config.sweep import parse_sweep_configuration
from parallel_hpo.config.sweep_types import Constant, ParameterPath
from parallel_hpo.core.errors import ExitCode, UsageError
from parallel_hpo.core.notices import Observer
from parallel_hpo.core.types import Program, Target
from parallel_hpo.count.policy import Launch
from parallel_hpo.display import Terminal
from parallel_hpo.worker.script import LOADING

if TYPE_CHECKING:
    from parallel_hpo.analysis.result import SweepResult

Main = Callable[[], object] | Target | Program
"""What a run calls: a function without arguments, its name, or a program."""

ALL: Final = Launch()

_ONE_AT_A_TIME: Final = threading.Lock()
"""Held while a sweep runs in this process; signals and children can belong to one sweep only."""


@dataclass(frozen=True, slots=True)
class Platform:
    """Environment and operating system of this process, which decide whether a sweep may start here."""

    environment: Mapping[str, str] = field(default_factory=lambda: os.environ, repr=False)
    platform: str = sys.platform


HERE: Final = Platform()


class HPO(ABC):
    """Hyperparameter optimization, configured by an `hpo` section."""

    def __init__(self, section: HpoSection, *, host: Platform = HERE) -> None:
        """Prepare; nothing starts before `optimize`."""
        self.section: Final = section
        self._host = host

    def optimize(
        self, main: Callable[[], object], *, resume: str | None = None, keep_configuration: bool = False
    ) -> SweepResult:
        """Perform the sweep's runs, each a call of `main`, and show them on stderr.

        `resume` is the id of an earlier sweep in the same directory. The rest of its count is
        performed, beginning with the interrupted runs. The sweep keeps its configuration; another
        metric or goal in the current one raises ConfigError, unless `keep_configuration` is true.

        Raises UsageError inside a worker or while another sweep runs in this process; also ConfigError,
        TargetError, BackendError and WorkerStartError. If a signal ended the sweep, the main thread
        raises it again (SIGINT: KeyboardInterrupt).
        """
        launch = Launch(resume=resume, keep_configuration=keep_configuration)
        with Terminal(sys.stderr, varied=varied_parameters(self.section)) as terminal:
            result = self.perform(main, observer=terminal, launch=launch)
            terminal.conclude(result, go_on=_resume_call("optimize", launch).format(result.sweep_id))
        _raise_again(result.exit_code)
        return result

    def start(
        self, main: Callable[[], object], *, resume: str | None = None, keep_configuration: bool = False
    ) -> Handle:
        """Start the sweep of `optimize` in the background, and return a handle that controls it.

        The sweep is shown in the notebook cell that calls this, else on stderr. No signal reaches it: an
        interrupt in the notebook, or Ctrl-C, is the caller's own. When the main thread ends, the sweep
        is stopped, and the interpreter waits for its end.

        Raises the errors of `optimize` from before the start: UsageError and TargetError.
        """
        launch = Launch(resume=resume, keep_configuration=keep_configuration)
        performance = self._begin(main, launch)
        display = open_display(varied_parameters(self.section))
        return start_in_thread(self, performance, display, go_on=_resume_call("start", launch))

    @classmethod
    def from_dict(cls, section: Mapping[str, Any]) -> HPO | None:
        """Return the HPO of a section, the value of "hpo" in a configuration file.

        None if `apply` is false, and inside a worker. The environment may override keys. Raises
        ConfigError: the key's path, the value, and what is allowed.
        """
        if _is_being_loaded(os.environ, sys._getframe(1)):
            return PlaceholderHpo()
        checked = load_section(
            {SECTION: _unfrozen(section)}, Path(FROM_DICT), Sources(os.environ), kinds=kind_names()
        )
        return None if checked is None else make_hpo(checked)

    def perform(self, main: Main, *, observer: Observer, launch: Launch = ALL) -> SweepResult:
        """Perform the sweep like `optimize`, but send notices to `observer` and raise no signal."""
        return self._begin(main, launch)(observer)

    def _begin(self, main: Main, launch: Launch) -> Performance:
        """Reserve the process for this sweep; return its performance, which the caller must call."""
        if self._host.platform == "win32":
            raise UsageError("Windows is not supported: run parallel_hpo on Linux or macOS (WSL is a Linux)")
        if inside_worker(self._host.environment):
            raise UsageError(
                "optimize() was called inside a worker of a sweep, which can't start a sweep of its own;"
                " ConfigLoader(...).hpo is None there, call main() then"
            )
        if launch.keep_configuration and launch.resume is None:
            raise UsageError(
                "--keep-configuration (keep_configuration=True) is only for a resumed sweep: leave it out,"
                " or name the sweep by --resume (resume=…)"
            )
        from parallel_hpo.processes.environment import fill_standard  # late: takes 0.3 s to import

        fill_standard()
        release = _reserve_process()
        try:
            performance = self._prepare(main, launch)
        except BaseException:
            release()
            raise

        def perform(observer: Observer) -> SweepResult:
            try:
                return performance(observer)
            finally:
                release()

        return perform

    def __reduce__(self) -> tuple[type[None], tuple[()]]:
        """Become None in a worker, as `ConfigLoader.hpo` is there."""
        return type(None), ()

    @abstractmethod
    def interrupt(self) -> None:
        """Stop like SIGINT: `main` gets KeyboardInterrupt. From any thread; no effect without a sweep."""

    @abstractmethod
    def drain(self) -> None:
        """Let the running runs finish and start none. From any thread; no effect without a sweep."""

    @abstractmethod
    def _prepare(self, main: Main, launch: Launch) -> Performance:
        """Return the performance of the sweep, which `interrupt` and `drain` stop from now on."""


def _reserve_process() -> Callable[[], None]:
    """Reserve the process for one sweep; return the function that releases it, from any thread."""
    if not _ONE_AT_A_TIME.acquire(blocking=False):
        raise UsageError(
            "a sweep is already running in this process; wait for its optimize() to return,"
            " or for the result() of its handle, or stop that handle's sweep"
        )
    return _ONE_AT_A_TIME.release


def _resume_call(call: str, launch: Launch) -> str:
    """Return the call that resumes a sweep, with `{}` in place of its id."""
    kept = ", keep_configuration=True" if launch.keep_configuration else ""
    return f'{call}(main, resume="{{}}"{kept})'


def _raise_again(exit_code: int) -> None:
    """Raise the signal that ended a sweep, so that the caller's script ends by it too."""
    number = exit_code - ExitCode.SIGNAL_BASE
    if number not in signal.valid_signals() or threading.current_thread() is not threading.main_thread():
        return
    signal.raise_signal(number)
    if number == signal.SIGINT and signal.getsignal(number) is signal.SIG_IGN:
        raise KeyboardInterrupt  # a shell's background job ignores SIGINT, but the sweep didn't


def varied_parameters(section: HpoSection) -> frozenset[ParameterPath] | None:
    """Return the nested names of the parameters that vary; None for a sweep that already existed."""
    if section.sweep_configuration is None or section.sweep_id is not None:
        return None
    sweep = parse_sweep_configuration(section.sweep_configuration, where="sweep_configuration")
    return frozenset(item.path for item in sweep.parameters if not isinstance(item.distribution, Constant))


NO_RESULT: Final = summarise(
    (),
    (),
    SweepConclusion(
        sweep_id="",
        sweep_url="",
        backend="",
        count=None,
        stop_reason="the script is being loaded, not run",
        exit_code=ExitCode.COMPLETE,
        duration_s=0.0,
    ),
)


class PlaceholderHpo(HPO):
    """The HPO of `ConfigLoader` while a worker loads the target's file without running it; does nothing."""

    def __init__(self) -> None:
        """Read no section: the file loads even with an invalid one."""
        LOADING.stand_in(self)

    def optimize(
        self, main: Callable[[], object], *, resume: str | None = None, keep_configuration: bool = False
    ) -> SweepResult:
        """End the loading of the target's file, if that calls this; else return a result without runs."""
        LOADING.end(sys._getframe(1).f_globals)
        return NO_RESULT

    def start(
        self, main: Callable[[], object], *, resume: str | None = None, keep_configuration: bool = False
    ) -> Handle:
        """End the loading likewise; else return the handle of a finished sweep without runs."""
        LOADING.end(sys._getframe(1).f_globals)
        return finished_handle(self, NO_RESULT)

    def interrupt(self) -> None:
        """Do nothing."""

    def drain(self) -> None:
        """Do nothing."""

    def _prepare(self, main: Main, launch: Launch) -> Performance:
        return lambda observer: NO_RESULT


FROM_DICT: Final = "HPO.from_dict"
"""Name in errors in place of a configuration file."""
_KINDS: Final = {"wandb_sweeps": ("parallel_hpo.api.wandb_sweeps", "WandbSweeps")}
"""Module and class of each kind; a module is imported when its kind is used."""


class ConfigLoader:
    """Reads a JSON, YAML or TOML configuration file, by its suffix."""

    def __init__(self, path: str | os.PathLike[str], *, environment: Mapping[str, str] | None = None) -> None:
        """Read the file; raises ConfigError if that fails.

        `environment` may override keys of its section (default: this process's environment).
        """
        self._path = Path(path)
        self._environment = os.environ if environment is None else environment
        self.config: dict[str, Any] = read_document(self._path)
        """The whole file."""

    @property
    def hpo(self) -> HPO | None:
        """The HPO of the section; None without a section, if `apply` is false, and inside a worker.

        While a worker loads a target's file it is a placeholder, whose `optimize` ends the loading.

        Raises ConfigError for an invalid section: where the value comes from, the
        key's path, the value, and what is allowed.
        """
        if _is_being_loaded(self._environment, sys._getframe(1)):
            return PlaceholderHpo()
        return self._hpo

    @cached_property
    def _hpo(self) -> HPO | None:
        section = load_section(self.config, self._path, Sources(self._environment), kinds=kind_names())
        return None if section is None else make_hpo(section)

    def __getstate__(self) -> dict[str, Any]:
        """Pickle for a worker without this process's environment, and without an HPO."""
        return {"_path": self._path, "config": self.config}

    def __setstate__(self, state: Mapping[str, Any]) -> None:
        self.__dict__.update(state, _environment=os.environ)


def _unfrozen(section: object) -> object:
    """Return a mapping as a dict, and anything else, which is invalid, as it is."""
    return dict(section) if isinstance(section, Mapping) else section


def _is_being_loaded(environment: Mapping[str, str], caller: FrameType) -> bool:
    """Return whether the caller is a target's file that a worker loads."""
    return inside_worker(environment) and LOADING.is_on(caller)


def kind_names() -> tuple[str, ...]:
    """Return the names of all kinds, without importing them."""
    return tuple(sorted(_KINDS))


def make_hpo(section: HpoSection) -> HPO:
    """Return the HPO of the section's kind, one of `kind_names()`."""
    module, name = _KINDS[section.kind]
    kind: type[HPO] = getattr(import_module(module), name)
    return kind(section)
