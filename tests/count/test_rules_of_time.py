"""A count with a timeout or a deadline: when it is complete all the same, and when time changes what runs."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from parallel_hpo.core.errors import ExitCode
from parallel_hpo.core.messages import SweepEnd
from parallel_hpo.core.types import Outcome
from parallel_hpo.count.endings import JUST_AFTER_S, time_left
from parallel_hpo.count.state import Pool
from tests.server.pool_requests import Talk, end, new_pool, start

NOW = 1000.0


def before_a_deadline(**wanted: Any) -> Talk:
    return Talk(node_timeout_s=1e6, section={"deadline": "100s"}, **wanted)


def perform(talk: Talk, run: str, seconds: float, outcome: Outcome = Outcome.FINISHED) -> None:
    talk.begin(talk.a, run)
    talk.pool.clock.now += seconds
    talk.tell(talk.a, ends=(end(run, outcome=outcome, duration_s=seconds),))


def test_a_reached_count_is_complete_although_no_further_run_would_end_in_time() -> None:
    talk = before_a_deadline(count=1)
    perform(talk, "r", 60)
    assert talk.pool.look() == SweepEnd("all 1 runs performed", ExitCode.COMPLETE)


@pytest.mark.parametrize("lowered", [False, True], ids=["a count of two", "a count that was lowered"])
def test_the_last_runs_of_a_count_get_no_deadline_message(lowered: bool) -> None:
    talk = before_a_deadline(count=3 if lowered else 2)
    talk.begin(talk.b, "long")
    perform(talk, "r", 60)
    if lowered:
        talk.pool.open(new_pool(count=1, node_timeout_s=1e6, section={"deadline": "50s"}))
    assert (talk.tell(talk.a, wants=1).held, talk.pool.look()) == ("", None)


def test_a_shorter_run_lets_more_runs_start_before_the_deadline() -> None:
    talk = before_a_deadline(count=None)
    for number in range(8):
        perform(talk, f"short{number}", 1)
    talk.begin(talk.b, "last")
    perform(talk, "long", 60)
    answer = talk.tell(talk.a, wants=1)
    assert (answer.granted, answer.held[:13]) == (9, "deadline 100s")
    talk.tell(talk.b, ends=(end("last", duration_s=1),))
    answer = talk.tell(talk.a, wants=1)
    assert (answer.granted, answer.held) == (10, "")


def test_the_duration_of_a_retried_run_is_that_of_its_last_attempt() -> None:
    talk = before_a_deadline(count=9)
    talk.begin(talk.a, "r")
    talk.tell(talk.a, ends=(end("r", 1, Outcome.CRASHED, final=False, duration_s=50.0),))
    talk.tell(talk.a, starts=(start("r", 2, deaths=1, spent_s=50.0),))
    talk.tell(talk.a, ends=(end("r", 2, duration_s=60.0),))
    assert talk.pool.pool is not None and talk.pool.pool.took == (10.0,)


def waiting(**known: Any) -> Pool:
    began: dict[str, Any] = {"opened_at": NOW, "coordinator_seen_at": NOW}
    return Pool(is_local=False, count=9, node_timeout_s=1e6, has_coordinator=False, **began, **known)


@pytest.mark.parametrize(
    ("limits", "passed_s", "left_s"),
    [
        ({}, 0, None),
        ({"sweep_timeout_s": 30.0}, 10, 20),
        ({"sweep_timeout_s": 30.0}, 40, 0),
        ({"deadline": "50s"}, 10, 40),
        ({"deadline": "50s", "sweep_timeout_s": 30.0}, 10, 20),
        ({"deadline": "50s", "took": (30.0,)}, 10, 10 + JUST_AFTER_S),
        ({"deadline": "50s", "took": (30.0,)}, 20.1, 29.9),
        ({"took": (30.0,)}, 10, None),
    ],
)
def test_time_left_is_that_until_the_first_limit_or_until_no_run_would_end_in_time(
    limits: dict[str, Any], passed_s: float, left_s: float | None
) -> None:
    pool = waiting(**limits)
    assert time_left(pool, NOW + passed_s) == (None if left_s is None else pytest.approx(left_s))
    assert time_left(replace(pool, ends=SweepEnd("done", 0)), NOW + passed_s) is None
