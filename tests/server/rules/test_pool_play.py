"""No sequence of crashes, partitions, freezes and lost or late messages loses or duplicates a run.

Machines work for a pool as nodes do, over a network that loses, repeats and delays. Their real state is
known here and compared with the pool's: with its rules alone, and on a database.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from parallel_hpo.core.errors import ExitCode
from parallel_hpo.core.messages import SweepEnd
from parallel_hpo.core.pool_messages import (
    FENCE,
    Exchange,
    Granted,
    Join,
    NewPool,
    NodeLost,
    PooledEnd,
    PooledStart,
    PoolEvent,
)
from parallel_hpo.core.types import Outcome, StopKind
from parallel_hpo.server.context import AppContext
from parallel_hpo.server.services import pool
from parallel_hpo.server.store import pool as store
from parallel_hpo.server.values import RefusedError
from tests.server.pool_requests import TIMEOUT_S, PoolInMemory, end, machine, new_pool, start, stopped, told
from tests.server.server_logic import START, Services

STEP_S = TIMEOUT_S / 20
"""A step of time; a machine's fence is less than a tenth of its lease."""
MACHINES = 3
ENOUGH = 200
"""Far more exchanges than one machine needs for all runs."""


LIKELY: Final = (
    *(["goes_well"] * 12 + ["finish"] * 8 + ["beat"] * 8 + ["begin"] * 3 + ["worker_dies"] * 3),
    *(["an_old_message_comes_again"] * 4 + ["a_little_time_passes"] * 3 + ["much_time_passes"]),
    *(["freeze_or_thaw"] * 3 + ["cut_or_heal"] * 3 + ["kill"] * 2 + ["reborn"] * 3 + ["join"]),
    *("is_told_to_go", "leave", "leave", "hint_of_an_engine", "server_is_restarted"),
    *(["coordinator_stops"] + ["open_again"] * 6),
)
"""Possible events, repeated by their weight: most steps succeed, or there would be nothing to lose."""
FATES: Final = ("fine", "fine", "fine", "lost", "mute")
"""Fates of an exchange: `mute` loses the answer."""


@dataclass
class Machine:
    """The real state of a node; `epoch` 0: not in the pool."""

    name: str
    mark: str
    alive: bool = True
    frozen: bool = False
    cut: bool = False
    leaving: bool = False
    epoch: int = 0
    previous: int = 0
    number: int = 0
    heard_at: float = 0.0
    granted: int = 0
    used: int = 0
    ends_known: SweepEnd | None = None
    again: dict[str, int] = field(default_factory=dict)
    retries: dict[str, int] = field(default_factory=dict)
    pending: PooledStart | None = None
    inside: dict[str, int] = field(default_factory=dict)
    """The runs that are inside `main`, and their attempts."""
    untold: list[PooledEnd] = field(default_factory=list)

    @property
    def works(self) -> bool:
        return self.alive and not self.frozen and self.epoch > 0

    def drop_all(self) -> None:
        """Kill and forget all runs."""
        for held in (self.again, self.retries, self.inside):
            held.clear()
        self.pending, self.untold, self.ends_known = None, [], None
        self.granted = self.used = self.number = 0
        self.previous, self.epoch, self.leaving = self.epoch or self.previous, 0, False

    def interrupt(self) -> None:
        """Stop all runs, so that other machines continue them."""
        self.untold += [stopped(run, attempt) for run, attempt in self.inside.items()]
        self.untold += [stopped(run, None) for run in self.retries]
        if self.pending is not None:
            self.untold.append(stopped(self.pending.run.run_id, self.pending.run.attempt))
        self.inside.clear()
        self.retries.clear()
        self.pending, self.leaving = None, True

    def joining(self) -> Join:
        return replace(machine(self.name, self.mark), previous=self.previous)


class PoolOnDatabase:
    """A pool in the server's services, with the same methods as a pool in memory."""

    def __init__(self, services: Services) -> None:
        self.services = services
        self.clock = services.clock
        self.up_since = START

    @property
    def world(self) -> AppContext:
        return replace(self.services.world, up_since=self.up_since)

    def open(self, wanted: NewPool) -> None:
        pool.open_pool(self.world, "s", wanted)

    def join(self, wants: Join) -> int | None:
        try:
            return pool.join(self.world, "s", wants).epoch
        except RefusedError:
            return None

    def exchange(self, told: Exchange) -> Granted:
        return pool.exchange(self.world, "s", told)[0]

    def leave(self, epoch: int, reason: str) -> None:
        pool.leave(self.world, "s", epoch, reason)

    def lose(self, lost: NodeLost) -> None:
        pool.lose(self.world, "s", lost)

    def stop(self, ends: SweepEnd) -> None:
        pool.stop(self.world, "s", ends)

    def look(self) -> SweepEnd | None:
        return pool.news(self.world, "s", 0, 0).ends

    def may_start(self) -> int:
        """Return how many runs have started or may do so."""
        with self.world.database.read() as transaction:
            found = store.find(transaction, "s")
            nodes = store.nodes(transaction, "s")
        return 0 if found is None else found.started + sum(node.unstarted for node in nodes)

    def events(self) -> list[PoolEvent]:
        with self.world.database.read() as transaction:
            return store.events_after(transaction, "s", 0, 10_000)


class PoolPlay(RuleBasedStateMachine):
    """Machines join, work, die, freeze, are cut off and come back; the pool's process is restarted."""

    def make_side(self) -> PoolInMemory | PoolOnDatabase:
        return PoolInMemory()

    @initialize(count=st.integers(1, 8))
    def begin_sweep(self, count: int) -> None:
        self.side = self.make_side()
        self.count = count
        self.names = 0
        self.entered: Counter[tuple[str, int]] = Counter()
        self.sent: list[Exchange] = []
        self.machines = [Machine(f"m{number}", f"mark{number}") for number in range(MACHINES)]
        self.is_over = False
        self.open()

    def open(self) -> None:
        failures = {"failures": {"max_initial": None}}
        self.side.open(new_pool(count=self.count, section=failures))

    @property
    def now(self) -> float:
        return self.side.clock.now

    @rule(what=st.sampled_from(LIKELY), i=st.integers(0, MACHINES - 1), n=st.integers(0, 999))
    def something_happens(self, what: str, i: int, n: int) -> None:
        """Call the event's method; `n` chooses a variant."""
        getattr(self, what)(i, n)

    def recover(self, i: int, n: int) -> None:
        node = self.machines[i]
        node.cut = False
        if node.frozen:
            self.freeze_or_thaw(i, n)
        self.reborn(i, n)

    def join(self, i: int, n: int) -> None:
        node = self.machines[i]
        if not node.alive or node.frozen or node.cut or node.epoch:
            return
        epoch = self.side.join(node.joining())
        if epoch is not None and n % 3:
            node.epoch, node.heard_at = epoch, self.now

    def goes_well(self, i: int, n: int) -> None:
        """Let a machine join and begin granted runs, so that there is something to go wrong."""
        self.recover(i, n)
        self.join(i, 1)
        node = self.machines[i]
        for wants in (2, 1, 1):
            if node.works and not node.cut:
                self.exchange(node, wants)
            if wants > 1 or n % 2:
                self.begin(i, n)

    def beat(self, i: int, n: int) -> None:
        node = self.machines[i]
        if node.works:
            self.exchange(node, n % 5, "lost" if node.cut else FATES[n // 5 % len(FATES)])

    def exchange(self, node: Machine, wants: int, fate: str = "fine", over: str = "") -> None:
        node.number += 1
        starts = () if node.pending is None else (node.pending,)
        message = told(
            *(node.epoch, node.number, wants),
            wants_again=(wants + node.number) % 3,
            starts=starts,
            ends=tuple(node.untold),
            over=over,
        )
        self.sent.append(message)
        if fate == "lost":
            return
        answer = self.side.exchange(message)
        if fate == "fine":
            self.hear(node, message, answer)

    def hear(self, node: Machine, message: Exchange, answer: Granted) -> None:
        if answer.gone:
            node.drop_all()
            return
        node.heard_at = self.now
        del node.untold[: len(message.ends)]
        node.granted, node.ends_known = answer.granted, answer.ends
        node.again = {run.run_id: run.attempt for run in answer.again}
        self.settle_start(node, answer)
        if answer.ends is not None:
            self.heed(node, answer.ends)

    def settle_start(self, node: Machine, answer: Granted) -> None:
        if node.pending is None:
            return
        run = node.pending.run
        if run.run_id in answer.refused and run.attempt == 1:
            node.used -= 1  # a new run that may not start has used nothing
        if run.run_id in answer.started:
            node.inside[run.run_id] = run.attempt
            self.entered[run.run_id, run.attempt] += 1
            node.pending = None
        elif run.run_id in answer.refused:
            node.pending = None
            node.retries.pop(run.run_id, None)

    def heed(self, node: Machine, ends: SweepEnd) -> None:
        if ends.stop is None:
            working = [other for other in self.machines if other.works and other.inside]
            assert working == [], "complete while something runs"
        if ends.stop is not StopKind.DRAIN:
            node.interrupt()
        elif not node.inside:
            node.leaving = True

    def an_old_message_comes_again(self, _i: int, n: int) -> None:
        if self.sent:
            self.side.exchange(self.sent[-1 - n % len(self.sent)])

    def begin(self, i: int, _n: int) -> None:
        node = self.machines[i]
        if node.works and not node.leaving and node.pending is None and node.ends_known is None:
            node.pending = self.next_start(node)

    def next_start(self, node: Machine) -> PooledStart | None:
        for waiting in (node.retries, node.again):
            if waiting:
                run, attempt = waiting.popitem()
                return start(run, attempt)
        if node.granted > node.used:
            node.used += 1
            self.names += 1
            return start(f"r{self.names}")
        return None

    def busy(self, i: int) -> Machine | None:
        """Return a machine with an active run."""
        found = [node for node in self.machines if node.works and node.inside]
        return found[i % len(found)] if found else None

    def finish(self, i: int, n: int) -> None:
        if (node := self.busy(i)) is not None:
            node.untold.append(end(*node.inside.popitem(), list(Outcome)[n % len(Outcome)]))

    def worker_dies(self, i: int, _n: int) -> None:
        if (node := self.busy(i)) is not None:
            run, attempt = node.inside.popitem()
            node.untold.append(end(run, attempt, Outcome.CRASHED, final=False))
            node.retries[run] = attempt + 1

    def is_told_to_go(self, i: int, _n: int) -> None:
        if self.machines[i].works:
            self.machines[i].interrupt()

    def leave(self, i: int, n: int) -> None:
        node = self.machines[i]
        if node.works and node.leaving and not node.inside:
            if n % 2 and not node.cut:
                self.side.leave(node.epoch, "told to go")
            self.reborn(i, n)

    def kill(self, i: int, n: int) -> None:
        node = self.machines[i]
        epoch = node.epoch
        node.drop_all()
        node.alive = False
        if epoch:
            self.side.lose(NodeLost(node.name, returned=n % 2 == 1, epoch=epoch))

    def hint_of_an_engine(self, i: int, _n: int) -> None:
        self.side.lose(NodeLost(self.machines[i].name, returned=False))

    def reborn(self, i: int, _n: int) -> None:
        node = self.machines[i]
        if not node.alive or node.leaving:
            self.names += 1
            self.machines[i] = Machine(node.name, f"mark{i}x{self.names}")

    def freeze_or_thaw(self, i: int, _n: int) -> None:
        node = self.machines[i]
        node.frozen = not node.frozen
        self.look_at_fences()

    def cut_or_heal(self, i: int, _n: int) -> None:
        self.machines[i].cut = not self.machines[i].cut

    def a_little_time_passes(self, _i: int, n: int) -> None:
        self.time_passes(1 + n % 4)

    def much_time_passes(self, _i: int, n: int) -> None:
        self.time_passes(16 + n % 7)

    def time_passes(self, steps: int) -> None:
        for _ in range(steps):
            self.side.clock.now += STEP_S
            self.look_at_fences()

    def look_at_fences(self) -> None:
        for node in self.machines:
            if node.works and self.now - node.heard_at >= FENCE * TIMEOUT_S:
                node.drop_all()

    def server_is_restarted(self, _i: int, n: int) -> None:
        self.time_passes(n % 30)
        self.side.up_since = self.now

    def coordinator_stops(self, _i: int, n: int) -> None:
        self.side.stop(SweepEnd("Ctrl-C", 130, list(StopKind)[n % len(StopKind)]))

    def open_again(self, _i: int, n: int) -> None:
        """Open the pool again after a stop; nodes leave first, as a coordinator waits for them."""
        if self.side.look() is None:
            return
        for i, node in enumerate(self.machines):
            if node.works:
                node.interrupt()
                self.exchange(node, 0, "lost" if node.cut else "fine")
                self.leave(i, 1)
            elif node.epoch:
                self.kill(i, 0)
        self.count += n % 3
        self.open()

    @invariant()
    def no_run_is_active_on_two_machines(self) -> None:
        on = Counter(run for node in self.machines if node.works for run in node.inside)
        assert [run for run, times in on.items() if times > 1] == []

    @invariant()
    def no_attempt_starts_twice(self) -> None:
        assert [attempt for attempt, times in self.entered.items() if times > 1] == []

    @invariant()
    def started_runs_do_not_exceed_the_count(self) -> None:
        assert len({run for run, _ in self.entered}) <= self.count

    @invariant()
    def grants_do_not_exceed_the_remaining_count(self) -> None:
        assert self.side.may_start() <= self.count

    def teardown(self) -> None:
        """Let one machine finish the sweep while all others are dead, and check that each run counts once."""
        if not hasattr(self, "side"):
            return
        survivor = next((node for node in self.machines if node.works and not node.leaving), None)
        for node in self.machines:
            if node is not survivor:
                node.drop_all()
        last = self.work_alone(survivor or Machine("healthy", "healthy"))
        events = self.side.events()
        started = {event.body["run"]["run_id"] for event in events if event.kind == "started"}
        ended = Counter(event.body["run_id"] for event in events if event.kind == "ended")
        assert set(ended) == started, "a run has no end, or one that never began has"
        assert set(ended.values()) == {1}
        assert len(started) == self.count
        assert last.exit_code in (ExitCode.COMPLETE, ExitCode.NO_RUN_FINISHED)
        assert [event.number for event in events] == list(range(1, len(events) + 1))

    def work_alone(self, node: Machine) -> SweepEnd:
        """Work until the sweep is complete; runs of other machines are requeued with time."""
        node.cut, self.machines = False, [node]
        for _ in range(ENOUGH):
            ends = self.side.look()
            if ends is not None and ends.stop is None:
                return ends
            if ends is not None:
                self.open()
            self.side.clock.now += STEP_S
            self.look_at_fences()
            if node.leaving:
                self.leave(0, 1)
                (node,) = self.machines
            self.join(0, 1)
            self.begin(0, 0)
            self.exchange(node, wants=2)
            if node.inside:
                node.untold.append(end(*node.inside.popitem()))
        raise AssertionError("a healthy machine can't bring the sweep to its end")


class PlayOnDatabase(PoolPlay):
    """The same play on a database."""

    def make_side(self) -> PoolOnDatabase:
        self.folder = tempfile.TemporaryDirectory()
        self.services = Services(Path(self.folder.name))
        return PoolOnDatabase(self.services)

    def teardown(self) -> None:
        try:
            super().teardown()
        finally:
            if hasattr(self, "services"):
                self.services.close()
                self.folder.cleanup()


TestPlayInMemory = PoolPlay.TestCase
TestPlayInMemory.settings = settings(max_examples=150, stateful_step_count=60)
TestPlayOnDatabase = PlayOnDatabase.TestCase
TestPlayOnDatabase.settings = settings(max_examples=10, stateful_step_count=40)
