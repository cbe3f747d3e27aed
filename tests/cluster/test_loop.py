"""The coordinator's loop, between a pool, nodes and stops; all made up but the ledger."""

from __future__ import annotations

import queue
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import pytest

from parallel_hpo.cluster.loop import (
    AWAY_WARNING_S,
    LEAVE_TIMEOUT_S,
    NO_NODE_WARNING_S,
    ClusterLoop,
    ShutdownDeadline,
    is_empty,
    shutdown_deadline,
)
from parallel_hpo.cluster.nodes import NodeEnded, NodeReport, NoMachinesLeft
from parallel_hpo.cluster.watcher import Answer, EventCopier, PoolWatcher
from parallel_hpo.core.errors import BackendError, ExitCode, ServerRefusedError
from parallel_hpo.core.messages import SweepEnd
from parallel_hpo.core.notices import Message, Notice
from parallel_hpo.core.pool_messages import AT_ONCE, NodeLost, PoolEvent, PoolNews
from parallel_hpo.core.types import StopKind
from parallel_hpo.records.ledger import Ledger
from parallel_hpo.session.signals import CommandPipe, Control
from tests.cluster.pools import ALL_DONE, RecordedPool, joined, news

GRACE_S = 30.0
STOP = SweepEnd("interrupt asked by the program", ExitCode.RESUMABLE, StopKind.INTERRUPT)


Answers = list[PoolNews | BackendError]


@dataclass
class Coordinator:
    """A coordinator whose pool and nodes are made up."""

    folder: Path
    pool: RecordedPool = field(default_factory=lambda: RecordedPool([news()]))
    now: float = 0.0
    told: list[Notice] = field(default_factory=list)
    stopped: list[float] = field(default_factory=list)
    reports: queue.SimpleQueue[NodeReport | Answer] = field(default_factory=queue.SimpleQueue)
    answers: int = 0

    def __post_init__(self) -> None:
        self.control = Control(clock=lambda: self.now)
        self._stops: dict[int, StopKind] = {}
        self._later: dict[int, Answers] = {}
        self._replies: dict[int, Answers] = {}
        self._step_s = 0.0

    def given(
        self,
        *first: PoolNews | BackendError,
        stops: dict[int, StopKind] | None = None,
        reports: Sequence[NodeReport] = (),
        later: dict[int, Answers] | None = None,
        replies: dict[int, Answers] | None = None,
        step_s: float = 0.0,
    ) -> Coordinator:
        """Have the pool answer so, and things happen at some of its answers, each `step_s` after the last.

        Args:
            first: the pool's answers until others replace them; the last one for ever.
            stops: stops at these answers, counted from 1.
            reports: reports of nodes, at the first answer.
            later: the pool's answers from these on.
            replies: the pool's answers once it has received so many reports.
        """
        if first:
            self.pool.then(*first)
        self._stops, self._later, self._replies = stops or {}, later or {}, replies or {}
        self._reports, self._step_s = list(reports), step_s
        return self

    def run(self) -> SweepEnd:
        with Ledger(self.folder / "ledger.db") as ledger, CommandPipe(self.folder) as command_pipe:
            copier = EventCopier(ledger, self.told.append)
            watcher = PoolWatcher(
                self.pool, lambda: (copier.last_event, copier.last_notice), self._post, ask_every_s=0.001
            )
            return ClusterLoop(
                control=self.control,
                command_pipe=command_pipe,
                watcher=watcher,
                copier=copier,
                observer=self.told.append,
                stop_nodes=lambda: self.stopped.append(self.now),
                reports=self.reports,
                grace_s=GRACE_S,
            ).run()

    def _post(self, answer: Answer) -> None:
        self.reports.put(answer)
        self.answers += 1
        self.now += self._step_s
        if self.answers in self._stops:
            self.control.stop(self._stops[self.answers])
        if self.answers == 1:
            for report in self._reports:
                self.reports.put(report)
        if answers := self._later.pop(self.answers, None) or self._replies.pop(len(self.pool.told), None):
            self.pool.then(*answers)
        self.control.ring()


@pytest.fixture
def coordinator(tmp_path: Path) -> Iterator[Coordinator]:
    made = Coordinator(tmp_path)
    with closing(made.control):
        yield made


OVER: Final = news(ends=ALL_DONE, living=0)
STOPPED: Final = news(ends=STOP, living=0)
GPU1: Final = joined(1, 1, "gpu1", mark="1_t2_3_boot_0badf00d")
KILLED: Final = NodeEnded("0badf00d", "gpu1", returned=True, reason="killed")
NONE_LEFT: Final = NoMachinesLeft("gpu1: no torch")


def test_a_sweep_ends_when_its_pool_ends_and_all_nodes_have_left(coordinator: Coordinator) -> None:
    coordinator.given(news(joined(1, 1, "gpu1")), news(ends=ALL_DONE, living=1), OVER)
    assert coordinator.run() == SweepEnd("all 2 runs performed", 0, None)
    assert coordinator.pool.asked[:2] == [(0, 0), (1, 0)]
    assert (coordinator.pool.told, coordinator.stopped) == ([], [])


def test_an_interrupt_is_sent_to_the_pool_and_its_answer_ends_the_sweep(coordinator: Coordinator) -> None:
    coordinator.given(stops={1: StopKind.INTERRUPT}, replies={1: [STOPPED]})
    assert coordinator.run() == SweepEnd(STOP.reason, STOP.exit_code, StopKind.INTERRUPT)
    assert coordinator.pool.told == [STOP]


def test_a_second_interrupt_kills_the_runs_and_makes_the_engine_stop_all_nodes(
    coordinator: Coordinator,
) -> None:
    interrupts = dict.fromkeys((1, 2), StopKind.INTERRUPT)
    coordinator.given(stops=interrupts, replies={2: [STOPPED]}).run()
    told = [told.stop for told in coordinator.pool.told if isinstance(told, SweepEnd)]
    assert told == [StopKind.INTERRUPT, StopKind.KILL]
    assert coordinator.stopped == [0.0]


def test_the_engine_stops_machines_that_do_not_leave_in_time(coordinator: Coordinator) -> None:
    coordinator.given(stops={1: StopKind.INTERRUPT}, step_s=1.0)
    assert coordinator.run().stop is StopKind.INTERRUPT
    assert GRACE_S <= coordinator.stopped[0] < coordinator.now <= GRACE_S + 5 + 4


def test_a_complete_sweep_does_not_wait_long_for_a_machine_that_does_not_leave(
    coordinator: Coordinator,
) -> None:
    coordinator.given(news(ends=ALL_DONE, living=1), step_s=1.0)
    assert coordinator.run() == SweepEnd("all 2 runs performed", 0, None)
    assert coordinator.now <= 5 + 4
    assert len(coordinator.stopped) == 1


def test_a_drain_has_no_time_limit(coordinator: Coordinator) -> None:
    drained = SweepEnd("drained", 75, StopKind.DRAIN)
    later: dict[int, Answers] = {20: [news(ends=drained, living=0)]}
    coordinator.given(stops={1: StopKind.DRAIN}, later=later, step_s=1000.0)
    assert coordinator.run() == drained
    assert coordinator.stopped == []


@pytest.mark.parametrize("number", [0, 3])
def test_a_returned_node_is_reported_lost_with_its_epoch_once_its_join_is_known(
    coordinator: Coordinator, number: int
) -> None:
    never = NodeEnded("deadbeef", "gpu2", returned=True, reason="never joined")
    known: Answers = [news(GPU1), news()]
    first = () if number else known
    coordinator.given(*first, reports=[KILLED, never], later={number: known}, replies={1: [OVER]}).run()
    assert coordinator.pool.told == [NodeLost("gpu1", returned=True, reason="killed", epoch=1)]


def test_a_sweep_without_a_usable_machine_ends_with_the_failure_exit_code(coordinator: Coordinator) -> None:
    ends = SweepEnd("gpu1: no torch", ExitCode.FAILURE_POLICY)
    coordinator.given(news(living=0), reports=[NONE_LEFT], replies={1: [news(ends=ends, living=0)]})
    assert coordinator.run().exit_code == ExitCode.FAILURE_POLICY
    (told,) = coordinator.pool.told
    assert isinstance(told, SweepEnd)
    assert (told.exit_code, "gpu1: no torch" in told.reason) == (ExitCode.FAILURE_POLICY, True)


@pytest.mark.parametrize(
    ("living", "reports"),
    [
        pytest.param(1, [NONE_LEFT], id="one that joined by itself"),
        pytest.param(0, [NONE_LEFT, NoMachinesLeft("")], id="one that the engine finds later"),
    ],
)
def test_one_usable_machine_keeps_a_sweep_going(
    coordinator: Coordinator, living: int, reports: list[NodeReport]
) -> None:
    coordinator.given(news(living=living), reports=reports, later={5: [OVER]})
    assert coordinator.run().exit_code == ExitCode.COMPLETE
    assert coordinator.pool.told == []


def test_the_lack_of_machines_is_reported_once(coordinator: Coordinator) -> None:
    coordinator.given(news(living=0), later={5: [OVER]}, step_s=NO_NODE_WARNING_S).run()
    assert ["no machine has joined" in str(notice) for notice in coordinator.told] == [True]


def test_a_deleted_pool_ends_the_sweep_as_an_internal_error(coordinator: Coordinator) -> None:
    ending = coordinator.given(ServerRefusedError("no pool", status=404, answer={})).run()
    assert (ending.exit_code, "no pool" in ending.reason) == (ExitCode.OUR_FAULT, True)


def test_temporary_refusals_by_a_proxy_do_not_end_the_sweep(coordinator: Coordinator) -> None:
    refused = ServerRefusedError("too many requests", status=429, answer={})
    assert coordinator.given(refused, later={3: [OVER]}).run().exit_code == ExitCode.COMPLETE


def test_a_stop_that_a_pool_refuses_is_not_sent_again(coordinator: Coordinator) -> None:
    coordinator.pool.refusals.append(ServerRefusedError("it has ended", status=409, answer={}))
    coordinator.given(stops={1: StopKind.INTERRUPT}, later={3: [STOPPED]}).run()
    assert coordinator.pool.told == [STOP]


def test_an_unreachable_pool_is_asked_again_and_reported_once(coordinator: Coordinator) -> None:
    coordinator.given(BackendError("no answer"), later={6: [OVER]}, step_s=AWAY_WARNING_S / 2)
    assert coordinator.run().exit_code == ExitCode.COMPLETE
    words = [notice.text for notice in coordinator.told if isinstance(notice, Message)]
    assert ["no answer" in text for text in words] == [True, False]


# --- how long to wait for machines to leave ------------------------------------


def after(*stops: StopKind | None) -> ShutdownDeadline:
    """Return the deadline after these ends, a second apart, the first at 100 s."""
    known: ShutdownDeadline | None = None
    for second, stop in enumerate(stops):
        known = shutdown_deadline(known, SweepEnd("reason", 0, stop), 100.0 + second, grace_s=GRACE_S)
    assert known is not None
    return known


@pytest.mark.parametrize(
    ("stop", "by"),
    [
        (None, 100 + LEAVE_TIMEOUT_S),
        (StopKind.DRAIN, None),
        (StopKind.INTERRUPT, 100 + GRACE_S + LEAVE_TIMEOUT_S),
        (StopKind.PREEMPT, 100 + GRACE_S + LEAVE_TIMEOUT_S),
        (StopKind.KILL, 100 + LEAVE_TIMEOUT_S),
    ],
)
def test_the_wait_depends_on_the_kind_of_stop(stop: StopKind | None, by: float | None) -> None:
    assert after(stop).by == by


def test_repeated_or_milder_ends_do_not_move_the_deadline() -> None:
    assert after(None, None, None).by == 100 + LEAVE_TIMEOUT_S
    assert after(StopKind.KILL, StopKind.INTERRUPT).ends.stop is StopKind.KILL


def test_a_second_stop_can_only_shorten_the_wait() -> None:
    assert after(StopKind.DRAIN, StopKind.INTERRUPT).by == 101 + GRACE_S + LEAVE_TIMEOUT_S
    assert after(StopKind.INTERRUPT, StopKind.KILL).by == 101 + LEAVE_TIMEOUT_S
    assert after(StopKind.INTERRUPT, None).by == 101 + LEAVE_TIMEOUT_S
    assert after(StopKind.KILL, None).by == 100 + LEAVE_TIMEOUT_S


def test_a_pool_is_empty_once_it_ends_without_nodes_and_all_events_were_received() -> None:
    opened = PoolEvent(1, 0.0, None, "opened", {})
    assert is_empty(news(*[opened] * (AT_ONCE - 1), ends=ALL_DONE, living=0))
    assert not is_empty(news(living=0))
    assert not is_empty(news(ends=ALL_DONE, living=1))
    assert not is_empty(news(*[opened] * AT_ONCE, ends=ALL_DONE, living=0))
