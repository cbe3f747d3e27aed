"""A pool's answers to machines' exchanges, lost machines, and the end of the sweep."""

from __future__ import annotations

from dataclasses import replace

import pytest

from parallel_hpo.core.errors import ExitCode
from parallel_hpo.core.messages import SweepEnd
from parallel_hpo.core.pool_messages import Granted, NodeLost
from parallel_hpo.core.types import Outcome, RunId, StopKind
from parallel_hpo.count.endings import mark_gone
from parallel_hpo.count.rules import WITHOUT_END
from parallel_hpo.count.state import Moment
from tests.server.pool_requests import (
    TIMEOUT_S,
    PoolInMemory,
    Talk,
    end,
    machine,
    new_pool,
    start,
    stopped,
    told,
)

CRASHED = end("r", 1, Outcome.CRASHED, final=False)
"""The end of an attempt that the machine will repeat."""
DRAIN = SweepEnd("Ctrl-C", 130, StopKind.DRAIN)


def test_grants_do_not_exceed_the_remaining_count() -> None:
    talk = Talk(count=3)
    asked = ((talk.a, 2), (talk.b, 2), (talk.a, 0), (talk.b, 3))
    assert [talk.tell(epoch, wants).granted for epoch, wants in asked] == [2, 1, 0, 3]


def test_an_idle_worker_is_leased_its_share_of_the_remaining_runs() -> None:
    talk = Talk(count=16)
    assert talk.tell(talk.a).each == 2
    talk.tell(talk.a, wants=8)
    assert talk.tell(talk.b).each == 1


def test_a_start_without_a_grant_is_refused_and_a_repeated_start_counts_once() -> None:
    talk = Talk(count=1)
    assert "no run is granted" in talk.why_not(talk.a, start("r"))
    talk.begin(talk.a, "r")
    assert talk.tell(talk.a, starts=(start("r"),)).started == ("r",)
    assert talk.pool.kinds().count("started") == 1
    assert "all 1 runs have started" in talk.why_not(talk.b, start("s"))


def test_starts_in_a_repeated_or_older_exchange_are_ignored() -> None:
    talk = Talk()
    first = told(talk.a, 1, wants=1, starts=(start("r"),))
    assert list(talk.pool.exchange(first).refused) == ["r"]
    assert (talk.pool.exchange(first).started, talk.pool.nodes[talk.a].granted) == ((), 1)
    talk.pool.exchange(told(talk.a, 5, wants=1))
    for number in (2, 3):
        late = talk.pool.exchange(told(talk.a, number, wants=4, starts=(start("r"),)))
        assert (late.started, dict(late.refused), late.granted) == ((), {}, 1)
    assert "started" not in talk.pool.kinds()


def test_an_end_from_the_runs_machine_counts_once_even_in_an_older_exchange() -> None:
    talk = Talk()
    talk.begin(talk.a, "r")
    late = told(talk.a, talk.number, ends=(end("r"),))
    talk.tell(talk.b, ends=(end("r"),))
    assert "ended" not in talk.pool.kinds()
    talk.tell(talk.a)
    for _ in range(2):
        talk.pool.exchange(late)
    assert talk.pool.kinds().count("ended") == 1


def test_an_end_of_another_attempt_than_the_active_one_is_ignored() -> None:
    talk = Talk()
    talk.begin(talk.a, "r")
    talk.tell(talk.a, ends=(CRASHED,))
    talk.tell(talk.a, ends=(CRASHED, end("r", None, Outcome.CRASHED, final=False)))
    talk.tell(talk.a, starts=(start("r", 2),))
    talk.tell(talk.a, ends=(end("r", 1), end("r", 3), end("r", None), stopped("r", 1), CRASHED))
    assert talk.pool.kinds()[-3:] == ["started", "attempt_ended", "started"]


def test_only_the_same_machine_may_start_the_next_attempt_of_its_run() -> None:
    talk = Talk()
    talk.begin(talk.a, "r")
    talk.tell(talk.a, ends=(CRASHED,))
    for attempt in (1, 3):
        assert "2 is the next one" in talk.why_not(talk.a, start("r", attempt))
    assert talk.why_not(talk.b, start("r", 2)) == "on elsewhere"
    assert talk.tell(talk.a, starts=(start("r", 2, deaths=1),)).started == ("r",)
    assert talk.tell(talk.a, ends=(end("r", 2),)).gone is False
    assert talk.why_not(talk.a, start("r", 3)) == "over: finished"


def test_a_run_stopped_by_its_machine_is_requeued_with_its_history() -> None:
    talk = Talk()
    talk.tell(talk.a, wants=1)
    talk.tell(talk.a, starts=(start("r", seed=77),))
    talk.tell(talk.a, ends=(replace(CRASHED, duration_s=3.0),))
    talk.tell(talk.a, starts=(start("r", 2, deaths=1, spent_s=3.0, seed=77),))
    talk.tell(talk.a, ends=(replace(stopped("r", 2), duration_s=4.0),))
    (again,) = talk.tell(talk.b, wants=1).again
    assert (again.run_id, again.attempt, again.deaths, again.spent_s, again.seed) == ("r", 3, 1, 7.0, 77)
    assert again.parameters == {"x": 1}
    assert talk.tell(talk.b, wants=1, starts=(start("r", 3),)).started == ("r",)


def test_requeued_runs_are_assigned_to_idle_workers_before_new_grants() -> None:
    """The second requeued run is kept for the next idle machine."""
    talk = Talk(count=9)
    for run in "rs":
        talk.begin(talk.a, run)
    talk.stop(talk.a, "r", "s")
    answer = talk.tell(talk.b, wants=5, wants_again=1)
    assert ([run.run_id for run in answer.again], answer.granted) == (["r"], 4)
    assert talk.again(talk.a) == [("s", 2)]
    answer = talk.tell(talk.b, wants=0)
    assert (answer.again, answer.granted) == ((), 0)
    assert talk.again(talk.a, wants=2) == [("r", 2), ("s", 2)]


def test_requeued_runs_and_held_grants_remain_when_the_sweep_is_exhausted() -> None:
    talk = Talk(count=9)
    talk.begin(talk.a, "r")
    talk.tell(talk.b, wants=1)
    talk.stop(talk.a, "r")
    for wants in (1, 0):
        answer = talk.tell(talk.b, wants, wants_again=1, over="used up")
        assert ([run.run_id for run in answer.again], answer.granted) == (["r"], wants)


def test_an_assigned_run_that_never_started_is_requeued_as_the_same_attempt() -> None:
    talk = Talk()
    talk.begin(talk.a, "r")
    talk.stop(talk.a, "r")
    for give_back in ({"ends": (stopped("r", None),)}, {}):
        assert "it waits" in talk.tell(talk.a, starts=(start("r", 2),)).refused[RunId("r")]
        assert talk.again(talk.b) == [("r", 2)]
        talk.tell(talk.b, wants=0, **give_back)
    assert talk.again(talk.b) == [("r", 2)]
    talk.pool.leave(talk.b, "told to go")
    assert talk.again(talk.a) == [("r", 2)]


def test_an_assigned_run_may_end_without_a_start() -> None:
    talk = Talk()
    talk.begin(talk.a, "r")
    talk.stop(talk.a, "r")
    talk.tell(talk.b, wants=1)
    for attempt in (1, 2):
        talk.tell(talk.b, wants=1, ends=(end("r", attempt),))
    assert "ended" not in talk.pool.kinds()
    talk.tell(talk.b, ends=(end("r", None, Outcome.CRASHED),))
    assert talk.pool.kinds()[-1] == "ended"


def test_a_count_below_the_started_runs_grants_nothing() -> None:
    talk = Talk(count=4)
    for run in "rst":
        talk.begin(talk.a, run)
    talk.pool.open(new_pool(count=2))
    assert talk.tell(talk.a, wants=1).granted == 3
    assert "all 2 runs have started" in talk.why_not(talk.a, start("u"))


@pytest.mark.parametrize("speaks", [True, False])
def test_a_supervisors_mark_is_dead_once_its_last_active_epoch_is_lost(speaks: bool) -> None:
    pool = PoolInMemory()
    pool.open(new_pool())
    first, second = (pool.join(machine("a", mark="m")) or 0 for _ in range(2))
    pool.exchange(told(first, 1))
    if speaks:
        pool.exchange(told(second, 1))
    draft = pool.draft()
    mark_gone(draft, first, "gone")
    assert draft.dead_marks == ([] if speaks else ["m"])
    mark_gone(draft, second, "gone")
    assert draft.dead_marks == ["m"]


def test_a_machine_silent_for_its_lease_is_lost_and_its_runs_are_requeued() -> None:
    talk = Talk(count=4)
    talk.begin(talk.a, "r")
    talk.tell(talk.a, wants=3)
    talk.wait(TIMEOUT_S - 10, heard=talk.b)
    assert talk.tell(talk.b, wants=4).granted == 0
    talk.pool.clock.now += 10
    answer = talk.tell(talk.b, wants=4)
    assert ([run.attempt for run in answer.again], answer.granted) == ([2], 3)
    assert talk.tell(talk.a, ends=(end("r"),)) == Granted(gone=True)
    assert talk.pool.kinds()[-2:] == ["handed_on", "left"]


@pytest.mark.parametrize(
    ("fair_from", "heard_at", "silent_s"),
    [(None, 30.0, 70.0), (90.0, 30.0, 10.0), (90.0, 5000.0, 10.0), (5000.0, 30.0, 0.0)],
)
def test_silence_is_measured_from_the_servers_start_or_clock_change_at_the_earliest(
    fair_from: float | None, heard_at: float, silent_s: float
) -> None:
    moment = Moment(100.0) if fair_from is None else Moment(100.0, fair_from)
    assert moment.silent_s(heard_at) == silent_s


def test_a_machine_counts_as_lost_only_with_proof_from_the_engine() -> None:
    talk = Talk()
    talk.pool.lose(NodeLost("a", returned=False))
    talk.pool.lose(NodeLost("a", returned=True, epoch=talk.b))
    talk.pool.lose(NodeLost("other", returned=True))
    assert not talk.tell(talk.a).gone
    talk.pool.lose(NodeLost("a", returned=True, epoch=talk.a))
    assert (talk.tell(talk.a).gone, talk.tell(talk.b).gone) == (True, False)


def test_a_leaving_machine_returns_its_runs_and_grants() -> None:
    talk = Talk(count=2)
    talk.begin(talk.a, "r")
    talk.tell(talk.a, wants=1)
    for _ in range(2):
        talk.pool.leave(talk.a, "told to go")
    answer = talk.tell(talk.b, wants=2)
    assert ([run.attempt for run in answer.again], answer.granted) == ([2], 1)
    assert talk.pool.kinds().count("left") == 1


def test_machines_with_the_same_name_get_distinct_names() -> None:
    talk = Talk()
    for _ in range(2):
        talk.pool.join(machine("a"))
    assert [node.name for node in talk.pool.nodes.values()] == ["a", "b", "a-2", "a-3"]
    talk.pool.leave(talk.a, "done")
    talk.pool.join(machine("a"))
    assert talk.pool.nodes[5].name == "a"


def test_a_rejoining_supervisor_ends_its_previous_epoch() -> None:
    talk = Talk(count=1)
    talk.begin(talk.a, "r")
    epoch = talk.pool.join(replace(machine("a"), previous=talk.a)) or 0
    assert talk.again(epoch) == [("r", 2)]
    assert talk.pool.nodes[epoch].name == "a"


def test_a_sweep_is_complete_once_all_runs_ended_and_at_once_if_reopened() -> None:
    talk = Talk(count=2)
    talk.begin(talk.b, "s")
    assert talk.perform(talk.a, "r").ends is None
    complete = SweepEnd("all 2 runs performed", ExitCode.COMPLETE)
    assert talk.tell(talk.b, ends=(end("s"),)).ends == complete
    talk.pool.stop(SweepEnd("Ctrl-C", 130, StopKind.KILL))
    assert talk.tell(talk.a, wants=2).ends == complete, "a stop after completion changes nothing"
    assert talk.pool.kinds()[-1] == "complete"
    talk.pool.open(new_pool(count=2))
    assert talk.pool.look() == complete
    assert talk.pool.kinds()[-2:] == ["opened", "complete"]


def test_a_sweep_without_a_finished_run_ends_with_its_own_exit_code() -> None:
    talk = Talk(count=1)
    ends = talk.perform(talk.a, "r", Outcome.STOPPED).ends
    assert ends == SweepEnd("all 1 runs performed", ExitCode.NO_RUN_FINISHED)


def test_an_exhausted_sweep_grants_no_new_run_and_completes_once_grants_are_returned() -> None:
    talk = Talk(count=None)
    assert talk.tell(talk.a, wants=3).each == WITHOUT_END
    talk.tell(talk.b, wants=2)
    answer = talk.tell(talk.a, wants=0, over="the grid is used up")
    assert (answer.granted, answer.ends) == (0, None)
    assert talk.tell(talk.a, wants=3).granted == 0
    assert talk.tell(talk.b, wants=2).granted == 2
    assert talk.tell(talk.b, wants=0).ends == SweepEnd("the grid is used up", ExitCode.COMPLETE)


def test_failures_on_all_machines_count_and_end_the_sweep() -> None:
    talk = Talk(count=9, section={"failures": {"max_initial": None, "max_total": 2}})
    assert talk.perform(talk.a, "r", Outcome.FAILED).ends is None
    talk.tell(talk.a, wants=3)
    ends = talk.perform(talk.b, "s", Outcome.FAILED).ends
    assert ends is not None
    assert (ends.exit_code, ends.stop) == (ExitCode.FAILURE_POLICY, StopKind.INTERRUPT)
    answer = talk.tell(talk.a, wants=3, starts=(start("t"),))
    assert (answer.granted, "the sweep ends" in answer.refused[RunId("t")]) == (1, True)


def test_a_sweep_that_is_already_ending_ignores_further_reasons_to_end() -> None:
    talk = Talk(section={"failures": {"max_initial": 1}, "sweep_timeout_s": 5.0})
    talk.begin(talk.a, "r")
    talk.pool.stop(DRAIN)
    talk.tell(talk.a, ends=(end("r", outcome=Outcome.FAILED),))
    talk.pool.clock.now += 5
    assert talk.tell(talk.a).ends == DRAIN
    assert talk.pool.kinds().count("stopped") == 1


def test_a_sweep_is_interrupted_at_its_timeout_since_the_first_machine_joined() -> None:
    pool = PoolInMemory()
    pool.open(new_pool(section={"sweep_timeout_s": 10.0}))
    pool.clock.now += 60.0
    epoch = pool.join(machine("a")) or 0
    pool.clock.now += 9.9
    assert pool.exchange(told(epoch, 1)).ends is None
    pool.join(machine("b"))
    pool.clock.now += 0.1
    ends = SweepEnd("sweep timeout 10 s", ExitCode.SWEEP_TIMEOUT, StopKind.INTERRUPT)
    assert pool.exchange(told(epoch, 2)).ends == ends


def test_a_sweep_is_interrupted_when_its_coordinator_is_silent() -> None:
    talk = Talk(has_coordinator=True)
    talk.wait(TIMEOUT_S - 1, heard=talk.a)
    talk.pool.hear_head()
    talk.wait(TIMEOUT_S - 1, heard=talk.a)
    assert talk.tell(talk.a).ends is None
    talk.wait(1, heard=talk.a)
    ends = SweepEnd("the sweep's coordinator is gone", ExitCode.RESUMABLE, StopKind.INTERRUPT)
    assert talk.tell(talk.a).ends == ends


def test_a_stop_is_replaced_only_by_a_stronger_one() -> None:
    talk = Talk()
    asked = (StopKind.INTERRUPT, StopKind.DRAIN, StopKind.PREEMPT, StopKind.KILL, StopKind.INTERRUPT)
    for stop in asked:
        talk.pool.stop(SweepEnd(f"asked to {stop}", 130, stop))
    assert talk.tell(talk.a).ends == SweepEnd("asked to kill", 130, StopKind.KILL)
    assert talk.pool.kinds().count("stopped") == 2


def test_no_run_starts_while_a_sweep_stops_and_stopped_runs_wait_for_the_next_opening() -> None:
    talk = Talk(count=2)
    talk.begin(talk.a, "r")
    talk.begin(talk.b, "s")
    talk.stop(talk.b, "s")
    talk.tell(talk.b, wants=1)
    talk.pool.stop(SweepEnd("Ctrl-C", 130, StopKind.INTERRUPT))
    assert "the sweep ends" in talk.why_not(talk.b, start("s", 2))
    talk.stop(talk.a, "r")
    assert talk.again(talk.b, wants=2) == []
    talk.pool.open(new_pool(count=3))
    answer = talk.tell(talk.b, wants=3)
    assert ([run.run_id for run in answer.again], answer.granted, answer.ends) == (["r", "s"], 2, None)
