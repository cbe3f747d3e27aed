"""On which machines a node is started, again and how often."""

from __future__ import annotations

import pytest

from parallel_hpo.cluster.base import ClusterMachine, NodeTaskEnd
from parallel_hpo.cluster.nodes import MAX_FAILURES, NodeStates, after_end, after_start, due, none_left_reason
from parallel_hpo.core.errors import ExitCode

GPU1 = ClusterMachine("gpu1", "tcp://gpu1")


def end(code: int | None, error: str = "") -> NodeTaskEnd:
    return NodeTaskEnd(GPU1, returned=code is not None, exit_code=code, error=error)


def failing(times: int, *, each_s: float = 1.0) -> NodeStates:
    """What is known after so many nodes in a row that ended with an error so soon."""
    places: NodeStates = {}
    for _ in range(times):
        places = after_end(after_start(places, "gpu1", 0.0), "gpu1", end(1, "no room"), each_s)
    return places


def test_each_machine_gets_one_node() -> None:
    assert due({}, ["gpu1", "gpu2"], 0.0, most=None) == ["gpu1", "gpu2"]
    assert due(after_start({}, "gpu1", 0.0), ["gpu1", "gpu2"], 0.0, most=None) == ["gpu2"]


def test_no_more_nodes_than_asked_for_are_there_at_a_time() -> None:
    assert due({}, ["gpu1", "gpu2", "gpu3"], 0.0, most=2) == ["gpu1", "gpu2"]
    assert due(after_start({}, "gpu1", 0.0), ["gpu1", "gpu2", "gpu3"], 0.0, most=2) == ["gpu2"]


def test_a_machine_where_nodes_fail_leaves_its_turn_to_another_one() -> None:
    assert due(failing(1), ["gpu1", "gpu2"], 100.0, most=1) == ["gpu2"]


@pytest.mark.parametrize("how", [end(None, "lost"), end(0), end(75), end(-9)])
def test_a_machine_whose_node_has_ended_gets_another_one_within_seconds(how: NodeTaskEnd) -> None:
    places = after_end(after_start({}, "gpu1", 0.0), "gpu1", how, 100.0)
    assert due(places, ["gpu1"], 100.5, most=None) == []
    assert due(places, ["gpu1"], 102.0, most=None) == ["gpu1"]


def test_nodes_that_end_at_once_are_started_ever_later_but_within_what_a_comeback_may_take() -> None:
    places: NodeStates = {}
    for _ in range(20):
        places = after_end(after_start(places, "gpu1", 0.0), "gpu1", end(0), 0.0)
    assert (due(places, ["gpu1"], 14.0, most=None), due(places, ["gpu1"], 15.0, most=None)) == ([], ["gpu1"])


def test_a_machine_is_given_up_after_some_failures_in_a_row_and_the_reason_is_kept() -> None:
    assert not failing(MAX_FAILURES - 1)["gpu1"].given_up
    places = failing(MAX_FAILURES)
    assert due(places, ["gpu1"], 1e9, most=None) == []
    assert none_left_reason(places, ["gpu1"]) == "gpu1: no room"


def test_failures_of_nodes_that_had_worked_for_long_do_not_add_up() -> None:
    assert not failing(10, each_s=3600.0)["gpu1"].given_up


def test_what_would_fail_so_each_time_is_not_tried_again() -> None:
    places = after_end(after_start({}, "gpu1", 0.0), "gpu1", end(ExitCode.USAGE, "Python 3.11 there"), 1.0)
    assert none_left_reason(places, ["gpu1"]) == "gpu1: Python 3.11 there"


def test_some_machine_is_left_while_one_may_have_a_node() -> None:
    places = failing(MAX_FAILURES)
    assert none_left_reason(places, ["gpu1", "gpu2"]) == ""
    assert none_left_reason(after_start(places, "gpu2", 0.0), ["gpu1"]) == ""
    assert none_left_reason({}, []) == ""
