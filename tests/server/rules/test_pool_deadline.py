"""Grants, refusals and the end of a pool with a deadline: one hour, and runs of some minutes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from parallel_hpo.core.errors import ExitCode
from parallel_hpo.core.messages import SweepEnd
from parallel_hpo.core.types import StopKind
from parallel_hpo.count.rules import TOO_LATE
from tests.server.pool_requests import Talk, machine, new_pool, start

MINUTE = 60.0


def talk_of(**wanted: Any) -> Talk:
    return Talk(count=100, node_timeout_s=1e6, **wanted)


def talk_with_deadline() -> Talk:
    return talk_of(section={"deadline": "1h"})


def test_a_lease_is_limited_to_the_runs_that_would_end_before_the_deadline() -> None:
    talk = talk_with_deadline()
    assert talk.tell(talk.a).each == 1, "no duration is known yet"
    talk.perform(talk.a, "r", minutes=15)
    assert talk.tell(talk.a).each == 3


def test_a_run_that_would_miss_the_deadline_is_not_granted_nor_started() -> None:
    talk = talk_with_deadline()
    talk.begin(talk.a, "long")
    assert talk.tell(talk.b, wants=1).granted == 1
    talk.perform(talk.a, "r", minutes=40)
    assert talk.tell(talk.a, wants=5).granted == 2, "the runs that it already started"
    assert talk.tell(talk.b, wants=1, starts=(start("s"),)).refused == {"s": TOO_LATE}
    assert talk.pool.look() is None, "a run is active"


def test_a_sweep_ends_resumable_once_no_run_is_active_or_fits_before_the_deadline() -> None:
    talk = talk_with_deadline()
    talk.begin(talk.a, "cut")
    talk.perform(talk.b, "r", minutes=40)
    talk.stop(talk.a, "cut")
    answer = talk.tell(talk.b, wants=1)
    assert answer.again == ()
    assert answer.ends is not None
    assert (answer.ends.exit_code, answer.ends.stop) == (ExitCode.SWEEP_TIMEOUT, StopKind.DRAIN)
    why = "deadline 1h: no run starts that would not end in time (1200 s are left"
    assert answer.ends.reason.startswith(why)


def test_a_requeued_run_is_refused_once_it_would_miss_the_deadline() -> None:
    talk = talk_with_deadline()
    talk.perform(talk.a, "r", minutes=10)
    talk.begin(talk.a, "cut")
    talk.stop(talk.a, "cut")
    assert talk.again(talk.b) == [("cut", 2)]
    talk.pool.clock.now += 45 * MINUTE
    assert talk.tell(talk.b, wants=1, starts=(start("cut", 2),)).refused == {"cut": TOO_LATE}


def test_a_reopened_pool_has_a_new_deadline_and_keeps_known_durations() -> None:
    talk = talk_with_deadline()
    talk.perform(talk.a, "r", minutes=40)
    talk.pool.open(new_pool(count=100, node_timeout_s=1e6, section={"deadline": "90m"}))
    assert talk.tell(talk.a).each == 2


def hurried(talk: Talk) -> int:
    """Let a machine with its own deadline of an hour join."""
    return talk.pool.join(replace(machine("c"), deadline_s=60 * MINUTE)) or 0


def test_a_machine_leaves_when_no_run_fits_before_its_own_deadline_and_others_continue() -> None:
    talk = talk_of()
    epoch = hurried(talk)
    talk.perform(epoch, "r", minutes=15)
    assert talk.tell(epoch).each == 3 < talk.tell(talk.a).each
    talk.perform(epoch, "s", minutes=25)
    ends = talk.tell(epoch, wants=1).ends
    assert ends is not None
    assert (ends.exit_code, ends.stop) == (ExitCode.SWEEP_TIMEOUT, StopKind.DRAIN)
    assert ends.reason.startswith("deadline of this machine: no run starts that would not end in time")
    assert talk.why_not(epoch, start("t")) == TOO_LATE
    other = talk.tell(talk.a, wants=1)
    assert (other.granted, other.ends, talk.pool.look()) == (1, None, None)


def test_active_runs_at_a_machines_own_deadline_are_interrupted_and_requeued() -> None:
    talk = talk_of()
    epoch = hurried(talk)
    talk.begin(epoch, "r")
    talk.pool.clock.now += 60 * MINUTE
    ends = SweepEnd("deadline of this machine", ExitCode.SWEEP_TIMEOUT, StopKind.INTERRUPT)
    assert talk.tell(epoch).ends == ends
    talk.stop(epoch, "r")
    assert talk.again(talk.a) == [("r", 2)]
