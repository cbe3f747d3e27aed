"""What a new child is told first: to be a worker, or to run one call and answer.

Pickled over the child's own pipe; the fork server itself reads only `Fork`.
"""

from __future__ import annotations

import signal
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from parallel_hpo.core.types import Parameters, Program, RunId, Slot, SweepPath, Target


@dataclass(frozen=True, slots=True)
class LazyDefinitions:
    """What a script defines besides what its `main` uses: loaded when somebody asks for one of the names."""

    names: frozenset[str] = frozenset()
    payload: bytes = field(default=b"", repr=False)
    at_once: bool = False
    """`main` may look for them where nobody notices: by `globals()`, or in annotations."""
    left_out: Mapping[str, str] = field(default_factory=dict)
    """Names that could not travel, and why not."""


@dataclass(frozen=True, slots=True)
class Script:
    """The `__main__` of the process that called `optimize`, as a worker's is to look."""

    argv: tuple[str, ...] = ()
    facts: Mapping[str, str] = field(default_factory=dict)
    """Its `__file__` and the like, where it has them."""
    module: str = ""
    """The name by which `python -m` has found it; '' where it is a plain script."""
    rest: LazyDefinitions = LazyDefinitions()


@dataclass(frozen=True, slots=True)
class SharedMemory:
    """Where a large payload lies, for all workers at once, as long as the supervisor lives."""

    path: str
    buffers: tuple[tuple[int, int], ...] = ()
    """Of each buffer that stands beside the pickle: where it begins, and how many bytes it has."""


@dataclass(frozen=True, slots=True)
class PickledMain:
    """The user's `main`, by cloudpickle, and the script that it comes from."""

    payload: bytes | SharedMemory = field(repr=False)
    """Whatever `main` refers to, keys and data included: not for a message or a log."""
    script: Script = Script()
    size: int = 0
    """All of it, in bytes."""


@dataclass(frozen=True, slots=True)
class ChildSetup:
    """What a child is set up with before any code of the user's runs in it."""

    environment: Mapping[str, str] = field(repr=False)
    sys_path: tuple[str, ...]
    folder: str
    """Its working directory."""
    cpus: tuple[int, ...] | None = None
    """The cores that it is bound to; None: those of the fork server."""
    polite: bool = False
    """It and all that it starts have the least priority on processor and disk."""


@dataclass(frozen=True, slots=True)
class WorkerSpec:
    """Be the worker of `slot`, for the sweep at `path`."""

    surroundings: ChildSetup
    slot: Slot
    path: SweepPath
    main: PickledMain | Target | Program
    metric: str | None
    goal: str
    keep_login: bool
    """The server takes only the key that the worker was given: `wandb.login(key=…)` keeps it."""
    activity_every_s: float | None = None
    """Say at most so often that the run logs something; None: never, for nobody looks for stalls."""
    progress_every_s: float = 1.0
    """Say at most so often how far the run is."""
    seed_parameter: str | None = None
    """Under which name a run's seed stands in its `wandb.config`; None: under none."""


@dataclass(frozen=True, slots=True)
class ChildCall:
    """Call `function` ("module:name") with `arguments` and send back an CallResult."""

    surroundings: ChildSetup
    function: str
    arguments: tuple[Any, ...] = ()


@dataclass(frozen=True, slots=True)
class RunAgain:
    """Run `main` once, in the foreground, as a run of its own with these parameters."""

    surroundings: ChildSetup
    main: PickledMain | Target | Program
    run_id: RunId
    parameters: Parameters
    keep_login: bool
    debug: bool
    """Look into the exception that it raises by a debugger, before the run is closed."""
    seed: int | None = None
    """That of the run that it repeats."""


@dataclass(frozen=True, slots=True)
class CallResult:
    """What a call returned, or how it failed."""

    value: Any = None
    error: str = ""
    """The exception in one line; empty where it returned."""
    traceback: str = ""


STACKS_SIGNAL: Final = getattr(signal, "SIGRTMIN", signal.SIGXCPU) + 3
"""On this signal a worker writes the stack of every thread, also while C code holds the GIL
(faulthandler); a real-time signal, since user code has its own uses for the others."""

FAILED_TO_BEGIN: Final = 70
"""Exit code of a child that came to nothing (EX_SOFTWARE of sysexits.h)."""
ORPHANED: Final = 71
"""Exit code of a worker that hears no supervisor any more."""
CUT_OFF: Final = 72
"""Exit code of a worker that can't report any more."""
CORE_KILLED: Final = 73
"""Exit code of a worker whose wandb-core died during a run: its client can say nothing any more."""
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
class Preloaded:
    """The fork server is up; `error` says which module could not be imported, and why."""

    error: str = ""
    of_users: bool = False
    """The module is one that the user wants preloaded."""
    unfit: str = ""
    """A module of the user's that forks can't live with; `error` says why, and it is to be left out."""


@dataclass(frozen=True, slots=True)
class Forked:
    """The child asked for under `token` is the process `pid`."""

    token: int
    pid: int


@dataclass(frozen=True, slots=True)
class NotForked:
    """There is no child for `token`: the system had no process for it, or no descriptor."""

    token: int
    reason: str


@dataclass(frozen=True, slots=True)
class Reaped:
    """The child `pid` ended with wait status `status`, and nothing of its process tree lives."""

    pid: int
    status: int
