"""A worker's life: orders in, `main` in the main thread, reports out.

    control thread ──orders──▶ ┌─────────┐ ◀──main_calls── agent thread (wandb.agent)
                               │ inbox   │
                               └────┬────┘
                       main thread: _turn() ─▶ Performance: main() ─▶ report

One inbox feeds the main thread. The control thread does two things besides: it
interrupts a running `main`, and when the supervisor is gone it kills all below this
process and ends it.
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
    again_environment,
    perform,
    tell_end,
)

STUCK: Final = "its agent could not go on"
SAY_ALIVE_EVERY_S: Final = 10.0
"""How often a worker says at most that its agent asks in vain (a paused sweep, others' last runs)."""
INTERRUPTED = StopRequest(StopSource.SUPERVISOR, "interrupted")


@functools.cache
def prepare() -> agent_patch.HeartbeatTimer:
    """Make this process's wandb a worker's, once; forks of the process share that, and its memory."""
    agent_patch.import_early()
    HOOKS.install()
    return agent_patch.install(lambda text: print(text, file=sys.stderr))


@dataclass(frozen=True, slots=True)
class AgentLost:
    """The agent will ask for no more runs and not return either, or must not: why, in words."""

    error: str


class Worker:
    """The worker of one slot, from its beginning to its end."""

    def __init__(self, spec: WorkerSpec, connection: Connection) -> None:
        self._spec = spec
        self._connection = connection
        self._inbox: queue.SimpleQueue[Order | MainCall | AgentReturned | AgentLost] = queue.SimpleQueue()
        self._alive_at = 0.0
        self._worn = ""
        """Why this process can perform no other run."""
        self._leaving = threading.Event()
        self._main_thread = MainThread()
        self._sending = threading.Lock()
        self._pipe = os.fstat(connection.fileno())

    def __reduce_ex__(self, protocol: SupportsIndex) -> NoReturn:
        """Refuse to be copied or pickled: a copy of the connection closes the pipe when it is collected."""
        raise TypeError("a worker can be neither copied nor pickled")

    def live(self) -> NoReturn:
        """Serve the supervisor until it says to leave; called in the process's main thread."""
        faulthandler.enable()
        faulthandler.register(STACKS_SIGNAL, all_threads=True)
        self._pace = prepare()
        self._pace.on_idle_beat = self._say_alive
        self._pace.on_lost = lambda error: self._inbox.put(AgentLost(f"{STUCK}: {error_in_words(error)}"))
        self._set_watch()
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

    def _set_watch(self) -> None:
        spec = self._spec
        HOOKS.metric, HOOKS.goal, HOOKS.keep_login = spec.metric, spec.goal, spec.keep_login
        HOOKS.on_stop = self._stop_for_sweep
        if spec.keep_login:
            HOOKS.asked_to_stop = lambda: was_asked_to_stop(spec.path, HOOKS.run_id)
        if spec.activity_every_s is not None:
            HOOKS.course.tell_activity(self._say_active, every_s=spec.activity_every_s)
        HOOKS.course.metric, HOOKS.course.goal = spec.metric, spec.goal
        HOOKS.course.tell(self._report, every_s=spec.progress_every_s)

    def _listen(self) -> None:
        """Take orders as they come; the supervisor's end of the pipe closes only when it is gone."""
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
            tree.kill_all_below(spare=tree.is_tracker)  # they wait for the end of this process too
            os._exit(ORPHANED)

    def _turn(self) -> bool:
        """Do the next thing; False: it was to leave."""
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
                pass  # its run was given up: the order to leave that was meant to come first follows
        return True

    def _perform_again(self, order: Rerun) -> None:
        """Run a dead worker's run again, without an agent: its id and parameters are known."""
        with again_environment(self._spec.path, order):
            main_call = MainCall(order.run_id, order.parameters, order.attempt, by_agent=False)
            if self._perform(main_call):
                self._report(LeaseEnded())

    def _perform(self, main_call: MainCall) -> bool:
        """Perform one run; False: this process is to leave, before the run (it goes back unstarted) or after.

        The shim is then left waiting, so that its agent draws no further run.
        """
        self._report(RunStarted(main_call.run_id, main_call.parameters, main_call.attempt, main_call.place))
        match self._await_leave_to_start():
            case SkipRun(_, exit_code):
                self._settle(exit_code, main_call)
            case Proceed(_, attempt, seed):
                main_call.attempt, main_call.seed = attempt, seed
                self._perform_recorded(main_call)
            case Drain() | Interrupt() as order:
                self._inbox.put(order)
                return False
        return not (self._leaving.is_set() or self._worn)

    def _await_leave_to_start(self) -> Order:
        """Return the order that says what becomes of the run; an agent's loss waits until it is over."""
        later = []
        while not isinstance(order := self._inbox.get(), Proceed | SkipRun | Drain | Interrupt):
            later.append(order)
        for other in later:
            self._inbox.put(other)
        return order

    def _settle(self, exit_code: int | None, main_call: MainCall) -> None:
        """Pass over a run, and tell the server of its end where that is wanted."""
        HOOKS.begin(main_call.run_id, main_call.attempt)
        if exit_code is not None:
            os.environ["WANDB_RESUME"] = "allow"  # what was sent of it meanwhile stays
            tell_end(exit_code)
            os.environ.pop("WANDB_RESUME", None)
        self._worn = _why_torn(main_call)
        if self._worn:
            self._inbox.put(AgentLost(self._worn))

    def _perform_recorded(self, main_call: MainCall) -> None:
        closed, ask, worn = perform(
            self._main,
            main_call,
            self._main_thread,
            check=self._expect_whole,
            leftovers=self._leftovers,
            seed_parameter=self._spec.seed_parameter,
        )
        self._worn = worn or _why_torn(main_call)
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
                told=closed.told,
                unsent=closed.unsent,
                missing=closed.missing,
                traceback=closed.traceback,
                worn=self._worn,
            )
        )

    def _stop_for_sweep(self, run_id: RunId) -> None:
        self._main_thread.interrupt(STOPPED_BY_SWEEP, run_id=run_id)

    def _expect_whole(self) -> None:
        """End where `main` has closed descriptors that were not its own, or its wandb-core was killed.

        Nothing can be reported then, or nothing told to the server: wandb would be waited for in vain.
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

    def _say_alive(self) -> None:
        now = time.monotonic()
        if now - self._alive_at >= SAY_ALIVE_EVERY_S:
            self._alive_at = now
            self._say_active()

    def _say_active(self) -> None:
        with contextlib.suppress(OSError):  # the control thread deals with a supervisor that is gone
            self._report(Active())

    def _end(self, code: int) -> NoReturn:
        """Leave at once; the fork server takes what is left."""
        flush()
        os._exit(code)


def _why_torn(main_call: MainCall) -> str:
    """Return why the main_call's agent would ask for its next run in vain, or ''."""
    torn = HOOKS.torn_down and main_call.by_agent
    return "wandb was torn down in it, and its agent's connection with that" if torn else ""
