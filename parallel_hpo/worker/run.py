"""One run in the main thread: its environment, the call of `main`, its outcome, and its end on the server.

`classify` is the code of "What counts" in docs/counting.md. `MainThread` passes interrupts to `main` only,
as the KeyboardInterrupt of a terminal's Ctrl-C.

A server would deliver a run again whose end it never received (offline, disabled, no `wandb.init()`). So
such a run is opened here and closed with its exit code. Its offline data stays in its folder; the session
uploads it. If its summary lacks the sweep's metric, a warning says what is there instead.
"""

from __future__ import annotations

import faulthandler
import math
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from types import FrameType
from typing import Any, Final, NoReturn

import wandb

from parallel_hpo.core.errors import error_in_words, in_one_line
from parallel_hpo.core.messages import MissingMetric, Rerun
from parallel_hpo.core.types import Outcome, RunId, SweepPath
from parallel_hpo.core.values import MISSING, counting, find_value, lookup
from parallel_hpo.worker.agent import SEED_VARIABLE, MainCall, seed_random, write_parameters
from parallel_hpo.worker.cleanup import ProcessCleanup, flush
from parallel_hpo.worker.hooks import HOOKS
from parallel_hpo.worker.restore import health_problem, restored

INTERRUPTED_EXIT = 255
"""Exit code of a run that Ctrl-C ended, as wandb reports it."""


class StopSource(StrEnum):
    """Who asked `main` to stop, if any."""

    NOBODY = "nobody"
    SUPERVISOR = "the supervisor"
    """The sweep's processes leave: the run is stopped, and a resumed sweep requeues it."""
    SWEEP = "the sweep"
    """The server stops the run early: it is stopped, and counts as done."""
    LIMIT = "a limit"
    """It exceeds a limit of the configuration: it has failed."""


@dataclass(frozen=True, slots=True)
class StopRequest:
    """A request that `main` stop; `reason` becomes the run's."""

    who: StopSource
    reason: str


NOT_ASKED: Final = StopRequest(StopSource.NOBODY, "")
STOPPED_BY_SWEEP: Final = StopRequest(StopSource.SWEEP, "stopped by the sweep")


class ProgramExit(SystemExit):
    """A sweep's program exited with `code`; `words` is the end of its stderr."""

    def __init__(self, code: int, words: str) -> None:
        super().__init__(code)
        self.words = words


@dataclass(frozen=True, slots=True)
class RunVerdict:
    """A run's outcome, and the exit code for its W&B run."""

    outcome: Outcome
    reason: str
    exit_code: int


def classify(error: BaseException | None, *, ask: StopRequest, unopened: str = "") -> RunVerdict:
    """Return the outcome of a run whose `main` returned (`error` is None) or raised `error`.

    Args:
        error: ignored after a stop.
        ask: the request to stop, if any.
        unopened: why it opened no W&B run; empty if it did.
    """
    match ask.who:
        case StopSource.SUPERVISOR:
            return RunVerdict(Outcome.STOPPED, ask.reason, INTERRUPTED_EXIT)
        case StopSource.SWEEP:
            return RunVerdict(Outcome.STOPPED, ask.reason, 1)
        case StopSource.LIMIT:
            return RunVerdict(Outcome.FAILED, ask.reason, 1)
    verdict = _classify_error(error)
    if verdict.outcome is Outcome.FINISHED and unopened:
        return RunVerdict(Outcome.FAILED, unopened, 1)
    return verdict


def _classify_error(error: BaseException | None) -> RunVerdict:
    match error:
        case None:
            return RunVerdict(Outcome.FINISHED, "", 0)
        case ProgramExit(words=words) if words:
            verdict = _classify_exit(error.code)
            return replace(verdict, reason=f"{verdict.reason}: {words}")
        case SystemExit():
            return _classify_exit(error.code)
        case KeyboardInterrupt():
            return RunVerdict(Outcome.FAILED, error_in_words(error), INTERRUPTED_EXIT)
        case _:
            return RunVerdict(Outcome.FAILED, error_in_words(error), 1)


def _classify_exit(code: object) -> RunVerdict:
    """Return the outcome of `sys.exit`, as the interpreter sees it: None or 0 is success, a text is code
    1."""
    if code is None or (isinstance(code, int) and code == 0):
        return RunVerdict(Outcome.FINISHED, "", 0)
    if isinstance(code, int):
        return RunVerdict(Outcome.FAILED, f"exit {code}", code & 0xFF or 1)
    return RunVerdict(Outcome.FAILED, f"exit 1: {in_one_line(code)}"[:500], 1)


NOT_A_NUMBER: Final = {"NaN": "NaN", "Infinity": "infinity", "-Infinity": "-infinity"}
"""How wandb-core writes these values into a summary, as JSON has none."""
SHOWN_CHARS: Final = 40

LONG_S: Final = 120.0
"""Time in seconds after which closing a run writes the stacks: it waits for its server, or hangs."""


@dataclass(frozen=True, slots=True)
class ClosedRun:
    """A closed run's outcome and value, and what its server knows of its end."""

    verdict: RunVerdict
    value: float | None
    """The sweep's metric from the run's summary."""
    reported: bool
    """The server has received its end."""
    unsent: tuple[str, ...] = ()
    """Folders of its offline data."""
    missing: MissingMetric | None = None
    """What it logged instead of the metric, if it finished without one."""
    traceback: str = ""
    """Traceback of the exception that it failed with."""


def close(verdict: RunVerdict) -> ClosedRun:
    """Close the active run on its server with the verdict's exit code."""
    reported = True
    if not HOOKS.initialised:
        print(f"parallel_hpo: {verdict.reason}", file=sys.stderr)
    faulthandler.dump_traceback_later(LONG_S)  # into the worker's log
    try:
        HOOKS.finish_runs(verdict.exit_code)
    except Exception as error:  # noqa: BLE001 - wandb may raise anything once its service has ended
        traceback.print_exc()
        reported = False
        if verdict.outcome is Outcome.FINISHED:
            reason = f"wandb could not close the run: {error_in_words(error)}"
            verdict = replace(verdict, outcome=Outcome.FAILED, reason=reason, exit_code=1)
    value, unsent = HOOKS.read_value(), HOOKS.offline_folders
    missing = _explain_missing() if value is None and verdict.outcome is Outcome.FINISHED else None
    if not HOOKS.reached_server:
        reported = report_end(verdict.exit_code)
    faulthandler.cancel_dump_traceback_later()
    return ClosedRun(verdict, value, reported, unsent, missing)


def report_end(exit_code: int) -> bool:
    """Open the active run and close it with this exit code; return whether the server has received that.

    The second try uses a new client, as `main` may have broken this process's client.
    """
    for teardown in (False, True):
        try:
            if teardown:
                wandb.teardown()
            wandb.init(mode="online").finish(exit_code=exit_code)
        except Exception:  # noqa: BLE001 - as above
            traceback.print_exc()
        else:
            return True
    return False


def _explain_missing() -> MissingMetric | None:
    """Return what the run's summary has instead of the sweep's metric; None without metric or summary."""
    summary = HOOKS.read_summary()
    if HOOKS.metric is None or summary is None:
        return None
    return explain_missing(summary, HOOKS.metric, HOOKS.goal)


def explain_missing(summary: Mapping[str, Any], metric: str, goal: str) -> MissingMetric | None:
    """Return what the summary has instead of a finite metric, and what was logged; None if the metric is
    fine."""
    if find_value(summary, metric, goal) is not None:
        return None
    found = counting(lookup(summary, metric), goal)
    return MissingMetric(_in_words(found), tuple(sorted(_logged(summary))))


def _in_words(value: object) -> str:
    if value is MISSING or value == {}:
        return "nothing"
    match value:
        case None:
            return "nothing"
        case bool():
            return f"a boolean, {str(value).lower()}"
        case str():
            return NOT_A_NUMBER.get(value, f"a text, {value[:SHOWN_CHARS]!r}")
        case float():
            return "NaN" if math.isnan(value) else "infinity" if value > 0 else "-infinity"
        case int():
            return "a number that is too large"
        case list():
            return "a list"
        case Mapping():
            return f"an object of type {value['_type']}" if "_type" in value else "a table of values"
    return f"a {type(value).__name__}"


def _logged(summary: Mapping[str, Any], outer: str = "") -> Iterator[str]:
    """Yield the logged names, nested ones with dots, without wandb's own, which begin with _."""
    for key, value in summary.items():
        if key.startswith("_"):
            continue
        if isinstance(value, Mapping) and value and "_type" not in value:
            yield from _logged(value, f"{outer}{key}.")
        else:
            yield f"{outer}{key}"


MOST_TRACEBACK_CHARS: Final = 100_000
"""Maximum characters of a traceback for the session: its end has the exception, the log has all."""


class MainThread:
    """Calls `main` in the main thread, and lets other threads interrupt it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._main_call: MainCall | None = None
        self._ask = NOT_ASKED
        self._doomed: StopRequest | None = None
        self._ident = threading.main_thread().ident or 0
        signal.signal(signal.SIGINT, self._on_sigint)

    def interrupt(self, ask: StopRequest, *, run_id: RunId | None = None, preempting: bool = False) -> None:
        """Raise KeyboardInterrupt in the running `main`.

        Do nothing if another run than `run_id` is active. Without a run id, later calls of `main` are
        refused too: the supervisor's interrupt is the last order to a worker.
        """
        with self._lock:
            if run_id is None:
                self._doomed = ask
            if self._main_call is None or run_id not in (None, self._main_call.run_id):
                return
            if preempting and wandb.run is not None:
                with suppress(Exception):  # its service may have ended; interrupt anyway
                    wandb.run.mark_preempting()
            if self._ask is NOT_ASKED:
                self._ask = ask
                signal.pthread_kill(self._ident, signal.SIGINT)

    def call(
        self, main: Callable[[], object], main_call: MainCall
    ) -> tuple[BaseException | None, StopRequest]:
        """Call `main` so that `interrupt` reaches it; return what it raised, and the request to stop."""
        error: BaseException | None = None
        process = os.getpid()
        try:
            try:
                with self._lock:
                    if self._doomed is not None:
                        return KeyboardInterrupt(), self._doomed
                    self._main_call, self._ask = main_call, NOT_ASKED
                main()
            finally:
                self._main_call = None
        except BaseException as raised:  # noqa: BLE001 - this is the edge at which user code ends
            error = raised
        if os.getpid() != process:
            _end_fork(error)
        with self._lock:
            self._main_call = None
            return error, self._ask

    def _on_sigint(self, signum: int, frame: FrameType | None) -> None:
        """Interrupt `main` only; ignore a late signal."""
        if self._main_call is not None:
            raise KeyboardInterrupt


def perform(
    main: Callable[[], object],
    main_call: MainCall,
    main_thread: MainThread,
    *,
    check: Callable[[], None],
    leftovers: ProcessCleanup,
    seed_parameter: str | None = None,
) -> tuple[ClosedRun, StopRequest, str | None]:
    """Execute one run and close it on the server.

    Return the closed run, the request to stop, and why this process can't execute another run, or None.

    Args:
        check: called after `main` and after closing; does not return if the worker can't continue.
        seed_parameter: name of the parameter that gets the run's seed.
    """
    HOOKS.begin(main_call.run_id, main_call.attempt)
    seed_random(main_call.seed, parameter=seed_parameter)
    with _own_surroundings(main_call) as changed:
        error, ask = main_thread.call(main, main_call)
    check()
    HOOKS.look_for_others()
    if error is not None and ask is NOT_ASKED and HOOKS.opened_by_others and HOOKS.asked_to_stop():
        ask = STOPPED_BY_SWEEP
    verdict = classify(error, ask=ask, unopened="" if HOOKS.initialised else HOOKS.unopened)
    text = ""
    if error is not None and verdict.outcome is Outcome.FAILED and not isinstance(error, ProgramExit):
        text = traceback_of(error)  # a program has printed its own error
        print(text, end="", file=sys.stderr)
    closed = replace(close(verdict), traceback=text[-MOST_TRACEBACK_CHARS:])
    os.environ.pop("WANDB_RESUME", None)
    check()
    problem = leftovers.end(error)
    if changed:
        problem = f"its last run has changed {', '.join(changed)}"
    return closed, ask, problem or health_problem()


@contextmanager
def _own_surroundings(main_call: MainCall) -> Iterator[list[str]]:
    """Set a run's variables, and restore the process after it; yield what can't be restored."""
    os.environ["PARALLEL_HPO_RUN_ID"] = main_call.run_id
    os.environ["PARALLEL_HPO_ATTEMPT"] = str(main_call.attempt)
    if main_call.attempt > 1:
        os.environ["WANDB_RESUME"] = "allow"  # an agent, unlike our reruns, does not set it
    try:
        with restored() as changed:
            yield changed
    finally:
        for name in ("PARALLEL_HPO_RUN_ID", "PARALLEL_HPO_ATTEMPT", SEED_VARIABLE):
            os.environ.pop(name, None)  # user code may have removed it


def _end_fork(error: BaseException | None) -> NoReturn:
    """End a fork of `main` that returned from it, like a script: the run belongs to its parent."""
    if error is not None and not isinstance(error, SystemExit):
        print(traceback_of(error), end="", file=sys.stderr)
    flush()
    os._exit(classify(error, ask=NOT_ASKED).exit_code)


@contextmanager
def rerun_environment(path: SweepPath, order: Rerun) -> Iterator[None]:
    """Set the environment for a further attempt, as an agent would: id, sweep, parameters, resume."""
    wandb.teardown()
    file = Path(os.environ["WANDB_DIR"], "wandb", f"sweep-{path.sweep_id}", f"config-{order.run_id}.yaml")
    write_parameters(file, order.parameters)
    own = {
        "WANDB_RUN_ID": order.run_id,
        "WANDB_SWEEP_ID": path.sweep_id,
        "WANDB_SWEEP_PARAM_PATH": str(file),
        "WANDB_ENTITY": path.entity,
        "WANDB_PROJECT": path.project,
        "WANDB_RESUME": "allow",
    }
    os.environ.update(own)
    try:
        yield
    finally:
        for name in ("WANDB_RUN_ID", "WANDB_SWEEP_ID", "WANDB_SWEEP_PARAM_PATH", "WANDB_RESUME"):
            os.environ.pop(name, None)
        wandb.teardown()


def traceback_of(error: BaseException) -> str:
    """Return an exception's traceback as the interpreter prints it."""
    try:
        return "".join(traceback.format_exception(error))
    except Exception:  # noqa: BLE001 - an exception of user code may refuse to be printed
        return f"{error_in_words(error)}\n"
