"""What every kind of HPO is to its user: `optimize`, `start`, `interrupt`, `drain`.

A kind implements `_prepare` and the two stops; what holds for all of them is
here: no sweep in a sweep, one at a time, the display, the signal raised again.

What `ConfigLoader.hpo` is while a script is loaded and not run: an HPO that performs nothing.

`ConfigLoader`: a user's configuration file, of which only the `hpo` section is ours; and the kinds of HPO.

A kind is a subclass of `HPO` in a module of `parallel_hpo.api`, and one line of `_KINDS`.
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
from parallel_hpo.api.handle import Handle, Performance, begin, open_display, over
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
"""What a run calls: a function without arguments, or the name of one."""

ALL: Final = Launch()

_ONE_AT_A_TIME: Final = threading.Lock()
"""Held while a sweep runs in this process: its signals and children can belong to one sweep only."""


@dataclass(frozen=True, slots=True)
class Platform:
    """Where this process runs, as far as it decides whether a sweep may start here."""

    environment: Mapping[str, str] = field(default_factory=lambda: os.environ, repr=False)
    platform: str = sys.platform


HERE: Final = Platform()


class HPO(ABC):
    """Hyperparameter optimization as its section of the configuration says."""

    def __init__(self, section: HpoSection, *, host: Platform = HERE) -> None:
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
        made: HPO | None = import_module("parallel_hpo.api.hpo").hpo_of(
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
        from parallel_hpo.processes.environment import fill_standard  # late: takes 0.3 s to import

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


def varied_parameters(section: HpoSection) -> frozenset[ParameterPath] | None:
    """Return the nested names of the parameters that vary; None for a sweep that somebody else made."""
    if section.sweep_configuration is None or section.sweep_id is not None:
        return None
    sweep = parse_sweep_configuration(section.sweep_configuration, where="sweep_configuration")
    return frozenset(item.path for item in sweep.parameters if not isinstance(item.distribution, Constant))


NOTHING = summarise(
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


FROM_DICT: Final = "HPO.from_dict"
"""Stands in a file's place where an error says where a value comes from."""
_KINDS: Final = {"wandb_sweeps": ("parallel_hpo.api.wandb_sweeps", "WandbSweeps")}
"""The module and class of each kind; a module is imported when its kind is wanted."""


class ConfigLoader:
    """Reads a JSON, YAML or TOML file, by its suffix."""

    def __init__(self, path: str | os.PathLike[str], *, environment: Mapping[str, str] | None = None) -> None:
        """Read the file; raises ConfigError where it can't.

        `environment` may override its section; None: this process's own.
        """
        self._path = Path(path)
        self._environment = os.environ if environment is None else environment
        self.config: dict[str, Any] = read_document(self._path)
        """The whole file, as it stands."""

    @property
    def hpo(self) -> HPO | None:
        """The HPO that the section asks for; None without one, where `apply` is false, and inside a worker.

        While a worker loads a target's file it is a stand-in: its `optimize` ends the loading there.

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
        """Go to a worker without this process's environment, and without an HPO."""
        return {"_path": self._path, "config": self.config}

    def __setstate__(self, state: Mapping[str, Any]) -> None:
        self.__dict__.update(state, _environment=os.environ)


def hpo_of(section: object, *, asker: FrameType) -> HPO | None:
    """Return the HPO of a section that the code of `asker` has made itself, and no file."""
    if _is_being_loaded(os.environ, asker):
        return PlaceholderHpo()
    document = {SECTION: dict(section) if isinstance(section, Mapping) else section}
    checked = load_section(document, Path(FROM_DICT), Sources(os.environ), kinds=kind_names())
    return None if checked is None else make_hpo(checked)


def _is_being_loaded(environment: Mapping[str, str], asker: FrameType) -> bool:
    return inside_worker(environment) and LOADING.is_on(asker)


def kind_names() -> tuple[str, ...]:
    """Return the names of all kinds, without importing any."""
    return tuple(sorted(_KINDS))


def make_hpo(section: HpoSection) -> HPO:
    """Return the HPO of the section's kind, which is one of `kind_names()`."""
    module, name = _KINDS[section.kind]
    kind: type[HPO] = getattr(import_module(module), name)
    return kind(section)
