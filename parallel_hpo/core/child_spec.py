"""The first message to a new child: to be a worker, or to run one call and answer.

Pickled over the child's own pipe. The fork server itself reads only `Fork`.
"""

from __future__ import annotations

import signal
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from parallel_hpo.core.types import Parameters, Program, RunId, Slot, SweepPath, Target


@dataclass(frozen=True, slots=True)
class LazyDefinitions:
    """A script's definitions that its `main` does not use, loaded when one of the names is first used."""

    names: frozenset[str] = frozenset()
    payload: bytes = field(default=b"", repr=False)
    at_once: bool = False
    """Load them at once: `main` may use them unnoticed, by `globals()` or in annotations."""
    left_out: Mapping[str, str] = field(default_factory=dict)
    """Names that could not be pickled, and why."""


@dataclass(frozen=True, slots=True)
class Script:
    """The `__main__` of the process that called `optimize`, to be reproduced in a worker."""

    argv: tuple[str, ...] = ()
    facts: Mapping[str, str] = field(default_factory=dict)
    """Its `__file__` and similar attributes, where present."""
    module: str = ""
    """Its name for `python -m`; '' for a plain script."""
    rest: LazyDefinitions = LazyDefinitions()


@dataclass(frozen=True, slots=True)
class SharedMemory:
    """Location of a large payload that all workers share while the session lives."""

    path: str
    buffers: tuple[tuple[int, int], ...] = ()
    """Offset and length in bytes of each out-of-band buffer."""


@dataclass(frozen=True, slots=True)
class PickledMain:
    """The user's `main`, pickled by cloudpickle, and its script."""

    payload: bytes | SharedMemory = field(repr=False)
    """May contain the user's keys and data: not for messages or logs."""
    script: Script = Script()
    size: int = 0
    """Total size in bytes."""


@dataclass(frozen=True, slots=True)
class ChildSetup:
    """A child's setup, applied before it runs user code."""

    environment: Mapping[str, str] = field(repr=False)
    sys_path: tuple[str, ...]
    folder: str
    """Its working directory."""
    cpus: tuple[int, ...] | None = None
    """Cores to bind it to; None: those of the fork server."""
    polite: bool = False
    """Whether it and its children get the lowest priority on processor and disk."""


@dataclass(frozen=True, slots=True)
class WorkerSpec:
    """Become the worker of `slot` for the sweep at `path`."""

    surroundings: ChildSetup
    slot: Slot
    path: SweepPath
    main: PickledMain | Target | Program
    metric: str | None
    goal: str
    keep_login: bool
    """Ignore other keys in `wandb.login(key=…)`: the server takes only the worker's own."""
    activity_every_s: float | None = None
    """Minimum interval between activity reports, in seconds; None: no reports, without a stall timeout."""
    progress_every_s: float = 1.0
    """Minimum interval between progress reports, in seconds."""
    seed_parameter: str | None = None
    """Name of a run's seed in its `wandb.config`; None: not added."""


@dataclass(frozen=True, slots=True)
class ChildCall:
    """Call `function` ("module:name") with `arguments` and send back a CallResult."""

    surroundings: ChildSetup
    function: str
    arguments: tuple[Any, ...] = ()


@dataclass(frozen=True, slots=True)
class RunAgain:
    """Run `main` once in the foreground, as a separate run with these parameters."""

    surroundings: ChildSetup
    main: PickledMain | Target | Program
    run_id: RunId
    parameters: Parameters
    keep_login: bool
    debug: bool
    """Open a debugger on its exception before the run is closed."""
    seed: int | None = None
    """Seed of the repeated run."""
    hint: str = ""
    """What an error says if `main` can't be loaded: the sweep's versions, if they differ from those here."""


@dataclass(frozen=True, slots=True)
class CallResult:
    """A call's return value or error."""

    value: Any = None
    error: str = ""
    """The exception in one line; '' if it returned."""
    traceback: str = ""


STACKS_SIGNAL: Final = getattr(signal, "SIGRTMIN", signal.SIGXCPU) + 3
"""Signal on which a worker writes the stacks of all threads, even while C code holds the GIL (faulthandler).
A real-time signal, since user code uses the others."""

FAILED_TO_BEGIN: Final = 70
"""Exit code of a child that failed to start (EX_SOFTWARE of sysexits.h)."""
ORPHANED: Final = 71
"""Exit code of a worker whose session is gone."""
CUT_OFF: Final = 72
"""Exit code of a worker that can't send reports any more."""
CORE_KILLED: Final = 73
"""Exit code of a worker whose wandb-core died during a run, so that its client can't send anything."""
EXIT_WORDS: Final[Mapping[int, str]] = {
    CORE_KILLED: "its wandb-core was killed",
    ORPHANED: "its pipe to the supervisor was closed",
    CUT_OFF: "main closed file descriptors of the worker",
}


# --- between the supervisor and the fork server ------------------------------------


@dataclass(frozen=True, slots=True)
class Fork:
    """Make a child; its pipe and its output follow as two file descriptors."""

    token: int
    fresh: bool
    """Start a new interpreter in it (`start_method: spawn`)."""


@dataclass(frozen=True, slots=True)
class Preload:
    """Import `ours`, then the user's modules: the fork server's first order."""

    ours: tuple[str, ...] = ()
    users: tuple[str, ...] = ()
    sys_path: tuple[str, ...] = ()
    """Where to find the user's modules; empty: the fork server's own path."""


@dataclass(frozen=True, slots=True)
class Preloaded:
    """The fork server is ready; `error` says which module could not be imported, and why."""

    error: str = ""
    of_users: bool = False
    """Whether the user asked to preload that module."""
    unfit: str = ""
    """A user's module that is unsafe to fork and must be left out; `error` says why."""


@dataclass(frozen=True, slots=True)
class Forked:
    """The child requested with `token` is process `pid`."""

    token: int
    pid: int


@dataclass(frozen=True, slots=True)
class NotForked:
    """The child requested with `token` could not be made: out of processes or file descriptors."""

    token: int
    reason: str


@dataclass(frozen=True, slots=True)
class Reaped:
    """Child `pid` ended with wait status `status`, and so did its whole process tree."""

    pid: int
    status: int
