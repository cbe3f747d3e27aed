"""The coordinator's loop, between a pool, nodes and stops; all made up but the ledger."""

from __future__ import annotations

import queue
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from parallel_hpo.cluster.loop import AWAY_WARNING_S, NO_NODE_WARNING_S, ClusterLoop
from parallel_hpo.cluster.nodes import NodeEnded, NodeReport, NoMachinesLeft
from parallel_hpo.cluster.watcher import Answer, EventCopier, PoolWatcher
from parallel_hpo.core.errors import BackendError, ExitCode, ServerRefusedError
from parallel_hpo.core.messages import SweepEnd
from parallel_hpo.core.notices import Message, Notice
from parallel_hpo.core.pool_messages import NodeLost, PoolNews
from parallel_hpo.core.types import StopKind
from parallel_hpo.records.ledger import Ledger
from parallel_hpo.session.signals import CommandPipe, Control
from tests.cluster.pools import ALL_DONE, RecordedPool, joined, news

GRACE_S = 30.0
STOP = SweepEnd("interrupt asked by the program", ExitCode.RESUMABLE, StopKind.INTERRUPT)


@dataclass
class Coordinator:
    """A coordinator whose pool and nodes are made up."""

    folder: Path
    pool: RecordedPool = field(default_factory=lambda: RecordedPool([news()]))
    now: float = 0.0
    told: list[Notice] = field(default_factory=list)
    stopped: list[float] = field(default_factory=list)
    reports: queue.SimpleQueue[NodeReport | Answer] = field(default_factory=queue.SimpleQueue)
    at_each_answer: Callable[[int], None] = lambda number: None
    answers: int = 0

    def __post_init__(self) -> None:
        self.control = Control(clock=lambda: self.now)

    def run(self) -> SweepEnd:
        with Ledger(self.folder / "ledger.db") as ledger, CommandPipe(self.folder) as command_pipe:
            copier = EventCopier(ledger, self.told.append)
            watcher = PoolWatcher(
                self.pool,
                lambda: (copier.last_event, copier.last_notice),
                self._post,
                ask_every_s=0.001,
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
        self.at_each_answer(self.answers)
        self.control.ring()


@pytest.fixture
def coordinator(tmp_path: Path) -> Iterator[Coordinator]:
    made = Coordinator(tmp_path)
    with closing(made.control):
        yield made


def test_a_sweep_ends_when_its_pool_ends_and_all_nodes_have_left(coordinator: Coordinator) -> None:
    coordinator.pool.then(
        news(joined(1, 1, "gpu1")), news(ends=ALL_DONE, living=1), news(ends=ALL_DONE, living=0)
    )
    assert coordinator.run() == SweepEnd("all 2 runs performed", 0, None)
    assert coordinator.pool.asked[:2] == [(0, 0), (1, 0)]
    assert (coordinator.pool.told, coordinator.stopped) == ([], [])


def test_an_interrupt_is_the_pools_and_its_answer_the_ending(coordinator: Coordinator) -> None:
    def stop_at(number: int) -> None:
        if number == 1:
            coordinator.control.stop(StopKind.INTERRUPT)
        if coordinator.pool.told:
            coordinator.pool.then(news(ends=STOP, living=0))

    coordinator.at_each_answer = stop_at
    assert coordinator.run() == SweepEnd(STOP.reason, STOP.exit_code, StopKind.INTERRUPT)
    assert coordinator.pool.told == [STOP]


def test_a_second_interrupt_kills_and_has_the_engine_end_all_at_once(coordinator: Coordinator) -> None:
    def stop_at(number: int) -> None:
        if number <= 2:
            coordinator.control.stop(StopKind.INTERRUPT)
        if len(coordinator.pool.told) == 2:
            coordinator.pool.then(news(ends=STOP, living=0))

    coordinator.at_each_answer = stop_at
    coordinator.run()
    assert [told.stop for told in coordinator.pool.told if isinstance(told, SweepEnd)] == [
        StopKind.INTERRUPT,
        StopKind.KILL,
    ]
    assert coordinator.stopped == [0.0]


def test_machines_that_do_not_leave_are_ended_by_the_engine(
    coordinator: Coordinator,
) -> None:
    def stop_at(number: int) -> None:
        if number == 1:
            coordinator.control.stop(StopKind.INTERRUPT)
        coordinator.now += 1.0

    coordinator.at_each_answer = stop_at
    assert coordinator.run().stop is StopKind.INTERRUPT
    assert GRACE_S <= coordinator.stopped[0] < coordinator.now <= GRACE_S + 5 + 4


def test_a_machine_that_does_not_answer_holds_no_sweep_up_that_is_complete(coordinator: Coordinator) -> None:
    def pass_time(number: int) -> None:
        coordinator.now += 1.0

    coordinator.pool.then(news(ends=ALL_DONE, living=1))
    coordinator.at_each_answer = pass_time
    assert coordinator.run() == SweepEnd("all 2 runs performed", 0, None)
    assert coordinator.now <= 5 + 4
    assert len(coordinator.stopped) == 1


def test_a_drain_takes_as_long_as_it_takes(coordinator: Coordinator) -> None:
    def stop_at(number: int) -> None:
        if number == 1:
            coordinator.control.stop(StopKind.DRAIN)
        coordinator.now += 1000.0
        if number == 20:
            coordinator.pool.then(news(ends=SweepEnd("drained", 75, StopKind.DRAIN), living=0))

    coordinator.at_each_answer = stop_at
    assert coordinator.run() == SweepEnd("drained", 75, StopKind.DRAIN)
    assert coordinator.stopped == []


def test_a_node_that_returned_is_lost_by_the_epoch_that_it_joined_with(coordinator: Coordinator) -> None:
    def end_at(number: int) -> None:
        if number == 1:
            coordinator.reports.put(NodeEnded("0badf00d", "gpu1", returned=True, reason="killed"))
            coordinator.reports.put(NodeEnded("deadbeef", "gpu2", returned=True, reason="never joined"))
        if coordinator.pool.told:
            coordinator.pool.then(news(ends=ALL_DONE, living=0))

    coordinator.pool.then(news(joined(1, 1, "gpu1", mark="1_t2_3_boot_0badf00d")), news())
    coordinator.at_each_answer = end_at
    coordinator.run()
    assert coordinator.pool.told == [NodeLost("gpu1", returned=True, reason="killed", epoch=1)]


def test_the_end_of_a_node_is_reported_once_its_join_is_known(coordinator: Coordinator) -> None:
    def end_at(number: int) -> None:
        if number == 1:
            coordinator.reports.put(NodeEnded("0badf00d", "gpu1", returned=True, reason="killed"))
        if number == 3:
            coordinator.pool.then(news(joined(1, 1, "gpu1", mark="1_t2_3_boot_0badf00d")), news())
        if coordinator.pool.told:
            coordinator.pool.then(news(ends=ALL_DONE, living=0))

    coordinator.pool.then(news(), news())
    coordinator.at_each_answer = end_at
    coordinator.run()
    assert coordinator.pool.told == [NodeLost("gpu1", returned=True, reason="killed", epoch=1)]


def test_a_sweep_that_no_machine_can_perform_ends(coordinator: Coordinator) -> None:
    def give_up(number: int) -> None:
        if number == 1:
            coordinator.reports.put(NoMachinesLeft("gpu1: no torch"))
        for told in coordinator.pool.told:
            assert isinstance(told, SweepEnd)
            coordinator.pool.then(news(ends=told, living=0))

    coordinator.pool.then(news(living=0))
    coordinator.at_each_answer = give_up
    ending = coordinator.run()
    assert (ending.exit_code, "gpu1: no torch" in ending.reason) == (ExitCode.FAILURE_POLICY, True)


def test_a_machine_that_joined_by_itself_keeps_a_sweep_going_without_an_engine(
    coordinator: Coordinator,
) -> None:
    def give_up(number: int) -> None:
        if number == 1:
            coordinator.reports.put(NoMachinesLeft("gpu1: no torch"))
        if number == 5:
            coordinator.pool.then(news(ends=ALL_DONE, living=0))

    coordinator.at_each_answer = give_up
    assert coordinator.run().exit_code == ExitCode.COMPLETE
    assert coordinator.pool.told == []


def test_a_machine_that_the_engine_finds_later_is_waited_for(
    coordinator: Coordinator,
) -> None:
    def give_up(number: int) -> None:
        if number == 1:
            coordinator.reports.put(NoMachinesLeft("gpu1: no torch"))
            coordinator.reports.put(NoMachinesLeft(""))
            coordinator.pool.then(news(living=0))
        if number == 5:
            coordinator.pool.then(news(ends=ALL_DONE, living=0))

    coordinator.at_each_answer = give_up
    assert coordinator.run().exit_code == ExitCode.COMPLETE
    assert coordinator.pool.told == []


def test_where_no_machine_comes_that_is_said_once(coordinator: Coordinator) -> None:
    def wait(number: int) -> None:
        coordinator.now += NO_NODE_WARNING_S
        if number == 5:
            coordinator.pool.then(news(ends=ALL_DONE, living=0))

    coordinator.pool.then(news(living=0))
    coordinator.at_each_answer = wait
    coordinator.run()
    assert ["no machine has joined" in str(notice) for notice in coordinator.told] == [True]


def test_a_pool_that_was_deleted_ends_the_sweep_as_a_fault(coordinator: Coordinator) -> None:
    coordinator.pool.then(ServerRefusedError("no pool", status=404, answer={}))
    ending = coordinator.run()
    assert (ending.exit_code, "no pool" in ending.reason) == (ExitCode.OUR_FAULT, True)


def test_what_stands_before_a_pool_and_refuses_for_a_while_ends_nothing(coordinator: Coordinator) -> None:
    def wait(number: int) -> None:
        if number == 3:
            coordinator.pool.then(news(ends=ALL_DONE, living=0))

    coordinator.pool.then(ServerRefusedError("too many requests", status=429, answer={}))
    coordinator.at_each_answer = wait
    assert coordinator.run().exit_code == ExitCode.COMPLETE


def test_a_pool_that_is_away_is_asked_again_and_that_is_said_once(coordinator: Coordinator) -> None:
    def wait(number: int) -> None:
        coordinator.now += AWAY_WARNING_S / 2
        if number == 6:
            coordinator.pool.then(news(ends=ALL_DONE, living=0))

    away: PoolNews | BackendError = BackendError("no answer")
    coordinator.pool.then(away)
    coordinator.at_each_answer = wait
    assert coordinator.run().exit_code == ExitCode.COMPLETE
    words = [notice.text for notice in coordinator.told if isinstance(notice, Message)]
    assert ["no answer" in text for text in words] == [True, False]
