"""A worker's life: orders in, `main` in the main thread, reports out.

    control thread ──orders──▶ ┌─────────┐ ◀──tickets── agent thread (wandb.agent)
                               │ inbox   │
                               └────┬────┘
                       main thread: _turn() ─▶ Performance: main() ─▶ report

One inbox feeds the main thread. The control thread does two things besides: it
interrupts a running `main`, and when the supervisor is gone it kills all below this
process and ends it. Reports are sent by the main thread alone.
"""

from __future__ import annotations

import os
import queue
import sys
import threading
import traceback
from multiprocessing.connection import Connection
from typing import NoReturn

from parallel_hpo.words import (
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
from parallel_hpo.worker.birth import FAILED_AT_BIRTH, describe
from parallel_hpo.worker.performance import MainThread, again_environment, perform
from parallel_hpo.worker.spec import WorkerSpec
from parallel_hpo.worker.verdict import Asked
from parallel_hpo.worker.watch import WATCH

ORPHANED = 71
"""Exit code of a worker whose supervisor is gone; nobody is there to read it."""


class Worker:
    """The worker of one slot, from its birth to its end."""

    def __init__(self, spec: WorkerSpec, connection: Connection) -> None:
        self._spec = spec
        self._connection = connection
        self._inbox: queue.SimpleQueue[Order | Ticket | AgentReturned] = queue.SimpleQueue()
        self._leaving = threading.Event()
        self._main_thread = MainThread()

    def live(self) -> NoReturn:
        """Serve the supervisor until it says to leave; called in the process's main thread."""
        WATCH.install()
        WATCH.metric, WATCH.goal = self._spec.metric, self._spec.goal
        WATCH.keep_login = self._spec.keep_login
        self._pace = pace.install(lambda text: print(text, file=sys.stderr))
        try:
            self._main = target.load_main(self._spec.main)
        except BaseException as error:  # noqa: BLE001 - user code may raise anything while it is loaded
            self._report(StartFailed(describe(error), traceback.format_exc()))
            self._end(FAILED_AT_BIRTH)
        threading.Thread(target=self._listen, name="parallel_hpo-control", daemon=True).start()
        self._report(Ready())
        while self._turn():
            pass
        self._end(0)

    def _listen(self) -> None:
        """Take orders as they come; the supervisor's end of the pipe closes only when it is gone."""
        try:
            while True:
                order = self._connection.recv()
                if isinstance(order, Drain | Interrupt):
                    self._leaving.set()
                self._inbox.put(order)
                if isinstance(order, Interrupt):
                    self._main_thread.interrupt(Asked.SUPERVISOR, preempting=order.preempting)
        except (EOFError, OSError):
            tree.kill_all_below()
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
        """Perform one run; False: an order to leave came first, and the run goes back unstarted.

        The shim is then left waiting, so that its agent draws no further run.
        """
        self._report(RunStarted(ticket.run_id, ticket.parameters, ticket.attempt))
        while not isinstance(order := self._inbox.get(), Proceed):
            if isinstance(order, Drain | Interrupt):
                self._inbox.put(order)
                return False
        verdict, asked = perform(self._main, ticket, self._main_thread)
        self._report(
            RunEnded(
                ticket.run_id,
                ticket.attempt,
                verdict.outcome,
                verdict.reason,
                WATCH.read_value(),
                resumable=asked is Asked.SUPERVISOR,
            )
        )
        return not self._leaving.is_set()

    def _stop_for_sweep(self, ticket: Ticket) -> None:
        self._main_thread.interrupt(Asked.SWEEP, ticket=ticket)

    def _report(self, report: Report) -> None:
        self._connection.send(report)

    def _end(self, code: int) -> NoReturn:
        """Leave without waiting for threads that user code or wandb left; the fork server takes the rest."""
        for stream in (sys.stdout, sys.stderr):
            try:
                stream.flush()
            except (OSError, ValueError):
                continue
        os._exit(code)
