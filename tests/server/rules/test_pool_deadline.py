"""What a pool with a deadline grants, refuses, and when it ends: one hour, and runs of some minutes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from parallel_hpo.core.errors import ExitCode
from parallel_hpo.core.messages import SweepEnd
from parallel_hpo.core.types import Outcome, StopKind
from parallel_hpo.count.rules import TOO_LATE
from tests.server.pool_in_memory import Talk
from tests.server.pooling import end, machine, new_pool, start, stopped

MINUTE = 60.0


def an_hour(**wanted: Any) -> Talk:
    return Talk(count=100, node_timeout_s=1e6, section={"deadline": "1h"}, **wanted)


def perform(talk: Talk, epoch: int, run: str, minutes: float) -> None:
    """Let a machine perform a run in so many minutes."""
    talk.begin(epoch, run)
    talk.pool.clock.now += minutes * MINUTE
    talk.tell(epoch, ends=(end(run, duration_s=minutes * MINUTE),))


def test_a_machine_is_leased_no_more_runs_than_would_end_in_time() -> None:
    talk = an_hour()
    assert talk.tell(talk.a).each == 1, "nobody knows yet how long one takes"
    perform(talk, talk.a, "r", 15)
    assert talk.tell(talk.a).each == 3


def test_what_would_not_end_in_time_is_neither_granted_nor_started_on_any_machine() -> None:
    talk = an_hour()
    talk.begin(talk.a, "long")
    perform(talk, talk.b, "r", 40)
    assert talk.tell(talk.b, wants=2).granted == 1, "the one that it has had"
    assert talk.why_not(talk.b, start("s")) in (TOO_LATE, "no run is granted to this machine now")
    assert talk.pool.look() is None, "a run is on"


def test_a_grant_from_before_is_taken_back_and_its_start_refused() -> None:
    talk = an_hour()
    talk.begin(talk.a, "long")
    assert talk.tell(talk.b, wants=1).granted == 1
    talk.pool.clock.now += 40 * MINUTE
    talk.tell(talk.a, ends=(end("long", duration_s=40 * MINUTE),))
    assert talk.pool.look() is None, "a machine has a grant"
    assert talk.tell(talk.b, wants=1, starts=(start("s"),)).refused == {"s": TOO_LATE}


def test_a_sweep_ends_resumable_once_nothing_is_on_and_nothing_more_would_end_in_time() -> None:
    talk = an_hour()
    perform(talk, talk.a, "r", 40)
    ends = talk.tell(talk.a, wants=1).ends
    assert ends is not None
    assert (ends.exit_code, ends.stop) == (ExitCode.SWEEP_TIMEOUT, StopKind.DRAIN)
    assert ends.reason.startswith("deadline 1h: no run starts that would not end in time (1200 s are left")


def test_a_run_that_another_machine_had_to_leave_is_not_begun_too_late_and_keeps_nobody() -> None:
    talk = an_hour()
    talk.begin(talk.a, "cut")
    perform(talk, talk.b, "r", 40)
    talk.tell(talk.a, ends=(stopped("cut"),))
    answer = talk.tell(talk.b, wants=1)
    assert answer.again == ()
    assert answer.ends is not None


def test_what_is_on_at_the_deadline_is_interrupted() -> None:
    talk = an_hour()
    talk.begin(talk.a, "r")
    talk.pool.clock.now += 59 * MINUTE
    assert talk.tell(talk.a).ends is None
    talk.pool.clock.now += 2 * MINUTE
    assert talk.tell(talk.a).ends == SweepEnd("deadline 1h", ExitCode.SWEEP_TIMEOUT, StopKind.INTERRUPT)


def test_a_run_that_failed_says_nothing_of_how_long_others_take() -> None:
    talk = an_hour()
    talk.begin(talk.a, "r")
    talk.tell(talk.a, ends=(end("r", outcome=Outcome.FAILED, duration_s=50 * MINUTE),))
    talk.pool.clock.now += 20 * MINUTE
    assert talk.tell(talk.a, wants=1).granted == 2


def test_a_run_goes_to_another_machine_with_its_own_seed() -> None:
    talk = Talk()
    talk.tell(talk.a, wants=1)
    talk.tell(talk.a, starts=(start("r", seed=77),))
    talk.tell(talk.a, ends=(stopped("r"),))
    (handed,) = talk.tell(talk.b, wants=1).again
    assert (handed.run_id, handed.seed) == ("r", 77)


def test_a_run_that_was_handed_on_in_time_is_refused_once_it_is_too_late() -> None:
    talk = an_hour()
    perform(talk, talk.a, "r", 10)
    talk.begin(talk.a, "cut")
    talk.tell(talk.a, ends=(stopped("cut"),))
    assert [run.run_id for run in talk.tell(talk.b, wants=1).again] == ["cut"]
    talk.pool.clock.now += 45 * MINUTE
    assert talk.tell(talk.b, wants=1, starts=(start("cut", 2),)).refused == {"cut": TOO_LATE}


def test_a_pool_that_is_opened_again_has_another_hour_and_knows_how_long_runs_take() -> None:
    talk = an_hour()
    perform(talk, talk.a, "r", 40)
    talk.pool.open(new_pool(count=100, node_timeout_s=1e6, section={"deadline": "90m"}))
    assert talk.tell(talk.a).each == 2


def hurried(talk: Talk) -> int:
    """Let a machine join that has an hour of its own."""
    return talk.pool.join(replace(machine("c"), deadline_s=60 * MINUTE)) or 0


def test_a_machine_leaves_once_no_run_would_end_before_its_own_deadline_and_others_go_on() -> None:
    talk = Talk(count=100, node_timeout_s=1e6)
    epoch = hurried(talk)
    perform(talk, epoch, "r", 15)
    assert talk.tell(epoch).each == 3 < talk.tell(talk.a).each
    perform(talk, epoch, "s", 25)
    ends = talk.tell(epoch, wants=1).ends
    assert ends is not None
    assert (ends.exit_code, ends.stop) == (ExitCode.SWEEP_TIMEOUT, StopKind.DRAIN)
    assert ends.reason.startswith("deadline of this machine: no run starts that would not end in time")
    assert talk.why_not(epoch, start("t")) == TOO_LATE
    other = talk.tell(talk.a, wants=1)
    assert (other.granted, other.ends, talk.pool.look()) == (1, None, None)


def test_what_is_on_at_a_machines_own_deadline_is_interrupted_there_and_goes_on_elsewhere() -> None:
    talk = Talk(count=100, node_timeout_s=1e6)
    epoch = hurried(talk)
    talk.begin(epoch, "r")
    talk.pool.clock.now += 60 * MINUTE
    told = talk.tell(epoch)
    assert told.ends == SweepEnd("deadline of this machine", ExitCode.SWEEP_TIMEOUT, StopKind.INTERRUPT)
    talk.tell(epoch, ends=(stopped("r"),))
    assert [run.run_id for run in talk.tell(talk.a, wants=1).again] == ["r"]
