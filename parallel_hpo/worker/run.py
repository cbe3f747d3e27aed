"""One run in the main thread: its surroundings, the call of `main`, its end on the server.

`MainThread` is what an interrupt goes through: it reaches `main`, and nothing else of
the worker, as the KeyboardInterrupt that a terminal's Ctrl-C would have been.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import Final, NoReturn

import wandb

from parallel_hpo.protocol.messages import Rerun
from parallel_hpo.words import Outcome, RunId, SweepPath
from parallel_hpo.worker.agent import MainCall, write_parameters
from parallel_hpo.worker.closing import Closed, close
from parallel_hpo.worker.leaving import flush
from parallel_hpo.worker.leftovers import Leftovers
from parallel_hpo.worker.restoring import restored, why_unwell
from parallel_hpo.worker.seeding import SEED_VARIABLE, begin_streams
from parallel_hpo.worker.verdict import NOT_ASKED, STOPPED_BY_SWEEP, Ask, ProgramExit, judge
from parallel_hpo.worker.watch import WATCH
from parallel_hpo.worker.wording import error_in_words

MOST_TRACEBACK_CHARS: Final = 100_000
"""Of a traceback, so much goes to the supervisor: its end, where the exception is. The log has all of it."""


class MainThread:
    """The main thread as others may interrupt it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._main_call: MainCall | None = None
        self._ask = NOT_ASKED
        self._doomed: Ask | None = None
        self._ident = threading.main_thread().ident or 0
        signal.signal(signal.SIGINT, self._on_sigint)

    def interrupt(self, ask: Ask, *, run_id: RunId | None = None, preempting: bool = False) -> None:
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

    def call(self, main: Callable[[], object], main_call: MainCall) -> tuple[BaseException | None, Ask]:
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
    leftovers: Leftovers,
    seed_parameter: str | None = None,
) -> tuple[Closed, Ask, str]:
    """Perform one run and close it on the server; return how it is closed, and what asked it to stop.

    The third is why this process can't perform another one, or ''. `check` is called after `main` and
    after the closing, and does not return where the worker can't go on. Under `seed_parameter` the run's
    seed is one of its parameters for whoever reads them.
    """
    WATCH.begin(main_call.run_id, main_call.attempt)
    begin_streams(main_call.seed, parameter=seed_parameter)
    with _own_surroundings(main_call) as changed:
        error, ask = main_thread.call(main, main_call)
    check()
    WATCH.look_for_others()
    if error is not None and ask is NOT_ASKED and WATCH.opened_by_others and WATCH.asked_to_stop():
        ask = STOPPED_BY_SWEEP
    verdict = judge(error, ask=ask, unopened="" if WATCH.initialised else WATCH.unopened)
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
