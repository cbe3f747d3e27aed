"""A worker's life: orders in, `main` in the main thread, reports out.

    control thread ──orders──▶ ┌─────────┐ ◀──tickets── agent thread (wandb.agent)
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
import traceback
from multiprocessing.connection import Connection
from typing import NoReturn

from parallel_hpo.words import (
    Active,
    Cut,
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
    StartFailed,
)
from parallel_hpo.worker import pace, target, tree
from parallel_hpo.worker.agent import Agent, AgentReturned, Ticket
from parallel_hpo.worker.birth import describe
from parallel_hpo.worker.leaving import flush, leave
from parallel_hpo.worker.leftovers import Leftovers
from parallel_hpo.worker.performance import MainThread, again_environment, perform
from parallel_hpo.worker.spec import CUT_OFF, EXIT_WORDS, FAILED_AT_BIRTH, ORPHANED, STACKS_SIGNAL, WorkerSpec
from parallel_hpo.worker.verdict import Ask, Asked
from parallel_hpo.worker.watch import WATCH

INTERRUPTED = Ask(Asked.SUPERVISOR, "interrupted")
STOPPED_BY_SWEEP = Ask(Asked.SWEEP, "stopped by the sweep")


@functools.cache
def prepare() -> pace.Pace:
    """Make this process's wandb a worker's, once; forks of the process share that, and its memory."""
    pace.import_early()
    WATCH.install()
    return pace.install(lambda text: print(text, file=sys.stderr))


class Worker:
    """The worker of one slot, from its birth to its end."""

    def __init__(self, spec: WorkerSpec, connection: Connection) -> None:
        self._spec = spec
        self._connection = connection
        self._inbox: queue.SimpleQueue[Order | Ticket | AgentReturned] = queue.SimpleQueue()
        self._leaving = threading.Event()
        self._main_thread = MainThread()
        self._sending = threading.Lock()
        self._pipe = os.fstat(connection.fileno())

    def live(self) -> NoReturn:
        """Serve the supervisor until it says to leave; called in the process's main thread."""
        faulthandler.enable()
        faulthandler.register(STACKS_SIGNAL, all_threads=True)
        self._pace = prepare()
        self._set_watch()
        try:
            self._main = target.load_main(self._spec.main)
        except BaseException as error:  # noqa: BLE001 - user code may raise anything while it is loaded
            self._report(StartFailed(describe(error), traceback.format_exc()))
            self._end(FAILED_AT_BIRTH)
        self._leftovers = Leftovers()
        threading.Thread(target=self._listen, name="parallel_hpo-control", daemon=True).start()
        self._report(Ready())
        while self._turn():
            pass
        leave(0)

    def _set_watch(self) -> None:
        spec = self._spec
        WATCH.metric, WATCH.goal, WATCH.keep_login = spec.metric, spec.goal, spec.keep_login
        if spec.activity_every_s is not None:
            WATCH.tell_activity(self._say_active, every_s=spec.activity_every_s)

    def _listen(self) -> None:
        """Take orders as they come; the supervisor's end of the pipe closes only when it is gone."""
        try:
            while True:
                order = self._connection.recv()
                if isinstance(order, Drain | Interrupt):
                    self._leaving.set()
                match order:
                    case Cut(run_id, reason):
                        self._main_thread.interrupt(Ask(Asked.LIMIT, reason), run_id=run_id)
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
                Agent(
                    self._spec.path, count, hand_over=self._inbox.put, stop_main=self._stop_for_sweep
                ).start()
            case Ticket() as ticket:
                if self._perform(ticket):
                    self._pace.run_is_over()
                    ticket.over.set()
            case AgentReturned(short, error):
                self._report(LeaseEnded(short=short, error=error))
            case Rerun() as order:
                self._perform_again(order)
            case Drain() | Interrupt():
                return False
            case Proceed():
                pass  # its run was given up: the order to leave that was meant to come first follows
        return True

    def _perform_again(self, order: Rerun) -> None:
        """Run a dead worker's run again, without an agent: its id and parameters are known."""
        with again_environment(self._spec.path, order):
            ticket = Ticket(order.run_id, order.parameters, order.attempt)
            if self._perform(ticket):
                self._report(LeaseEnded())

    def _perform(self, ticket: Ticket) -> bool:
        """Perform one run; False: this process is to leave, before the run (it goes back unstarted) or after.

        The shim is then left waiting, so that its agent draws no further run.
        """
        self._report(RunStarted(ticket.run_id, ticket.parameters, ticket.attempt))
        while not isinstance(order := self._inbox.get(), Proceed):
            if isinstance(order, Drain | Interrupt):
                self._inbox.put(order)
                return False
        verdict, ask, worn = perform(
            self._main, ticket, self._main_thread, check=self._expect_pipe, leftovers=self._leftovers
        )
        self._report(
            RunEnded(
                ticket.run_id,
                ticket.attempt,
                verdict.outcome,
                verdict.reason,
                WATCH.read_value(),
                resumable=ask.who is Asked.SUPERVISOR,
                worn=worn,
            )
        )
        return not (self._leaving.is_set() or worn)

    def _stop_for_sweep(self, ticket: Ticket) -> None:
        self._main_thread.interrupt(STOPPED_BY_SWEEP, run_id=ticket.run_id)

    def _expect_pipe(self) -> None:
        """End where `main` has closed descriptors that were not its own.

        Nothing can be reported then, and wandb, which has lost its own, would be waited for in vain.
        """
        try:
            whole = os.path.samestat(os.fstat(self._connection.fileno()), self._pipe)
        except OSError:
            whole = False
        if not whole:
            print(f"parallel_hpo: {EXIT_WORDS[CUT_OFF]}", file=sys.stderr)
            self._end(CUT_OFF)

    def _report(self, report: Report) -> None:
        with self._sending:
            self._connection.send(report)

    def _say_active(self) -> None:
        with contextlib.suppress(OSError):  # the control thread deals with a supervisor that is gone
            self._report(Active())

    def _end(self, code: int) -> NoReturn:
        """Leave at once; the fork server takes what is left."""
        flush()
        os._exit(code)
