from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from parallel_hpo.server.rules.heartbeat import (
    Answer,
    Deliver,
    Exit,
    HeartbeatState,
    Issue,
    NoCommand,
    OwnRun,
    RunMove,
    SilenceTimeouts,
    Stop,
    WaitingRun,
    answer,
    exhausted,
)
from parallel_hpo.server.rules.runs import OPEN, RunEvent, RunState
from parallel_hpo.server.rules.sweeps import SweepState

NOW = 1000.0
PATIENCE = SilenceTimeouts()
IDLE = HeartbeatState(
    sweep_state=SweepState.RUNNING,
    agent_gone=False,
    own=(),
    lost_runs=(),
    waiting=None,
    may_requeue=False,
    cap_reached=False,
)
RUN = OwnRun(1, "r1", RunState.RUNNING, deliveries=1, stop_requested=False, heard_at=NOW)
NEW = replace(RUN, state=RunState.PENDING)

own_runs = st.builds(
    OwnRun,
    run_id=st.integers(1, 3),
    name=st.sampled_from(["r1", "r2", "r3"]),
    state=st.sampled_from(sorted(OPEN)),
    deliveries=st.integers(1, 3),
    stop_requested=st.booleans(),
    heard_at=st.floats(0, NOW),
)
views = st.builds(
    HeartbeatState,
    sweep_state=st.sampled_from(SweepState),
    agent_gone=st.booleans(),
    own=st.lists(own_runs, max_size=2).map(tuple),
    lost_runs=st.lists(st.just("r9"), max_size=1).map(tuple),
    waiting=st.none() | st.builds(WaitingRun, st.just(5), st.sampled_from(RunState)),
    may_requeue=st.booleans(),
    cap_reached=st.booleans(),
)
listings = st.frozensets(st.sampled_from(["r1", "r2", "r3"]))


def decide(view: HeartbeatState, *listed: str, now: float = NOW) -> Answer:
    return answer(view, frozenset(listed), now, PATIENCE)


@given(views, listings)
def test_no_agent_gets_a_second_run_while_it_lists_one_of_its_own(
    view: HeartbeatState, listed: frozenset[str]
) -> None:
    command = answer(view, listed, NOW, PATIENCE).command
    if any(run.name in listed for run in view.own):
        assert not isinstance(command, Issue | Deliver)


@given(views, listings)
def test_a_new_run_is_issued_only_by_a_running_sweep_below_its_cap(
    view: HeartbeatState, listed: frozenset[str]
) -> None:
    if isinstance(answer(view, listed, NOW, PATIENCE).command, Issue):
        assert view.sweep_state in (SweepState.RUNNING, SweepState.PENDING)
        assert not view.cap_reached
        assert view.waiting is None


@given(views, listings)
def test_an_exit_never_kills_what_the_agent_lists_unless_the_sweep_is_canceled_or_the_agent_gone(
    view: HeartbeatState, listed: frozenset[str]
) -> None:
    if isinstance(answer(view, listed, NOW, PATIENCE).command, Exit):
        over = view.sweep_state is SweepState.CANCELED or view.agent_gone
        assert over or not listed


def test_an_idle_agent_gets_a_new_run() -> None:
    assert decide(IDLE) == Answer(Issue())


def test_a_waiting_run_goes_before_a_new_one() -> None:
    waiting = WaitingRun(5, RunState.PENDING)
    assert decide(replace(IDLE, waiting=waiting)) == Answer(Deliver(5))


def test_a_preempted_run_is_resumed() -> None:
    waiting = WaitingRun(5, RunState.PREEMPTED)
    assert decide(replace(IDLE, waiting=waiting)) == Answer(Deliver(5, resume=True))


def test_a_busy_agent_gets_nothing() -> None:
    assert decide(replace(IDLE, own=(RUN,)), "r1") == Answer(NoCommand())


def test_a_stopped_function_may_unwind_for_a_while_after_its_agent_forgot_it() -> None:
    view = replace(IDLE, own=(replace(RUN, stop_requested=True),))
    assert decide(view, now=NOW + 59) == Answer(NoCommand())
    killed = Answer(Issue(), (RunMove(1, RunEvent.WENT_SILENT_BY_REQUEST),))
    assert decide(view, now=NOW + 60) == killed


def test_a_stopped_program_that_its_agent_no_longer_lists_is_over_soon() -> None:
    view = replace(IDLE, own=(replace(RUN, stop_requested=True),), programs=True)
    assert decide(view, "r1", now=NOW + 10).command == Stop("r1")
    killed = Answer(Issue(), (RunMove(1, RunEvent.WENT_SILENT_BY_REQUEST),))
    assert decide(view, now=NOW + 10) == killed


def test_a_run_that_never_started_is_delivered_once_more() -> None:
    assert decide(replace(IDLE, own=(NEW,))) == Answer(Deliver(1))


def test_a_run_that_never_started_twice_is_given_up_and_the_next_one_issued() -> None:
    twice = replace(NEW, deliveries=2)
    assert decide(replace(IDLE, own=(twice,))) == Answer(Issue(), (RunMove(1, RunEvent.GIVEN_UP),))


def test_a_run_that_left_its_agent_without_a_word_crashed_after_a_while() -> None:
    view = replace(IDLE, own=(RUN,))
    assert decide(view, now=NOW + PATIENCE.left_s - 1) == Answer(NoCommand())
    crashed = Answer(Issue(), (RunMove(1, RunEvent.WENT_SILENT),))
    assert decide(view, now=NOW + PATIENCE.left_s) == crashed


def test_a_run_that_was_asked_to_stop_has_longer_to_unwind() -> None:
    view = replace(IDLE, own=(replace(RUN, stop_requested=True),))
    assert decide(view, now=NOW + PATIENCE.left_s) == Answer(NoCommand())


def test_a_stop_is_repeated_for_as_long_as_the_run_is_listed() -> None:
    view = replace(IDLE, own=(replace(RUN, stop_requested=True),))
    assert decide(view, "r1") == Answer(Stop("r1"))


def test_a_run_that_was_given_to_another_agent_is_stopped_here() -> None:
    assert decide(replace(IDLE, lost_runs=("r7",)), "r7") == Answer(Stop("r7"))


def test_agents_of_a_canceled_sweep_and_released_agents_are_told_to_exit() -> None:
    assert decide(replace(IDLE, sweep_state=SweepState.CANCELED, own=(RUN,)), "r1") == Answer(Exit())
    assert decide(replace(IDLE, agent_gone=True)) == Answer(Exit())


def test_a_finished_sweep_lets_its_runs_finish_and_then_sends_agents_away() -> None:
    over = replace(IDLE, sweep_state=SweepState.FINISHED)
    assert decide(replace(over, own=(RUN,)), "r1") == Answer(NoCommand())
    assert decide(over) == Answer(Exit())


def test_a_paused_sweep_gives_nothing_and_sends_nobody_away() -> None:
    paused = replace(IDLE, sweep_state=SweepState.PAUSED)
    assert decide(paused) == Answer(NoCommand())
    assert decide(replace(paused, own=(NEW,))) == Answer(NoCommand())


def test_at_the_cap_agents_wait_for_runs_that_may_come_back() -> None:
    capped = replace(IDLE, cap_reached=True)
    assert decide(replace(capped, may_requeue=True)) == Answer(NoCommand())
    assert decide(capped) == Answer(Exit(exhausted=True))
    assert exhausted(replace(IDLE, may_requeue=True), frozenset()) == NoCommand()


def test_a_program_that_has_told_its_runs_end_may_leave_before_its_agent_does() -> None:
    capped = replace(IDLE, cap_reached=True)
    assert decide(capped, "r1") == Answer(NoCommand())
    assert decide(replace(IDLE, sweep_state=SweepState.FINISHED), "r1") == Answer(NoCommand())
    assert exhausted(IDLE, frozenset({"r1"})) == NoCommand()
    assert exhausted(IDLE, frozenset()) == Exit(exhausted=True)


def test_a_supervised_agents_run_is_delivered_until_it_arrives() -> None:
    lost = replace(NEW, deliveries=7)
    view = replace(IDLE, own=(lost,), supervised=True)
    assert answer(view, frozenset(), NOW, PATIENCE) == Answer(Deliver(lost.run_id))


def test_a_supervised_agent_whose_main_goes_on_after_its_runs_end_is_left_alone() -> None:
    working = replace(IDLE, supervised=True, sweep_state=SweepState.FINISHED)
    assert answer(working, frozenset({"r1"}), NOW, PATIENCE) == Answer(NoCommand())
    issuing = replace(working, sweep_state=SweepState.RUNNING)
    assert answer(issuing, frozenset({"r1"}), NOW, PATIENCE) == Answer(NoCommand())
    assert answer(working, frozenset(), NOW, PATIENCE) == Answer(Exit())


def test_a_pending_run_that_a_user_stopped_is_not_delivered_again_and_ends_after_a_while() -> None:
    view = replace(IDLE, own=(replace(NEW, stop_requested=True),), supervised=True)
    assert decide(view, now=NOW + 59) == Answer(NoCommand())
    killed = Answer(Issue(), (RunMove(1, RunEvent.WENT_SILENT_BY_REQUEST),))
    assert decide(view, now=NOW + 60) == killed
