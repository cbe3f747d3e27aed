"""What a pool makes of what a machine tells it: grants, starts and ends, one thing at a time."""

from __future__ import annotations

import pytest

from parallel_hpo.core.types import Outcome, RunId
from parallel_hpo.count.endings import mark_gone
from tests.server.pool_in_memory import PoolInMemory, Talk
from tests.server.pooling import end, machine, new_pool, start, stopped, told


def test_no_more_runs_are_granted_than_the_count_has_left() -> None:
    talk = Talk(count=3)
    assert talk.tell(talk.a, wants=2).granted == 2
    assert talk.tell(talk.b, wants=2).granted == 1
    assert talk.tell(talk.a, wants=0).granted == 0
    assert talk.tell(talk.b, wants=3).granted == 3


def test_a_start_without_a_grant_is_refused_and_one_that_is_told_again_is_not_counted_again() -> None:
    talk = Talk(count=1)
    assert "no run is granted" in talk.why_not(talk.a, start("r"))
    talk.begin(talk.a, "r")
    assert talk.tell(talk.a, starts=(start("r"),)).started == ("r",)
    assert talk.pool.kinds().count("started") == 1
    assert "all 1 runs have started" in talk.why_not(talk.b, start("s"))


def test_a_withdrawn_start_that_comes_late_is_not_counted() -> None:
    talk = Talk()
    late = told(talk.a, 2, wants=1, starts=(start("r"),))
    talk.tell(talk.a, wants=1)
    talk.number = 2
    talk.tell(talk.a, wants=1)
    answer = talk.pool.exchange(late)
    assert (answer.started, dict(answer.refused)) == ((), {})
    assert "started" not in talk.pool.kinds()


def test_an_exchange_that_comes_twice_starts_nothing_that_was_refused_the_first_time() -> None:
    talk = Talk()
    twice = told(talk.a, 1, wants=1, starts=(start("r"),))
    assert list(talk.pool.exchange(twice).refused) == ["r"]
    assert (talk.pool.exchange(twice).started, talk.pool.nodes[talk.a].granted) == ((), 1)


def test_an_older_exchange_does_not_make_others_new_again() -> None:
    talk = Talk()
    for number in (1, 5, 2):
        talk.pool.exchange(told(talk.a, number, wants=1))
    assert talk.pool.exchange(told(talk.a, 3, starts=(start("r"),))).started == ()


def test_an_end_that_is_of_no_attempt_or_of_another_one_than_is_on_changes_nothing() -> None:
    talk = Talk()
    talk.begin(talk.a, "r")
    talk.tell(talk.a, ends=(end("r", 1, Outcome.CRASHED, final=False),))
    again = end("r", 1, Outcome.CRASHED, final=False)
    talk.tell(talk.a, ends=(again, end("r", None, Outcome.CRASHED, final=False)))
    talk.tell(talk.a, starts=(start("r", 2),))
    talk.tell(talk.a, ends=(end("r", 1), end("r", 3), end("r", None), stopped("r", 1), again))
    assert talk.pool.kinds()[-3:] == ["started", "attempt_ended", "started"]


def test_an_end_in_an_older_exchange_counts() -> None:
    talk = Talk()
    talk.begin(talk.a, "r")
    talk.number += 1
    late = told(talk.a, talk.number, wants=0, ends=(end("r"),))
    talk.tell(talk.a)
    talk.pool.exchange(late)
    assert talk.pool.kinds()[-1] == "ended"


def test_what_an_older_exchange_wants_is_not_heeded() -> None:
    talk = Talk()
    talk.tell(talk.a, wants=0)
    talk.tell(talk.a, wants=1)
    assert talk.pool.exchange(told(talk.a, 1, wants=4)).granted == 1


def test_a_run_is_run_again_by_its_own_machine_as_its_next_attempt_only() -> None:
    talk = Talk()
    talk.begin(talk.a, "r")
    talk.tell(talk.a, ends=(end("r", 1, Outcome.CRASHED, final=False),))
    assert "2 is the next one" in talk.why_not(talk.a, start("r", 1))
    assert "2 is the next one" in talk.why_not(talk.a, start("r", 3))
    assert talk.why_not(talk.b, start("r", 2)) == "on elsewhere"
    assert talk.tell(talk.a, starts=(start("r", 2, deaths=1),)).started == ("r",)
    assert talk.tell(talk.a, ends=(end("r", 2),)).gone is False
    assert talk.why_not(talk.a, start("r", 3)) == "over: finished"
    assert talk.pool.kinds()[-4:] == ["started", "attempt_ended", "started", "ended"]


def test_an_end_counts_from_the_owner_and_once() -> None:
    talk = Talk()
    talk.begin(talk.a, "r")
    talk.tell(talk.b, ends=(end("r"),))
    assert "ended" not in talk.pool.kinds()
    for _ in range(2):
        talk.tell(talk.a, ends=(end("r"),))
    assert talk.pool.kinds().count("ended") == 1


def test_a_run_that_its_machine_stops_is_handed_on_with_what_was_before() -> None:
    talk = Talk()
    talk.begin(talk.a, "r")
    talk.tell(talk.a, ends=(end("r", 1, Outcome.CRASHED, final=False, duration_s=3.0),))
    talk.tell(talk.a, starts=(start("r", 2, deaths=1, spent_s=3.0),))
    talk.tell(talk.a, ends=(end("r", 2, Outcome.STOPPED, resumable=True, duration_s=4.0),))
    (again,) = talk.tell(talk.b, wants=1).again
    assert (again.run_id, again.attempt, again.deaths, again.spent_s) == ("r", 3, 1, 7.0)
    assert again.parameters == {"x": 1}
    assert talk.tell(talk.b, wants=1, starts=(start("r", 3),)).started == ("r",)


def test_runs_that_wait_are_handed_out_before_new_ones_are_granted() -> None:
    talk = Talk()
    talk.begin(talk.a, "r")
    talk.tell(talk.a, ends=(stopped("r"),))
    answer = talk.tell(talk.b, wants=2)
    assert ([run.run_id for run in answer.again], answer.granted) == (["r"], 1)
    assert talk.tell(talk.b, wants=2) == answer
    answer = talk.tell(talk.b, wants=0)
    assert (answer.again, answer.granted) == ((), 0)
    assert [run.run_id for run in talk.tell(talk.a, wants=1).again] == ["r"]


def test_a_machine_with_one_idle_worker_is_handed_one_run_whatever_else_it_wants() -> None:
    """Waiting runs and leases: the second one is for the next machine that is idle."""
    talk = Talk(count=9)
    for run in "rs":
        talk.begin(talk.a, run)
    talk.tell(talk.a, ends=(stopped("r"), stopped("s")))
    answer = talk.tell(talk.b, wants=5, wants_again=1)
    assert ([run.run_id for run in answer.again], answer.granted) == (["r"], 4)
    assert [run.run_id for run in talk.tell(talk.a, wants=1).again] == ["s"]


def test_where_the_sweep_gives_no_more_what_waits_is_handed_out_and_grants_that_are_held_stay() -> None:
    talk = Talk(count=9)
    talk.begin(talk.a, "r")
    talk.tell(talk.b, wants=1)
    talk.tell(talk.a, ends=(stopped("r"),))
    answer = talk.tell(talk.b, wants=1, wants_again=1, over="used up")
    assert ([run.run_id for run in answer.again], answer.granted) == (["r"], 1)
    answer = talk.tell(talk.b, wants=0, wants_again=1, over="used up")
    assert ([run.run_id for run in answer.again], answer.granted) == (["r"], 0)


def test_a_run_that_a_machine_was_handed_and_never_started_goes_to_others_as_the_same_attempt() -> None:
    talk = Talk()
    talk.begin(talk.a, "r")
    talk.tell(talk.a, ends=(stopped("r"),))
    assert "it waits" in talk.tell(talk.a, starts=(start("r", 2),)).refused[RunId("r")]
    assert [run.attempt for run in talk.tell(talk.b, wants=1).again] == [2]
    talk.tell(talk.b, wants=0, ends=(stopped("r", None),))
    assert [run.attempt for run in talk.tell(talk.b, wants=1).again] == [2]
    talk.tell(talk.b, wants=0)
    assert "it waits" in talk.tell(talk.a, starts=(start("r", 2),)).refused[RunId("r")]
    talk.tell(talk.b, wants=1)
    talk.pool.leave(talk.b, "told to go")
    assert [run.attempt for run in talk.tell(talk.a, wants=1).again] == [2]


def test_a_count_that_is_less_than_has_started_grants_nothing() -> None:
    talk = Talk(count=4)
    for run in "rst":
        talk.begin(talk.a, run)
    talk.pool.open(new_pool(count=2))
    assert talk.tell(talk.a, wants=1).granted == 3
    assert "all 2 runs have started" in talk.why_not(talk.a, start("u"))


def test_a_run_that_was_handed_and_not_started_may_end_where_it_is() -> None:
    talk = Talk()
    talk.begin(talk.a, "r")
    talk.tell(talk.a, ends=(stopped("r"),))
    talk.tell(talk.b, wants=1)
    for attempt in (1, 2):
        talk.tell(talk.b, wants=1, ends=(end("r", attempt),))
    assert "ended" not in talk.pool.kinds()
    talk.tell(talk.b, ends=(end("r", None, Outcome.CRASHED),))
    assert talk.pool.kinds()[-1] == "ended"


def test_a_worker_is_given_its_part_of_what_is_left() -> None:
    talk = Talk(count=16)
    assert talk.tell(talk.a).each == 2
    talk.tell(talk.a, wants=8)
    assert talk.tell(talk.b).each == 1


@pytest.mark.parametrize("speaks", [True, False])
def test_the_agents_of_a_supervisor_are_gone_with_its_last_epoch_that_has_spoken(speaks: bool) -> None:
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
