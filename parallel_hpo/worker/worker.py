"""A worker's life: orders in, `main` in the main thread, reports out.

    control thread ──orders──▶ ┌─────────┐ ◀──main_calls── agent thread (wandb.agent)
                               │ inbox   │
                               └────┬────┘
                       main thread: _turn() ─▶ Performance: main() ─▶ report

One inbox feeds the main thread. The control thread also interrupts a running `main`, and if the supervisor
has ended, it kills this process and all its descendants.
"""

from __future__ import annotations

import contextlib
import faulthandler
import functools
import os
import queue
import sys
import threading
import time
import traceback
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Final, NoReturn, SupportsIndex

from parallel_hpo.core.child_spec import (
    CORE_KILLED,
    CUT_OFF,
    EXIT_WORDS,
    FAILED_TO_BEGIN,
    ORPHANED,
    STACKS_SIGNAL,
    WorkerSpec,
)
from parallel_hpo.core.errors import error_in_words
from parallel_hpo.core.messages import (
    Active,
    CutRun,
    Drain,
    Interrupt,
    Lease,
    LeaseEnded,
    Order,
    Proceed,
    Ready,
    Report,
    Rerun,
    RunEnded,
    RunStarted,
    SkipRun,
    StartFailed,
)
from parallel_hpo.core.types import Outcome, RunId
from parallel_hpo.worker import agent_patch, target, tree
from parallel_hpo.worker.agent import AgentReturned, LeaseAgent, MainCall
from parallel_hpo.worker.agent_patch import was_asked_to_stop
from parallel_hpo.worker.cleanup import ProcessCleanup, flush, leave
from parallel_hpo.worker.hooks import HOOKS
from parallel_hpo.worker.run import (
    STOPPED_BY_SWEEP,
    MainThread,
    StopRequest,
    StopSource,
    perform,
    report_end,
    rerun_environment,
)

STUCK: Final = "its agent could not go on"
ALIVE_EVERY_S: Final = 10.0
"""Minimum interval of reports that the agent waits for a run (a paused sweep, others' last runs), in
seconds."""
INTERRUPTED = StopRequest(StopSource.SUPERVISOR, "interrupted")


@functools.cache
def prepare() -> agent_patch.HeartbeatTimer:
    """Set up wandb for a worker, once; forks of the process share the result and its memory."""
    agent_patch.import_early()
    HOOKS.install()
    return agent_patch.install(lambda text: print(text, file=sys.stderr))


@dataclass(frozen=True, slots=True)
class AgentLost:
    """The agent can't ask for more runs, and does not return; `error` says why."""

    error: str


class Worker:
    """The worker of one slot."""

    def __init__(self, spec: WorkerSpec, connection: Connection) -> None:
        self._spec = spec
        self._connection = connection
        self._inbox: queue.SimpleQueue[Order | MainCall | AgentReturned | AgentLost] = queue.SimpleQueue()
        self._alive_at = 0.0
        self._reuse_problem: str | None = None
        """Why this process can't execute another run."""
        self._leaving = threading.Event()
        self._main_thread = MainThread()
        self._sending = threading.Lock()
        self._pipe = os.fstat(connection.fileno())

    def __reduce_ex__(self, protocol: SupportsIndex) -> NoReturn:
        """Refuse to be copied or pickled: a copy of the connection closes the pipe when it is collected."""
        raise TypeError("a worker can be neither copied nor pickled")

    def live(self) -> NoReturn:
        """Serve the supervisor until its order to leave; called in the process's main thread."""
        faulthandler.enable()
        faulthandler.register(STACKS_SIGNAL, all_threads=True)
        self._pace = prepare()
        self._pace.on_idle_beat = self._report_alive
        self._pace.on_lost = lambda error: self._inbox.put(AgentLost(f"{STUCK}: {error_in_words(error)}"))
        self._set_hooks()
        try:
            self._main = target.load_main(self._spec.main)
        except BaseException as error:  # noqa: BLE001 - user code may raise anything while it is loaded
            self._report(StartFailed(error_in_words(error), traceback.format_exc()))
            self._end(FAILED_TO_BEGIN)
        HOOKS.program = target.program_of(self._spec.main)
        self._leftovers = ProcessCleanup()
        threading.Thread(target=self._listen, name="parallel_hpo-control", daemon=True).start()
        self._report(Ready())
        while self._turn():
            pass
        leave(0)

    def _set_hooks(self) -> None:
        spec = self._spec
        HOOKS.metric, HOOKS.goal, HOOKS.keep_login = spec.metric, spec.goal, spec.keep_login
        HOOKS.on_stop = self._stop_for_sweep
        if spec.keep_login:
            HOOKS.asked_to_stop = lambda: was_asked_to_stop(spec.path, HOOKS.run_id)
        if spec.activity_every_s is not None:
            HOOKS.progress.report_activity(self._report_active, every_s=spec.activity_every_s)
        HOOKS.progress.metric, HOOKS.progress.goal = spec.metric, spec.goal
        HOOKS.progress.report(self._report, every_s=spec.progress_every_s)

    def _listen(self) -> None:
        """Receive orders; the supervisor's end of the pipe closes only when it has ended."""
        try:
            while True:
                order = self._connection.recv()
                if isinstance(order, Drain | Interrupt):
                    self._leaving.set()
                match order:
                    case CutRun(run_id, reason):
                        self._main_thread.interrupt(StopRequest(StopSource.LIMIT, reason), run_id=run_id)
                        continue
                    case Interrupt(preempting):
                        self._main_thread.interrupt(INTERRUPTED, preempting=preempting)
                self._inbox.put(order)
        except (EOFError, OSError):
            tree.kill_all_below(spare=tree.is_tracker)  # trackers wait for the end of this process too
            os._exit(ORPHANED)

    def _turn(self) -> bool:
        """Handle the next message; return False on an order to leave."""
        match self._inbox.get():
            case Lease(count):
                LeaseAgent(
                    self._spec.path,
                    count,
                    hand_over=self._inbox.put,
                    stop_main=lambda main_call: self._stop_for_sweep(main_call.run_id),
                ).start()
            case MainCall() as main_call:
                if self._perform(main_call):
                    self._pace.run_is_over()
                    main_call.over.set()
            case AgentReturned(short, ""):
                self._report(LeaseEnded(short=short))
            case AgentReturned(_, error):
                self._report(LeaseEnded(short=True, error=f"{STUCK}: {error}"))
            case AgentLost(error):
                self._report(LeaseEnded(short=True, error=error))
            case Rerun() as order:
                self._perform_again(order)
            case Drain() | Interrupt():
                return False
            case Proceed() | SkipRun():
                pass  # its run was given up; the order to leave follows
        return True

    def _perform_again(self, order: Rerun) -> None:
        """Run another attempt of a run, without an agent, as its id and parameters are known."""
        with rerun_environment(self._spec.path, order):
            main_call = MainCall(order.run_id, order.parameters, order.attempt, by_agent=False)
            if self._perform(main_call):
                self._report(LeaseEnded())

    def _perform(self, main_call: MainCall) -> bool:
        """Execute one run; return False if this process must leave, before the run (which is requeued) or
        after.

        The shim then keeps waiting, so that its agent draws no further run.
        """
        self._report(RunStarted(main_call.run_id, main_call.parameters, main_call.attempt, main_call.index))
        match self._await_leave_to_start():
            case SkipRun(_, exit_code):
                self._skip(exit_code, main_call)
            case Proceed(_, attempt, seed):
                main_call.attempt, main_call.seed = attempt, seed
                self._perform_recorded(main_call)
            case Drain() | Interrupt() as order:
                self._inbox.put(order)
                return False
        return not (self._leaving.is_set() or self._reuse_problem)

    def _await_leave_to_start(self) -> Order:
        """Return the order about the run; other messages wait until after the run."""
        later = []
        while not isinstance(order := self._inbox.get(), Proceed | SkipRun | Drain | Interrupt):
            later.append(order)
        for other in later:
            self._inbox.put(other)
        return order

    def _skip(self, exit_code: int | None, main_call: MainCall) -> None:
        """Skip a run, and report its end to the server if `exit_code` is given."""
        HOOKS.begin(main_call.run_id, main_call.attempt)
        if exit_code is not None:
            os.environ["WANDB_RESUME"] = "allow"  # keep data that was sent in the meantime
            report_end(exit_code)
            os.environ.pop("WANDB_RESUME", None)
        self._reuse_problem = _agent_problem(main_call)
        if self._reuse_problem:
            self._inbox.put(AgentLost(self._reuse_problem))

    def _perform_recorded(self, main_call: MainCall) -> None:
        closed, ask, problem = perform(
            self._main,
            main_call,
            self._main_thread,
            check=self._exit_if_broken,
            leftovers=self._leftovers,
            seed_parameter=self._spec.seed_parameter,
        )
        self._reuse_problem = problem or _agent_problem(main_call)
        verdict = closed.verdict
        unasked_failure = verdict.outcome is Outcome.FAILED and ask.who is StopSource.NOBODY
        self._report(
            RunEnded(
                main_call.run_id,
                main_call.attempt,
                outcome=verdict.outcome,
                reason=verdict.reason,
                value=closed.value,
                resumable=ask.who is StopSource.SUPERVISOR,
                preempted=HOOKS.preempted and unasked_failure,
                reported=closed.reported,
                unsent=closed.unsent,
                missing=closed.missing,
                traceback=closed.traceback,
                reuse_problem=self._reuse_problem or "",
            )
        )

    def _stop_for_sweep(self, run_id: RunId) -> None:
        self._main_thread.interrupt(STOPPED_BY_SWEEP, run_id=run_id)

    def _exit_if_broken(self) -> None:
        """Exit if `main` has closed descriptors that are not its own, or if its wandb-core was killed.

        Nothing can be reported to the session or the server then, and wandb would wait forever.
        """
        try:
            whole = os.path.samestat(os.fstat(self._connection.fileno()), self._pipe)
        except OSError:
            whole = False
        code = CUT_OFF if not whole else CORE_KILLED if HOOKS.core.was_killed() else 0
        if code:
            print(f"parallel_hpo: {EXIT_WORDS[code]}", file=sys.stderr)
            self._end(code)

    def _report(self, report: Report) -> None:
        with self._sending:
            self._connection.send(report)

    def _report_alive(self) -> None:
        now = time.monotonic()
        if now - self._alive_at >= ALIVE_EVERY_S:
            self._alive_at = now
            self._report_active()

    def _report_active(self) -> None:
        with contextlib.suppress(OSError):  # the control thread handles the supervisor's end
            self._report(Active())

    def _end(self, code: int) -> NoReturn:
        """Exit at once; the fork server cleans up."""
        flush()
        os._exit(code)


def _agent_problem(main_call: MainCall) -> str | None:
    """Return why the agent can't ask for another run, or None."""
    torn = HOOKS.torn_down and main_call.by_agent
    return "wandb was torn down in it, which ended its agent's connection" if torn else None
