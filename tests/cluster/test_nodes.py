"""The nodes on an engine's machines, as their manager's thread starts and loses them."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from parallel_hpo.cluster.base import ClusterEngine, ClusterMachine, NodeCommand, NodeTaskEnd
from parallel_hpo.cluster.nodes import NodeEnded, NodeManager, NodeReport, NoMachinesLeft
from parallel_hpo.core.errors import BackendError, ExitCode
from parallel_hpo.core.notices import Message
from tests.cluster.engines import NotedEngine

GPU1 = ClusterMachine("gpu1", "tcp://gpu1")
DEADLINE_S = 30.0


class Told(queue.Queue[NodeReport]):
    def next(self) -> NodeReport:
        return self.get(timeout=DEADLINE_S)


def command_for(machine: ClusterMachine, token: str) -> NodeCommand:
    return NodeCommand(arguments=(machine.name, token), grace_s=1.0)


@contextmanager
def manager_of(engine: ClusterEngine, told: Told) -> Iterator[NodeManager]:
    seconds = iter(range(1000))
    nodes = NodeManager(
        lambda: engine, told.put, clock=lambda: float(next(seconds)), most=None, look_every_s=0.001
    )
    nodes.open().result(DEADLINE_S)
    try:
        yield nodes
    finally:
        nodes.stop_within(DEADLINE_S)


def test_an_ended_node_is_reported_by_its_token_and_another_is_started() -> None:
    engine, told = NotedEngine([GPU1]), Told()
    with manager_of(engine, told) as nodes:
        assert (nodes.which, nodes.own_address().result(DEADLINE_S)) == ("the machines of Noted", "10.0.0.1")
        nodes.begin(command_for)
        while not engine.started:
            nodes.own_address().result(DEADLINE_S)
        engine.over.append(NodeTaskEnd(GPU1, returned=True, exit_code=-9, error="killed"))
        ended = told.next()
        while len(engine.started) < 2:
            nodes.own_address().result(DEADLINE_S)
    (_, first), (_, second) = engine.started[:2]
    assert ended == NodeEnded(first.arguments[1], "gpu1", returned=True, reason="killed")
    assert first.arguments[1] != second.arguments[1]
    assert engine.calls == ["stop", "close"]


def test_a_machine_where_nothing_can_run_is_named_and_then_that_none_is_left() -> None:
    engine, told = NotedEngine([GPU1]), Told()
    with manager_of(engine, told) as nodes:
        nodes.begin(command_for)
        while not engine.started:
            nodes.own_address().result(DEADLINE_S)
        engine.over.append(NodeTaskEnd(GPU1, returned=True, exit_code=ExitCode.USAGE, error="no torch"))
        reports = [told.next() for _ in range(3)]
    assert reports[0] == Message("machine gpu1 gets no node any more: no torch", warning=True)
    assert reports[2] == NoMachinesLeft("gpu1: no torch")
    assert len(engine.started) == 1


def test_a_machine_that_comes_once_none_was_left_takes_that_word_back() -> None:
    engine, told = NotedEngine([GPU1]), Told()
    with manager_of(engine, told) as nodes:
        nodes.begin(command_for)
        while not engine.started:
            nodes.own_address().result(DEADLINE_S)
        engine.over.append(NodeTaskEnd(GPU1, returned=True, exit_code=ExitCode.USAGE, error="no torch"))
        while told.next() != NoMachinesLeft("gpu1: no torch"):
            pass
        engine.found.append(ClusterMachine("gpu2", "tcp://gpu2"))
        assert told.next() == NoMachinesLeft("")


def test_an_engine_in_trouble_is_asked_again_and_that_is_said_once() -> None:
    engine, told = NotedEngine([GPU1], fails=True), Told()
    with manager_of(engine, told) as nodes:
        nodes.begin(command_for)
        message = told.next()
        for _ in range(3):
            nodes.own_address().result(DEADLINE_S)
        engine.fails = False
        while not engine.started:
            nodes.own_address().result(DEADLINE_S)
    assert isinstance(message, Message)
    assert "its scheduler is away" in message.text
    assert told.empty()


def test_an_engine_that_can_not_be_reached_is_the_callers_error() -> None:
    def unreachable() -> ClusterEngine:
        raise BackendError("no scheduler")

    nodes = NodeManager(unreachable, lambda report: None, clock=lambda: 0.0, most=None)
    with pytest.raises(BackendError, match="no scheduler"):
        nodes.open().result(DEADLINE_S)
    nodes.stop_within(DEADLINE_S)


def test_an_engine_that_never_answers_blocks_no_caller() -> None:
    answers = threading.Event()

    class Deaf(NotedEngine):
        def stop(self) -> None:
            answers.wait(DEADLINE_S)

    nodes = NodeManager(lambda: Deaf([GPU1]), lambda report: None, clock=lambda: 0.0, most=None)
    nodes.open().result(DEADLINE_S)
    nodes.stop_within(0.01)
    nodes.stop_within(DEADLINE_S)
    assert not answers.is_set()
    answers.set()
