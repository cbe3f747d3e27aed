"""When machines are gone, and when all of them are to leave, one thing at a time."""

from __future__ import annotations

from dataclasses import replace

from parallel_hpo.core.errors import ExitCode
from parallel_hpo.core.messages import SweepEnd
from parallel_hpo.core.pool_messages import Exchange, Granted, NodeLost
from parallel_hpo.core.types import Outcome, RunId, StopKind
from parallel_hpo.count.rules import WITHOUT_END
from parallel_hpo.count.state import Moment
from tests.server.pool_in_memory import PoolInMemory, Talk
from tests.server.pooling import TIMEOUT_S, end, machine, new_pool, start, stopped, told


def test_a_stop_that_comes_after_the_end_changes_nothing() -> None:
    talk = Talk(count=1)
    ends = talk.perform(talk.a, "r").ends
    talk.pool.stop(SweepEnd("Ctrl-C", 130, StopKind.KILL))
    assert talk.tell(talk.a).ends == ends
    assert talk.pool.kinds().count("complete") == 1


def test_what_would_end_a_sweep_that_ends_already_changes_nothing() -> None:
    talk = Talk(section={"failures": {"max_initial": 1}, "sweep_timeout_s": 5.0})
    for run in "rs":
        talk.begin(talk.a, run)
    talk.pool.stop(SweepEnd("Ctrl-C", 130, StopKind.DRAIN))
    talk.tell(talk.a, ends=(end("r", outcome=Outcome.FAILED),))
    talk.pool.clock.now += 5
    assert talk.tell(talk.a).ends == SweepEnd("Ctrl-C", 130, StopKind.DRAIN)
    assert talk.pool.kinds().count("stopped") == 1


def test_a_machine_that_is_silent_for_its_lease_is_gone_and_its_runs_go_on_elsewhere() -> None:
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


def test_silence_is_counted_from_the_servers_start_and_its_clocks_last_setting_at_the_earliest() -> None:
    assert Moment(now=100.0).silent_s(30.0) == 70.0
    assert Moment(now=100.0, fair_from=90.0).silent_s(30.0) == 10.0
    assert Moment(now=100.0, fair_from=90.0).silent_s(5000.0) == 10.0
    assert Moment(now=100.0, fair_from=5000.0).silent_s(30.0) == 0.0


def test_only_an_engines_proof_takes_a_machine_for_gone() -> None:
    talk = Talk()
    talk.pool.lose(NodeLost("a", returned=False))
    talk.pool.lose(NodeLost("a", returned=True, epoch=talk.b))
    talk.pool.lose(NodeLost("other", returned=True))
    assert not talk.tell(talk.a).gone
    talk.pool.lose(NodeLost("a", returned=True, epoch=talk.a))
    assert talk.tell(talk.a).gone
    assert not talk.tell(talk.b).gone


def test_a_machine_that_leaves_gives_back_what_it_has() -> None:
    talk = Talk(count=2)
    talk.begin(talk.a, "r")
    talk.tell(talk.a, wants=1)
    talk.pool.leave(talk.a, "told to go")
    talk.pool.leave(talk.a, "told to go")
    answer = talk.tell(talk.b, wants=2)
    assert ([run.attempt for run in answer.again], answer.granted) == ([2], 1)
    assert talk.pool.kinds().count("left") == 1


def test_machines_of_one_name_are_told_apart() -> None:
    talk = Talk()
    for _ in range(2):
        talk.pool.join(machine("a"))
    assert [node.name for node in talk.pool.nodes.values()] == ["a", "b", "a-2", "a-3"]
    talk.pool.leave(talk.a, "done")
    talk.pool.join(machine("a"))
    assert talk.pool.nodes[5].name == "a"


def test_a_sweep_is_complete_once_all_have_ended() -> None:
    talk = Talk(count=2)
    talk.begin(talk.b, "s")
    assert talk.perform(talk.a, "r").ends is None
    answer = talk.tell(talk.b, ends=(end("s"),))
    assert answer.ends == SweepEnd("all 2 runs performed", ExitCode.COMPLETE)
    assert talk.tell(talk.a, wants=2).ends == answer.ends
    assert talk.pool.kinds()[-1] == "complete"


def test_a_sweep_that_is_opened_again_with_nothing_to_do_is_complete_at_once() -> None:
    talk = Talk(count=1)
    talk.perform(talk.a, "r")
    talk.pool.open(new_pool(count=1))
    assert talk.pool.look() == SweepEnd("all 1 runs performed", ExitCode.COMPLETE)
    assert talk.pool.kinds()[-2:] == ["opened", "complete"]


def test_a_sweep_of_which_no_run_finished_says_so_by_its_code() -> None:
    talk = Talk(count=1)
    assert talk.perform(talk.a, "r", Outcome.STOPPED).ends == SweepEnd(
        "all 1 runs performed", ExitCode.NO_RUN_FINISHED
    )


def test_an_exhausted_sweep_grants_nothing_new_and_is_complete_once_no_grant_is_held() -> None:
    talk = Talk(count=None)
    assert talk.tell(talk.a, wants=3).each == WITHOUT_END
    talk.tell(talk.b, wants=2)
    answer = talk.tell(talk.a, wants=0, over="the grid is used up")
    assert (answer.granted, answer.ends) == (0, None)
    assert talk.tell(talk.a, wants=3).granted == 0
    assert talk.tell(talk.b, wants=2).granted == 2
    assert talk.tell(talk.b, wants=0).ends == SweepEnd("the grid is used up", ExitCode.COMPLETE)


def test_failures_are_counted_over_all_machines_and_end_the_sweep() -> None:
    talk = Talk(count=9, section={"failures": {"max_initial": None, "max_total": 2}})
    assert talk.perform(talk.a, "r", Outcome.FAILED).ends is None
    talk.tell(talk.a, wants=3)
    ends = talk.perform(talk.b, "s", Outcome.FAILED).ends
    assert ends is not None
    assert (ends.exit_code, ends.stop) == (ExitCode.FAILURE_POLICY, StopKind.INTERRUPT)
    answer = talk.tell(talk.a, wants=3, starts=(start("t"),))
    assert answer.granted == 1
    assert "the sweep ends" in answer.refused[RunId("t")]


def test_a_sweep_that_has_had_its_time_is_interrupted_as_on_one_machine() -> None:
    talk = Talk(section={"sweep_timeout_s": 10.0})
    talk.pool.clock.now += 9.9
    assert talk.tell(talk.a).ends is None
    talk.pool.clock.now += 0.1
    assert talk.tell(talk.a).ends == SweepEnd(
        "sweep timeout 10 s", ExitCode.SWEEP_TIMEOUT, StopKind.INTERRUPT
    )


def test_the_time_of_a_sweep_without_a_head_begins_with_its_first_machine() -> None:
    pool = PoolInMemory()
    pool.open(new_pool(section={"sweep_timeout_s": 10.0}))
    pool.clock.now += 60.0
    epoch = pool.join(machine("a")) or 0
    pool.clock.now += 9.9
    assert pool.exchange(told(epoch, 1)).ends is None
    pool.join(machine("b"))
    pool.clock.now += 0.1
    ends = pool.exchange(told(epoch, 2)).ends
    assert ends is not None and ends.exit_code == ExitCode.SWEEP_TIMEOUT


def test_a_sweep_whose_head_is_not_heard_is_interrupted() -> None:
    talk = Talk(has_coordinator=True)
    talk.wait(TIMEOUT_S - 1, heard=talk.a)
    talk.pool.hear_head()
    talk.wait(TIMEOUT_S - 1, heard=talk.a)
    assert talk.tell(talk.a).ends is None
    talk.wait(1, heard=talk.a)
    ends = talk.tell(talk.a).ends
    assert ends == SweepEnd("the sweep's coordinator is gone", ExitCode.RESUMABLE, StopKind.INTERRUPT)


def test_a_stop_gives_way_to_a_stronger_one_only() -> None:
    talk = Talk()
    asked = (StopKind.INTERRUPT, StopKind.DRAIN, StopKind.PREEMPT, StopKind.KILL, StopKind.INTERRUPT)
    for stop in asked:
        talk.pool.stop(SweepEnd(f"asked to {stop}", 130, stop))
    assert talk.tell(talk.a).ends == SweepEnd("asked to kill", 130, StopKind.KILL)
    assert talk.pool.kinds().count("stopped") == 2


def test_while_a_sweep_stops_nothing_starts_and_runs_that_are_stopped_wait_for_its_next_opening() -> None:
    talk = Talk(count=2)
    talk.begin(talk.a, "r")
    talk.begin(talk.b, "s")
    talk.tell(talk.b, ends=(stopped("s"),))
    talk.tell(talk.b, wants=1)
    talk.pool.stop(SweepEnd("Ctrl-C", 130, StopKind.INTERRUPT))
    assert "the sweep ends" in talk.why_not(talk.b, start("s", 2))
    talk.tell(talk.a, ends=(stopped("r"),))
    assert talk.tell(talk.b, wants=2).again == ()
    talk.pool.open(new_pool(count=3))
    answer = talk.tell(talk.b, wants=3)
    assert ([run.run_id for run in answer.again], answer.granted, answer.ends) == (["r", "s"], 2, None)


def test_a_supervisor_that_joins_anew_names_the_epoch_that_is_over() -> None:
    talk = Talk(count=1)
    talk.begin(talk.a, "r")
    assert isinstance(talk.pool.exchange(Exchange(talk.a, 100, 0)), Granted)
    epoch = talk.pool.join(replace(machine("a"), previous=talk.a)) or 0
    talk.number = 0
    assert [run.run_id for run in talk.tell(epoch, wants=1).again] == ["r"]
    assert talk.pool.nodes[epoch].name == "a"
