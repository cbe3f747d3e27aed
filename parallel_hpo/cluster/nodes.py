"""Starts the nodes of a sweep through an engine, in a thread of its own, since the engine may never answer.

begin ─▶ machines(), start(…) … ended() ─▶ reports to the loop
stop  ─▶ engine.stop(), engine.close()

A machine whose node has ended gets another one: it was cut off and came back, or its engine took it away for
a while. After a failure the next start waits, each time twice as long.
"""

from __future__ import annotations

import queue
import secrets
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Final, TypeVar

from parallel_hpo.cluster.base import ClusterEngine, ClusterMachine, NodeCommand, NodeTaskEnd
from parallel_hpo.cluster.node_process import error_text
from parallel_hpo.core.errors import ExitCode
from parallel_hpo.core.notices import Message
from parallel_hpo.session.waiting import set_result_of

WELL_AFTER_S: Final = 60.0
"""Seconds of work after which a node's end does not count against its machine."""
MAX_FAILURES: Final = 3
"""Failures in a row after which a machine gets no more nodes."""
BACKOFF_S: Final = 1.0
BACKOFF_MAX_S: Final = 15.0
"""Longest wait in seconds; a machine that comes back works again within 30 s, joining included."""
ORDERLY: Final = (ExitCode.COMPLETE, ExitCode.RESUMABLE)
"""Exit codes of a node that left on request or was cut off."""


@dataclass(frozen=True, slots=True)
class NodeState:
    """State of the nodes of one machine; times are on the clock of `now`."""

    has_node: bool = False
    since: float = 0.0
    ended_soon: int = 0
    """Number of nodes in a row that ended early."""
    failed_soon: int = 0
    """Number of these that failed."""
    again_at: float = 0.0
    given_up: str = ""
    """Why the machine gets no more nodes; '' while it may."""


NodeStates = Mapping[str, NodeState]


def due(states: NodeStates, found: Sequence[str], now: float, *, most: int | None) -> list[str]:
    """Return the machines of `found` on which to start a node now, those with fewer failures first.

    `most` is the maximum number of nodes at a time.
    """
    known = {name: states.get(name, NodeState()) for name in found}
    ready = [
        name
        for name, state in known.items()
        if not state.has_node and not state.given_up and state.again_at <= now
    ]
    ready.sort(key=lambda name: known[name].failed_soon)
    return ready if most is None else ready[: max(0, most - sum(state.has_node for state in states.values()))]


def after_start(states: NodeStates, name: str, now: float) -> NodeStates:
    """Return the states after a node was started on a machine."""
    return {**states, name: replace(states.get(name, NodeState()), has_node=True, since=now)}


def after_end(states: NodeStates, name: str, end: NodeTaskEnd, now: float) -> NodeStates:
    """Return the states after a node has ended or its engine has lost it."""
    state = states.get(name, NodeState())
    if now - state.since >= WELL_AFTER_S:
        state = replace(state, ended_soon=0, failed_soon=0)
    failed = end.returned and end.exit_code not in ORDERLY
    state = replace(
        state,
        has_node=False,
        ended_soon=state.ended_soon + 1,
        failed_soon=state.failed_soon + 1 if failed else 0,
        again_at=now + min(BACKOFF_MAX_S, BACKOFF_S * 2**state.ended_soon),
    )
    if state.failed_soon >= MAX_FAILURES or (failed and end.exit_code == ExitCode.USAGE):
        state = replace(state, given_up=end.error or f"its node ended with exit code {end.exit_code}")
    return {**states, name: state}


def none_left_reason(states: NodeStates, found: Sequence[str]) -> str:
    """Return why no machine can have a node any more; '' while one has or may have one."""
    if not found or any(state.has_node for state in states.values()):
        return ""
    reasons = {name: states.get(name, NodeState()).given_up for name in found}
    return "; ".join(f"{name}: {why}" for name, why in reasons.items()) if all(reasons.values()) else ""


Result = TypeVar("Result")
LOOK_EVERY_S: Final = 1.0
"""Interval between checks of the engine's machines and ended nodes, in seconds."""


@dataclass(frozen=True, slots=True)
class NodeEnded:
    """A node has ended, or the engine has lost it."""

    token: str
    machine: str
    returned: bool
    """Whether it is certain that nothing of it runs."""
    reason: str


@dataclass(frozen=True, slots=True)
class NoMachinesLeft:
    """No machine can have a node any more."""

    reason: str
    """'': there is one again."""


NodeReport = NodeEnded | NoMachinesLeft | Message
CommandFor = Callable[[ClusterMachine, str], NodeCommand]
"""Return the command of a node, given its machine and its token."""


class NodeManager:
    """The nodes on an engine's machines; its methods don't wait."""

    def __init__(
        self,
        make_engine: Callable[[], ClusterEngine],
        post: Callable[[NodeReport], None],
        *,
        clock: Callable[[], float],
        most: int | None,
        look_every_s: float = LOOK_EVERY_S,
    ) -> None:
        """`make_engine` and `post` are called in the thread; `most` is the maximum number of nodes."""
        self._make_engine = make_engine
        self._post = post
        self._clock = clock
        self._most = most
        self._look_every_s = look_every_s
        self._asked: queue.SimpleQueue[Callable[[ClusterEngine], None]] = queue.SimpleQueue()
        self._command_for: CommandFor | None = None
        self._states: NodeStates = {}
        self._tokens: dict[str, str] = {}
        self._warned_of = ""
        self._gave_up = False
        self._ends = False
        self._stopped: Future[None] | None = None
        self._answers = True
        self.which = ""
        """The machines in words, once it is open."""

    def open(self) -> Future[None]:
        """Start the thread; the future has the engine's error if it can't be reached."""
        opened: Future[None] = Future()
        threading.Thread(target=self._work, args=(opened,), name="parallel_hpo-nodes", daemon=True).start()
        return opened

    def own_address(self) -> Future[str | None]:
        """Ask the engine for the address by which its machines reach this one."""
        return self._ask(lambda engine: engine.own_address())

    def begin(self, command_for: CommandFor) -> None:
        """Start and keep a node on each machine."""
        self._ask(lambda _: setattr(self, "_command_for", command_for))

    def stop(self) -> None:
        """Begin to end all nodes and to close the engine."""
        if self._stopped is None:
            self._stopped = self._ask(self._end)

    def stop_within(self, seconds: float) -> None:
        """Stop, and wait at most `seconds`, once; the engine's errors are ignored."""
        if not self._answers:
            return
        self.stop()
        assert self._stopped is not None
        with suppress(Exception):  # its own errors, and the timeout
            self._stopped.result(seconds)
        self._answers = self._stopped.done()

    def _end(self, engine: ClusterEngine) -> None:
        self._ends = True
        engine.stop()
        engine.close()

    def _ask(self, call: Callable[[ClusterEngine], Result]) -> Future[Result]:
        answer: Future[Result] = Future()
        self._asked.put(lambda engine: set_result_of(answer, lambda: call(engine)))
        return answer

    # --- the thread -------------------------------------------------------------------

    def _work(self, opened: Future[None]) -> None:
        try:
            engine = self._make_engine()
        except BaseException as error:  # noqa: BLE001 - passed to the waiting thread
            self._answers = False
            opened.set_exception(error)
            return
        self.which = f"the machines of {engine.name}"
        opened.set_result(None)
        while not self._ends:
            with suppress(queue.Empty):
                self._asked.get(timeout=self._look_every_s)(engine)
            if self._command_for is not None and not self._ends:
                self._look(engine, self._command_for)

    def _look(self, engine: ClusterEngine, command_for: CommandFor) -> None:
        """Report ended nodes and start the due ones; after an engine's error, try again later."""
        try:
            self._take_ended(engine)
            found = {machine.name: machine for machine in engine.machines()}
            for name in due(self._states, list(found), self._clock(), most=self._most):
                self._start(engine, found[name], command_for)
            self._warned_of = ""
        except Exception as error:  # noqa: BLE001 - an engine's library may raise anything
            self._warn_once(error_text(error))
            return
        reason = none_left_reason(self._states, list(found))
        if reason and not self._gave_up:
            self._gave_up = True
            self._post(NoMachinesLeft(reason))

    def _start(self, engine: ClusterEngine, machine: ClusterMachine, command_for: CommandFor) -> None:
        token = secrets.token_hex(4)
        engine.start(machine, command_for(machine, token))
        self._tokens[machine.name] = token
        self._states = after_start(self._states, machine.name, self._clock())
        if self._gave_up:
            self._gave_up = False
            self._post(NoMachinesLeft(""))

    def _take_ended(self, engine: ClusterEngine) -> None:
        for end in engine.ended():
            name = end.machine.name
            before = self._states
            self._states = after_end(before, name, end, self._clock())
            if given_up := self._states[name].given_up:
                self._post(Message(f"machine {name} gets no node any more: {given_up}", warning=True))
            if name in self._tokens:
                self._post(NodeEnded(self._tokens.pop(name), name, end.returned, end.error))

    def _warn_once(self, why: str) -> None:
        if why != self._warned_of:
            self._warned_of = why
            self._post(Message(f"the machines' engine: {why}; retrying", warning=True))
