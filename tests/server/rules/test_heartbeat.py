"""What an agent is told at a heartbeat, and what becomes of its runs."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
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
TIMEOUTS = SilenceTimeouts()
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
TWICE = replace(NEW, deliveries=2)
STOPPED, UNWANTED = (replace(run, stop_requested=True) for run in (RUN, NEW))

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


@given(views, listings)
def test_no_agent_gets_a_second_run_or_one_too_many(view: HeartbeatState, listed: frozenset[str]) -> None:
    command = answer(view, listed, NOW, TIMEOUTS).command
    if any(run.name in listed for run in view.own):
        assert not isinstance(command, Issue | Deliver)
    if isinstance(command, Issue):
        assert view.sweep_state in (SweepState.RUNNING, SweepState.PENDING)
        assert not view.cap_reached
        assert view.waiting is None


@given(views, listings)
def test_an_exit_never_kills_what_the_agent_lists_unless_the_sweep_is_canceled_or_the_agent_gone(
    view: HeartbeatState, listed: frozenset[str]
) -> None:
    if isinstance(answer(view, listed, NOW, TIMEOUTS).command, Exit):
        assert view.sweep_state is SweepState.CANCELED or view.agent_gone or not listed


def agent(*own: OwnRun, **more: Any) -> HeartbeatState:
    """An agent with these runs."""
    return replace(IDLE, own=own, **more)


PAUSED, FINISHED, CANCELED = (
    {"sweep_state": state} for state in (SweepState.PAUSED, SweepState.FINISHED, SweepState.CANCELED)
)
CAPPED = {"cap_reached": True}
NOTHING = Answer(NoCommand())
NEXT = Answer(Issue())
LEAVE = Answer(Exit())


def next_after(event: RunEvent) -> Answer:
    """The next run is issued, after this has become of the agent's own."""
    return Answer(Issue(), (RunMove(1, event),))


KILLED = next_after(RunEvent.WENT_SILENT_BY_REQUEST)
LISTED = {
    "a busy agent gets nothing": (agent(RUN), NOTHING),
    "a stop is repeated for as long as the run is listed": (agent(STOPPED), Answer(Stop("r1"))),
    "a run that was given to another agent is stopped here": (agent(lost_runs=("r1",)), Answer(Stop("r1"))),
    "a cancelled sweep ends its agents": (agent(RUN, **CANCELED), LEAVE),
    "a finished sweep lets its runs finish": (agent(RUN, **FINISHED), NOTHING),
    "a program that has told its run's end may leave before its agent does": (agent(**FINISHED), NOTHING),
    "also at the cap": (agent(**CAPPED), NOTHING),
    "a supervised main that goes on after its run's end is left alone": (agent(supervised=True), NOTHING),
    "also after the sweep's end": (agent(supervised=True, **FINISHED), NOTHING),
}
WAITING, PREEMPTED = (WaitingRun(5, state) for state in (RunState.PENDING, RunState.PREEMPTED))
UNLISTED = {
    "an idle agent gets a new run": (0, IDLE, NEXT),
    "a waiting run goes before a new one": (0, agent(waiting=WAITING), Answer(Deliver(5))),
    "a preempted run is resumed": (0, agent(waiting=PREEMPTED), Answer(Deliver(5, resume=True))),
    "a run that never started is delivered once more": (0, agent(NEW), Answer(Deliver(1))),
    "after that it is given up": (0, agent(TWICE), next_after(RunEvent.GIVEN_UP)),
    "a supervised agent's is delivered until it arrives": (
        0,
        agent(TWICE, supervised=True),
        Answer(Deliver(1)),
    ),
    "a run that left its agent without a word may come back": (TIMEOUTS.left_s - 1, agent(RUN), NOTHING),
    "after a while it crashed": (TIMEOUTS.left_s, agent(RUN), next_after(RunEvent.WENT_SILENT)),
    "a run that was asked to stop has longer to unwind": (TIMEOUTS.left_s, agent(STOPPED), NOTHING),
    "though its agent forgot it": (59, agent(STOPPED), NOTHING),
    "after that it is over": (60, agent(STOPPED), KILLED),
    "a stopped program is over sooner": (10, agent(STOPPED, programs=True), KILLED),
    "a pending run that a user stopped is not delivered again": (
        59,
        agent(UNWANTED, supervised=True),
        NOTHING,
    ),
    "and ends after a while": (60, agent(UNWANTED, supervised=True), KILLED),
    "a released agent is told to exit": (0, agent(agent_gone=True), LEAVE),
    "a finished sweep sends agents away": (0, agent(**FINISHED), LEAVE),
    "also those of a supervisor": (0, agent(supervised=True, **FINISHED), LEAVE),
    "a paused sweep gives nothing and sends nobody away": (0, agent(**PAUSED), NOTHING),
    "not even what never started": (0, agent(NEW, **PAUSED), NOTHING),
    "at the cap agents wait for runs that may come back": (0, agent(may_requeue=True, **CAPPED), NOTHING),
    "without those the sweep is used up": (0, agent(**CAPPED), Answer(Exit(exhausted=True))),
}


@pytest.mark.parametrize(("state", "expected"), LISTED.values(), ids=LISTED)
def test_an_agent_that_lists_a_run(state: HeartbeatState, expected: Answer) -> None:
    assert answer(state, frozenset({"r1"}), NOW + 10, TIMEOUTS) == expected


@pytest.mark.parametrize(("later_s", "state", "expected"), UNLISTED.values(), ids=UNLISTED)
def test_an_agent_that_lists_none(later_s: float, state: HeartbeatState, expected: Answer) -> None:
    assert answer(state, frozenset(), NOW + later_s, TIMEOUTS) == expected


def test_where_the_method_has_no_more_runs_agents_leave_unless_one_is_on_or_may_come_back() -> None:
    assert exhausted(IDLE, frozenset()) == Exit(exhausted=True)
    assert exhausted(IDLE, frozenset({"r1"})) == NoCommand()
    assert exhausted(agent(may_requeue=True), frozenset()) == NoCommand()
