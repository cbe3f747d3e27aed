"""The timeline of what ledgers say: lanes, bars and marks."""

from __future__ import annotations

from typing import Any

from parallel_hpo.chronicle import QUARANTINE, RESTART, Attempt, Incident, Performed
from parallel_hpo.server.pages.timeline import lanes_of
from parallel_hpo.words import Outcome, RunId, Slot

ONE, TWO = RunId("one"), RunId("two")


def attempt(
    run: RunId, number: int, slot: int, at: float, outcome: Outcome | None, reason: str = ""
) -> Attempt:
    return Attempt(run, number, Slot(slot), at, outcome, reason, 5.0 if outcome else None)


def share(*attempts: Attempt, marks: tuple[Incident, ...] = (), name: str = "") -> Performed:
    devices: dict[RunId, str | None] = {ONE: "3", TWO: None}
    return Performed(name, "local/p/s", attempts, marks, devices, {Slot(0): "3", Slot(1): None})


def told(*shares: Performed, goes_on: bool = True) -> dict[str, Any]:
    return lanes_of(shares, lambda _: goes_on)


def test_a_worker_is_a_lane_with_its_devices_and_an_attempt_a_bar() -> None:
    timeline = told(share(attempt(ONE, 1, 0, 10.0, Outcome.FINISHED), attempt(TWO, 1, 1, 11.0, None)))
    assert [(lane["name"], lane["device"]) for lane in timeline["lanes"]] == [
        ("worker 0", "3"),
        ("worker 1", None),
    ]
    assert [(bar["lane"], bar["run"], bar["end"], bar["outcome"]) for bar in timeline["bars"]] == [
        (0, "one", 15.0, "finished"),
        (1, "two", None, None),
    ]
    assert timeline["marks"] == []


def test_an_attempt_without_an_end_that_nobody_performs_was_cut_short() -> None:
    (bar,) = told(share(attempt(TWO, 1, 1, 11.0, None)), goes_on=False)["bars"]
    assert (bar["end"], bar["outcome"]) == (11.0, "cut short")


def test_a_later_attempt_is_a_retry_marked_with_what_became_of_the_one_before() -> None:
    crashed = attempt(ONE, 1, 0, 10.0, Outcome.CRASHED, "SIGKILL")
    (mark,) = told(share(crashed, attempt(ONE, 2, 1, 20.0, None)))["marks"]
    assert mark == {"lane": 1, "at": 20.0, "kind": "retry", "text": "SIGKILL"}


def test_a_restart_marks_its_slot_and_a_quarantine_each_slot_of_its_device() -> None:
    marks = (Incident(12.0, RESTART, Slot(1), None, ""), Incident(13.0, QUARANTINE, None, "3", "ECC"))
    assert told(share(marks=marks))["marks"] == [
        {"lane": 1, "at": 12.0, "kind": "restart", "text": "a new process in its place"},
        {"lane": 0, "at": 13.0, "kind": "quarantine", "text": "ECC"},
    ]


def test_shares_have_lanes_of_their_own() -> None:
    both = told(share(name="share-1-of-2"), share(attempt(ONE, 1, 0, 1.0, None), name="share-2-of-2"))
    assert [lane["name"] for lane in both["lanes"]] == [
        *("share-1-of-2 worker 0", "share-1-of-2 worker 1", "share-2-of-2 worker 0", "share-2-of-2 worker 1"),
    ]
    assert both["bars"][0]["lane"] == 2
