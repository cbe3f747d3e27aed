"""Names of machines, the choice of machines for nodes, and the thread that starts nodes."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from parallel_hpo.cluster.base import ClusterEngine, ClusterMachine, MachineNames, NodeCommand, NodeTaskEnd
from parallel_hpo.cluster.nodes import (
    MAX_FAILURES,
    NodeEnded,
    NodeManager,
    NodeReport,
    NodeStates,
    NoMachinesLeft,
    after_end,
    after_start,
    due,
    none_left_reason,
)
from parallel_hpo.core.errors import BackendError, ExitCode
from parallel_hpo.core.notices import Message
from tests.cluster.nodes import NotedEngine


def test_machines_on_one_host_have_different_names_and_keep_them() -> None:
    names = MachineNames()
    first, second = ClusterMachine("gpu", "a"), ClusterMachine("gpu-2", "b")
    other, new = ClusterMachine("cpu", "c"), ClusterMachine("gpu", "new")
    assert names.name([("a", "gpu"), ("b", "gpu"), ("c", "cpu")]) == (other, first, second)
    assert names.name([("b", "gpu")]) == (second,)
    assert names.name([("b", "gpu"), ("new", "gpu")]) == (new, second)


GPU1 = ClusterMachine("gpu1", "tcp://gpu1")


def end(code: int | None, error: str = "") -> NodeTaskEnd:
    return NodeTaskEnd(GPU1, returned=code is not None, exit_code=code, error=error)


def failing(times: int, *, each_s: float = 1.0) -> NodeStates:
    """Return the states after `times` failures in a row, each after `each_s` seconds."""
    places: NodeStates = {}
    for _ in range(times):
        places = after_end(after_start(places, "gpu1", 0.0), "gpu1", end(1, "no room"), each_s)
    return places


def test_each_machine_gets_one_node_up_to_the_maximum_number() -> None:
    begun, machines = after_start({}, "gpu1", 0.0), ["gpu1", "gpu2", "gpu3"]
    assert due({}, machines, 0.0, most=None) == machines
    assert due(begun, machines, 0.0, most=None) == ["gpu2", "gpu3"]
    assert due({}, machines, 0.0, most=2) == ["gpu1", "gpu2"]
    assert due(begun, machines, 0.0, most=2) == ["gpu2"]


def test_a_machine_whose_node_failed_comes_after_other_machines() -> None:
    assert due(failing(1), ["gpu1", "gpu2"], 100.0, most=1) == ["gpu2"]


@pytest.mark.parametrize("how", [end(None, "lost"), end(0), end(75), end(-9)])
def test_a_machine_whose_node_has_ended_gets_another_one_within_seconds(how: NodeTaskEnd) -> None:
    places = after_end(after_start({}, "gpu1", 0.0), "gpu1", how, 100.0)
    assert due(places, ["gpu1"], 100.5, most=None) == []
    assert due(places, ["gpu1"], 102.0, most=None) == ["gpu1"]


def test_the_restart_delay_of_nodes_that_end_at_once_grows_to_at_most_15_seconds() -> None:
    places: NodeStates = {}
    for _ in range(20):
        places = after_end(after_start(places, "gpu1", 0.0), "gpu1", end(0), 0.0)
    assert (due(places, ["gpu1"], 14.0, most=None), due(places, ["gpu1"], 15.0, most=None)) == ([], ["gpu1"])


def test_a_machine_is_given_up_after_consecutive_failures_and_the_reason_is_kept() -> None:
    assert not failing(MAX_FAILURES - 1)["gpu1"].given_up
    assert not failing(10, each_s=3600.0)["gpu1"].given_up, "those that had worked for long do not add up"
    places = failing(MAX_FAILURES)
    assert due(places, ["gpu1"], 1e9, most=None) == []
    assert none_left_reason(places, ["gpu1"]) == "gpu1: no room"
    assert none_left_reason(places, ["gpu1", "gpu2"]) == ""
    assert none_left_reason(after_start(places, "gpu2", 0.0), ["gpu1"]) == ""
    assert none_left_reason({}, []) == ""


def test_a_node_that_ends_with_a_usage_error_is_not_tried_again() -> None:
    places = after_end(after_start({}, "gpu1", 0.0), "gpu1", end(ExitCode.USAGE, "Python 3.11 there"), 1.0)
    assert none_left_reason(places, ["gpu1"]) == "gpu1: Python 3.11 there"


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


def begin(nodes: NodeManager, engine: NotedEngine) -> None:
    """Let it begin, and wait until it has started a node."""
    nodes.begin(command_for)
    while not engine.started:
        nodes.own_address().result(DEADLINE_S)


def test_an_ended_node_is_reported_by_its_token_and_another_is_started() -> None:
    engine, told = NotedEngine([GPU1]), Told()
    with manager_of(engine, told) as nodes:
        assert (nodes.which, nodes.own_address().result(DEADLINE_S)) == ("the machines of Noted", "10.0.0.1")
        begin(nodes, engine)
        engine.over.append(NodeTaskEnd(GPU1, returned=True, exit_code=-9, error="killed"))
        ended = told.next()
        while len(engine.started) < 2:
            nodes.own_address().result(DEADLINE_S)
    (_, first), (_, second) = engine.started[:2]
    assert ended == NodeEnded(first.arguments[1], "gpu1", returned=True, reason="killed")
    assert first.arguments[1] != second.arguments[1]
    assert engine.calls == ["stop", "close"]


def test_an_unusable_machine_is_reported_and_no_machine_is_left_until_another_comes() -> None:
    engine, told = NotedEngine([GPU1]), Told()
    with manager_of(engine, told) as nodes:
        begin(nodes, engine)
        engine.over.append(NodeTaskEnd(GPU1, returned=True, exit_code=ExitCode.USAGE, error="no torch"))
        reports = [told.next() for _ in range(3)]
        assert len(engine.started) == 1
        engine.found.append(ClusterMachine("gpu2", "tcp://gpu2"))
        assert told.next() == NoMachinesLeft("")
    assert reports[0] == Message("machine gpu1 gets no node any more: no torch", warning=True)
    assert reports[2] == NoMachinesLeft("gpu1: no torch")


def test_a_failing_engine_is_retried_and_reported_once() -> None:
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


def test_an_unreachable_engine_raises_at_the_caller() -> None:
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
