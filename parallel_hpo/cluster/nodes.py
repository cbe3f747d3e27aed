"""On which machines a node is to be started now; not endlessly where nodes end at once. Pure.

A machine whose node has ended gets another one: it has been cut off and came back, or its engine took it
away for a while. After a failure the next one waits, each time twice as long.

The nodes of a sweep, started through an engine: a thread that alone speaks to it, as it may never answer.

begin ─▶ machines(), start(…) … ended() ─▶ what happened, to whoever watches
stop  ─▶ engine.stop(), engine.close()
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
from parallel_hpo.cluster.node_process import said_by
from parallel_hpo.core.errors import ExitCode
from parallel_hpo.core.notices import Message

WELL_AFTER_S: Final = 60.0
"""A node that has worked so long could be started: what ended it says nothing of the next one."""
MOST_FAILURES: Final = 3
BACKOFF_S: Final = 1.0
BACKOFF_MAX_S: Final = 15.0
"""A machine that comes back works again within 30 s, joining included."""
ORDERLY: Final = (ExitCode.COMPLETE, ExitCode.RESUMABLE)
"""Exit codes of a node that left as it was asked to, or because it had been cut off."""


@dataclass(frozen=True, slots=True)
class NodeState:
    """What is known of nodes on one machine; times are on the clock of `now`."""

    has_node: bool = False
    since: float = 0.0
    ended_soon: int = 0
    """Nodes in a row that ended before they had worked for long."""
    failed_soon: int = 0
    """Those of them that failed."""
    again_at: float = 0.0
    given_up: str = ""
    """Why it gets no node any more; '' while it may."""


Places = Mapping[str, NodeState]


def due(places: Places, found: Sequence[str], now: float, *, most: int | None) -> list[str]:
    """Return the machines, of those that were found, on which a node is to be started now.

    `most` nodes at a time; machines on which fewer have failed come first.
    """
    known = {name: places.get(name, NodeState()) for name in found}
    ready = [
        name
        for name, place in known.items()
        if not place.has_node and not place.given_up and place.again_at <= now
    ]
    ready.sort(key=lambda name: known[name].failed_soon)
    return ready if most is None else ready[: max(0, most - sum(place.has_node for place in places.values()))]


def after_start(places: Places, name: str, now: float) -> Places:
    """Return what is known once a node is started on a machine."""
    return {**places, name: replace(places.get(name, NodeState()), has_node=True, since=now)}


def after_end(places: Places, name: str, end: NodeTaskEnd, now: float) -> Places:
    """Return what is known once a node has ended, or its engine has lost it."""
    place = places.get(name, NodeState())
    if now - place.since >= WELL_AFTER_S:
        place = replace(place, ended_soon=0, failed_soon=0)
    failed = end.returned and end.exit_code not in ORDERLY
    place = replace(
        place,
        has_node=False,
        ended_soon=place.ended_soon + 1,
        failed_soon=place.failed_soon + 1 if failed else 0,
        again_at=now + min(BACKOFF_MAX_S, BACKOFF_S * 2**place.ended_soon),
    )
    if place.failed_soon >= MOST_FAILURES or (failed and end.exit_code == ExitCode.USAGE):
        place = replace(place, given_up=end.error or f"its node ended with exit code {end.exit_code}")
    return {**places, name: place}


def why_none(places: Places, found: Sequence[str]) -> str:
    """Return why no machine can have a node any more, in words; '' while one has or may have one."""
    if not found or any(place.has_node for place in places.values()):
        return ""
    reasons = {name: places.get(name, NodeState()).given_up for name in found}
    return "; ".join(f"{name}: {why}" for name, why in reasons.items()) if all(reasons.values()) else ""


Result = TypeVar("Result")
LOOK_EVERY_S: Final = 1.0
"""How often an engine is asked which machines it has and which nodes have ended."""


@dataclass(frozen=True, slots=True)
class NodeEnded:
    """A node has ended, or the engine has lost it."""

    token: str
    machine: str
    returned: bool
    """Whether nothing of it runs for sure."""
    reason: str


@dataclass(frozen=True, slots=True)
class NoMachinesLeft:
    """No machine can have a node any more."""

    reason: str
    """'': one has come that can."""


CrewReport = NodeEnded | NoMachinesLeft | Message
CommandFor = Callable[[ClusterMachine, str], NodeCommand]
"""Returns what is run on a machine, given the token of the node."""


class NodeManager:
    """The nodes on an engine's machines; its methods return at once."""

    def __init__(
        self,
        make_engine: Callable[[], ClusterEngine],
        post: Callable[[CrewReport], None],
        *,
        clock: Callable[[], float],
        most: int | None,
        look_every_s: float = LOOK_EVERY_S,
    ) -> None:
        """`make_engine` is called in the thread; `post` is told there; `most` nodes at a time."""
        self._make_engine = make_engine
        self._post = post
        self._clock = clock
        self._most = most
        self._look_every_s = look_every_s
        self._asked: queue.SimpleQueue[Callable[[ClusterEngine], None]] = queue.SimpleQueue()
        self._command_for: CommandFor | None = None
        self._places: Places = {}
        self._tokens: dict[str, str] = {}
        self._complained = ""
        self._gave_up = False
        self._ends = False
        self._stopped: Future[None] | None = None
        self._answers = True
        self.which = ""
        """Which machines it has, in words, once it is open."""

    def open(self) -> Future[None]:
        """Start the thread; the future has the engine's own error where it can't be reached."""
        opened: Future[None] = Future()
        threading.Thread(target=self._work, args=(opened,), name="parallel_hpo-crew", daemon=True).start()
        return opened

    def own_address(self) -> Future[str | None]:
        """Ask by which address the engine's machines reach this one."""
        return self._ask(lambda engine: engine.own_address())

    def begin(self, command_for: CommandFor) -> None:
        """From now on have a node on each machine."""
        self._ask(lambda _: setattr(self, "_command_for", command_for))

    def stop(self) -> None:
        """Begin to end all nodes, and to leave the engine."""
        if self._stopped is None:
            self._stopped = self._ask(self._end)

    def stop_within(self, seconds: float) -> None:
        """Do so, and wait so long at the most, and once: whatever the engine says, the sweep is over."""
        if not self._answers:
            return
        self.stop()
        assert self._stopped is not None
        with suppress(Exception):  # its own errors, and that it is not done in time
            self._stopped.result(seconds)
        self._answers = self._stopped.done()

    def _end(self, engine: ClusterEngine) -> None:
        self._ends = True
        engine.stop()
        engine.close()

    def _ask(self, call: Callable[[ClusterEngine], Result]) -> Future[Result]:
        answer: Future[Result] = Future()

        def settle(engine: ClusterEngine) -> None:
            try:
                answer.set_result(call(engine))
            except BaseException as error:  # noqa: BLE001 - whoever waits for it is to have it
                answer.set_exception(error)

        self._asked.put(settle)
        return answer

    # --- the thread -------------------------------------------------------------------

    def _work(self, opened: Future[None]) -> None:
        try:
            engine = self._make_engine()
        except BaseException as error:  # noqa: BLE001 - whoever waits for it is to have it
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
        """Take what has ended and start what is due; an engine in trouble is asked again."""
        try:
            self._take_ended(engine)
            found = {machine.name: machine for machine in engine.machines()}
            for name in due(self._places, list(found), self._clock(), most=self._most):
                self._start(engine, found[name], command_for)
            self._complained = ""
        except Exception as error:  # noqa: BLE001 - an engine's library raises what it likes
            self._complain(said_by(error))
            return
        why = why_none(self._places, list(found))
        if why and not self._gave_up:
            self._gave_up = True
            self._post(NoMachinesLeft(why))

    def _start(self, engine: ClusterEngine, machine: ClusterMachine, command_for: CommandFor) -> None:
        token = secrets.token_hex(4)
        engine.start(machine, command_for(machine, token))
        self._tokens[machine.name] = token
        self._places = after_start(self._places, machine.name, self._clock())
        if self._gave_up:
            self._gave_up = False
            self._post(NoMachinesLeft(""))

    def _take_ended(self, engine: ClusterEngine) -> None:
        for end in engine.ended():
            name = end.machine.name
            before = self._places
            self._places = after_end(before, name, end, self._clock())
            if given_up := self._places[name].given_up:
                self._post(Message(f"machine {name} gets no node any more: {given_up}", warning=True))
            if name in self._tokens:
                self._post(NodeEnded(self._tokens.pop(name), name, end.returned, end.error))

    def _complain(self, why: str) -> None:
        if why != self._complained:
            self._complained = why
            self._post(Message(f"the machines' engine: {why}; it is asked again", warning=True))
