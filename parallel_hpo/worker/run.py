"""What a run counts as, from how `main` left it: pure, the "What counts" of docs/counting.md as code.

The end of a run, as its server hears it: finish what `main` left open, open what it never opened.

A run that the server never heard of (offline, disabled, no `wandb.init()` at all) would be
delivered again: so it is opened here, and closed with its exit code. What it wrote
offline stays in its folder, for the supervisor to send. Where its summary lacks the
sweep's metric, the warning that names it tells what stands in its place.

One run in the main thread: its surroundings, the call of `main`, its end on the server.

`MainThread` is what an interrupt goes through: it reaches `main`, and nothing else of
the worker, as the KeyboardInterrupt that a terminal's Ctrl-C would have been.
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
from parallel_hpo.worker.agent import SEED_VARIABLE, MainCall, begin_streams, write_parameters
from parallel_hpo.worker.cleanup import ProcessCleanup, flush
from parallel_hpo.worker.hooks import HOOKS
from parallel_hpo.worker.restore import restored, why_unwell

INTERRUPTED_EXIT = 255
"""The exit code of a run that Ctrl-C ended, as wandb itself reports it."""


class StopSource(StrEnum):
    """Who asked `main` to stop, if anyone did."""

    NOBODY = "nobody"
    SUPERVISOR = "the supervisor"
    """The sweep's processes leave: the run is stopped, and a resumed sweep runs it again."""
    SWEEP = "the sweep"
    """Its server ends the run early: it is stopped, and performed."""
    LIMIT = "a limit"
    """It is past a limit of the configuration: it has failed."""


@dataclass(frozen=True, slots=True)
class StopRequest:
    """A demand that `main` stop; `reason` is what the run's will be."""

    who: StopSource
    reason: str


NOT_ASKED: Final = StopRequest(StopSource.NOBODY, "")
STOPPED_BY_SWEEP: Final = StopRequest(StopSource.SWEEP, "stopped by the sweep")


class ProgramExit(SystemExit):
    """A sweep's program left with `code`, and `words` is what it said last."""

    def __init__(self, code: int, words: str) -> None:
        super().__init__(code)
        self.words = words


@dataclass(frozen=True, slots=True)
class RunVerdict:
    """How a run ended, and the exit code that its W&B run is closed with."""

    outcome: Outcome
    reason: str
    exit_code: int


def judge(error: BaseException | None, *, ask: StopRequest, unopened: str = "") -> RunVerdict:
    """Return what a run counts as whose `main` returned (`error` is None) or raised `error`.

    What `main` made of a demand to stop changes nothing. `unopened` says why it opened no W&B run;
    empty where it did.
    """
    match ask.who:
        case StopSource.SUPERVISOR:
            return RunVerdict(Outcome.STOPPED, ask.reason, INTERRUPTED_EXIT)
        case StopSource.SWEEP:
            return RunVerdict(Outcome.STOPPED, ask.reason, 1)
        case StopSource.LIMIT:
            return RunVerdict(Outcome.FAILED, ask.reason, 1)
    verdict = _judge_error(error)
    if verdict.outcome is Outcome.FINISHED and unopened:
        return RunVerdict(Outcome.FAILED, unopened, 1)
    return verdict


def _judge_error(error: BaseException | None) -> RunVerdict:
    match error:
        case None:
            return RunVerdict(Outcome.FINISHED, "", 0)
        case ProgramExit(words=words) if words:
            verdict = _judge_exit(error.code)
            return replace(verdict, reason=f"{verdict.reason}: {words}")
        case SystemExit():
            return _judge_exit(error.code)
        case KeyboardInterrupt():
            return RunVerdict(Outcome.FAILED, error_in_words(error), INTERRUPTED_EXIT)
        case _:
            return RunVerdict(Outcome.FAILED, error_in_words(error), 1)


def _judge_exit(code: object) -> RunVerdict:
    """`sys.exit` as the interpreter reads it: nothing or 0 is success, a text is code 1."""
    if code is None or (isinstance(code, int) and code == 0):
        return RunVerdict(Outcome.FINISHED, "", 0)
    if isinstance(code, int):
        return RunVerdict(Outcome.FAILED, f"exit {code}", code & 0xFF or 1)
    return RunVerdict(Outcome.FAILED, f"exit 1: {in_one_line(code)}"[:500], 1)


NOT_A_NUMBER: Final = {"NaN": "NaN", "Infinity": "infinity", "-Infinity": "-infinity"}
"""How wandb-core writes these into a summary; JSON has no words for them."""
SHOWN_CHARS: Final = 40

LONG_S: Final = 120.0
"""A run that is closed for longer waits for its server, or hangs: the stacks say which."""


@dataclass(frozen=True, slots=True)
class ClosedRun:
    """What a run counts as now that it is closed, and what its server knows of that."""

    verdict: RunVerdict
    value: float | None
    """The sweep's metric, as the run's summary has it."""
    told: bool
    """The server has heard of its end."""
    unsent: tuple[str, ...] = ()
    """Folders of what it wrote offline."""
    missing: MissingMetric | None = None
    """What it has in the metric's place, if it finished without one."""
    traceback: str = ""
    """Of the exception that it failed by."""


def close(verdict: RunVerdict) -> ClosedRun:
    """Close the run that has left `main` on its server, with the verdict's exit code."""
    told = True
    if not HOOKS.initialised:
        print(f"parallel_hpo: {verdict.reason}", file=sys.stderr)
    faulthandler.dump_traceback_later(LONG_S)  # into the worker's log, should wandb take so long
    try:
        HOOKS.finish_runs(verdict.exit_code)
    except Exception as error:  # noqa: BLE001 - wandb raises what it likes once its service is gone
        traceback.print_exc()
        told = False
        if verdict.outcome is Outcome.FINISHED:
            reason = f"wandb could not close the run: {error_in_words(error)}"
            verdict = replace(verdict, outcome=Outcome.FAILED, reason=reason, exit_code=1)
    value, unsent = HOOKS.read_value(), HOOKS.offline_folders
    missing = _explain_missing() if value is None and verdict.outcome is Outcome.FINISHED else None
    if not HOOKS.reached_server:
        told = tell_end(verdict.exit_code)
    faulthandler.cancel_dump_traceback_later()
    return ClosedRun(verdict, value, told, unsent, missing)


def tell_end(exit_code: int) -> bool:
    """Open the run that is on and close it with this exit code; return whether the server has heard that.

    What `main` made of this process's client may be in the way: the second try begins with a new one.
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
    """Return what the run's summary has in the place of the sweep's metric; None where that has none."""
    summary = HOOKS.read_summary()
    if HOOKS.metric is None or summary is None:
        return None
    return explain_missing(summary, HOOKS.metric, HOOKS.goal)


def explain_missing(summary: Mapping[str, Any], metric: str, goal: str) -> MissingMetric | None:
    """Return what is there instead of a finite number, and what was logged; None: the metric is there."""
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
    """Yield the names under which something was logged, nested ones with dots; wandb's own begin with _."""
    for key, value in summary.items():
        if key.startswith("_"):
            continue
        if isinstance(value, Mapping) and value and "_type" not in value:
            yield from _logged(value, f"{outer}{key}.")
        else:
            yield f"{outer}{key}"


MOST_TRACEBACK_CHARS: Final = 100_000
"""Of a traceback, so much goes to the supervisor: its end, where the exception is. The log has all of it."""


class MainThread:
    """The main thread as others may interrupt it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._main_call: MainCall | None = None
        self._ask = NOT_ASKED
        self._doomed: StopRequest | None = None
        self._ident = threading.main_thread().ident or 0
        signal.signal(signal.SIGINT, self._on_sigint)

    def interrupt(self, ask: StopRequest, *, run_id: RunId | None = None, preempting: bool = False) -> None:
        """Raise KeyboardInterrupt in the running `main`.

        Nothing where another run than `run_id` is on. Without a run id, a `main` that is still to
        come is not even entered: the supervisor's interrupt is the last that a worker hears.
        """
        with self._lock:
            if run_id is None:
                self._doomed = ask
            if self._main_call is None or run_id not in (None, self._main_call.run_id):
                return
            if preempting and wandb.run is not None:
                with suppress(Exception):  # its service may be gone; the interrupt must come all the same
                    wandb.run.mark_preempting()
            if self._ask is NOT_ASKED:
                self._ask = ask
                signal.pthread_kill(self._ident, signal.SIGINT)

    def call(
        self, main: Callable[[], object], main_call: MainCall
    ) -> tuple[BaseException | None, StopRequest]:
        """Call `main` so that `interrupt` reaches it; return what it raised, and who had asked it to stop."""
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
        """Interrupt `main` only: a signal that comes late finds it gone."""
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
) -> tuple[ClosedRun, StopRequest, str]:
    """Perform one run and close it on the server; return how it is closed, and what asked it to stop.

    The third is why this process can't perform another one, or ''. `check` is called after `main` and
    after the closing, and does not return where the worker can't go on. Under `seed_parameter` the run's
    seed is one of its parameters for whoever reads them.
    """
    HOOKS.begin(main_call.run_id, main_call.attempt)
    begin_streams(main_call.seed, parameter=seed_parameter)
    with _own_surroundings(main_call) as changed:
        error, ask = main_thread.call(main, main_call)
    check()
    HOOKS.look_for_others()
    if error is not None and ask is NOT_ASKED and HOOKS.opened_by_others and HOOKS.asked_to_stop():
        ask = STOPPED_BY_SWEEP
    verdict = judge(error, ask=ask, unopened="" if HOOKS.initialised else HOOKS.unopened)
    told = ""
    if error is not None and verdict.outcome is Outcome.FAILED and not isinstance(error, ProgramExit):
        told = traceback_of(error)  # a program has said itself why it failed
        print(told, end="", file=sys.stderr)
    closed = replace(close(verdict), traceback=told[-MOST_TRACEBACK_CHARS:])
    os.environ.pop("WANDB_RESUME", None)
    check()
    worn = leftovers.end(error)
    if changed:
        worn = f"its last run has changed {', '.join(changed)}"
    return closed, ask, worn or why_unwell()


@contextmanager
def _own_surroundings(main_call: MainCall) -> Iterator[list[str]]:
    """Give a run its facts, and put back what it has changed of the process; yield what can't be."""
    os.environ["PARALLEL_HPO_RUN_ID"] = main_call.run_id
    os.environ["PARALLEL_HPO_ATTEMPT"] = str(main_call.attempt)
    if main_call.attempt > 1:
        os.environ["WANDB_RESUME"] = "allow"  # where an agent, not we, was told to run it again
    try:
        with restored() as changed:
            yield changed
    finally:
        for name in ("PARALLEL_HPO_RUN_ID", "PARALLEL_HPO_ATTEMPT", SEED_VARIABLE):
            os.environ.pop(name, None)  # user code may have taken it away


def _end_fork(error: BaseException | None) -> NoReturn:
    """End a process that `main` forked and let run out of it, as a script's: the run is its parent's."""
    if error is not None and not isinstance(error, SystemExit):
        print(traceback_of(error), end="", file=sys.stderr)
    flush()
    os._exit(judge(error, ask=NOT_ASKED).exit_code)


@contextmanager
def again_environment(path: SweepPath, order: Rerun) -> Iterator[None]:
    """Set up what the agent would have: the run's id, its sweep and its parameters, to be resumed."""
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
