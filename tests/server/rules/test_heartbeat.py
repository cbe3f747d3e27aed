"""The answer to an agent's heartbeat, and the moves of its runs."""

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
def test_no_agent_gets_two_runs_or_one_beyond_the_cap(view: HeartbeatState, listed: frozenset[str]) -> None:
    command = answer(view, listed, NOW, TIMEOUTS).command
    if any(run.name in listed for run in view.own):
        assert not isinstance(command, Issue | Deliver)
    if isinstance(command, Issue):
        assert view.sweep_state in (SweepState.RUNNING, SweepState.PENDING)
        assert not view.cap_reached
        assert view.waiting is None


@given(views, listings)
def test_an_agent_with_listed_runs_exits_only_if_the_sweep_is_canceled_or_the_agent_is_gone(
    view: HeartbeatState, listed: frozenset[str]
) -> None:
    if isinstance(answer(view, listed, NOW, TIMEOUTS).command, Exit):
        assert view.sweep_state is SweepState.CANCELED or view.agent_gone or not listed


def agent(*own: OwnRun, **more: Any) -> HeartbeatState:
    """Return the state of an agent with these runs."""
    return replace(IDLE, own=own, **more)


PAUSED, FINISHED, CANCELED = (
    {"sweep_state": state} for state in (SweepState.PAUSED, SweepState.FINISHED, SweepState.CANCELED)
)
CAPPED = {"cap_reached": True}
NOTHING = Answer(NoCommand())
NEXT = Answer(Issue())
LEAVE = Answer(Exit())


def next_after(event: RunEvent) -> Answer:
    """Return an answer that issues the next run after this event of the agent's own run."""
    return Answer(Issue(), (RunMove(1, event),))


KILLED = next_after(RunEvent.WENT_SILENT_BY_REQUEST)
LISTED = {
    "a busy agent gets no command": (agent(RUN), NOTHING),
    "a stop is repeated for as long as the run is listed": (agent(STOPPED), Answer(Stop("r1"))),
    "a run that was reassigned to another agent is stopped": (agent(lost_runs=("r1",)), Answer(Stop("r1"))),
    "a cancelled sweep ends its agents": (agent(RUN, **CANCELED), LEAVE),
    "a finished sweep lets its runs finish": (agent(RUN, **FINISHED), NOTHING),
    "a program may exit after its run's end in a finished sweep": (agent(**FINISHED), NOTHING),
    "a program may exit after its run's end at the run cap": (agent(**CAPPED), NOTHING),
    "a supervised main may continue after its run's end": (agent(supervised=True), NOTHING),
    "a supervised main may continue after the sweep's end": (agent(supervised=True, **FINISHED), NOTHING),
}
WAITING, PREEMPTED = (WaitingRun(5, state) for state in (RunState.PENDING, RunState.PREEMPTED))
UNLISTED = {
    "an idle agent gets a new run": (0, IDLE, NEXT),
    "a waiting run goes before a new one": (0, agent(waiting=WAITING), Answer(Deliver(5))),
    "a preempted run is resumed": (0, agent(waiting=PREEMPTED), Answer(Deliver(5, resume=True))),
    "a run that never started is delivered again once": (0, agent(NEW), Answer(Deliver(1))),
    "a run that was delivered twice is given up": (0, agent(TWICE), next_after(RunEvent.GIVEN_UP)),
    "a supervised agent's run is delivered until it starts": (
        0,
        agent(TWICE, supervised=True),
        Answer(Deliver(1)),
    ),
    "a run that its agent no longer lists may come back": (TIMEOUTS.left_s - 1, agent(RUN), NOTHING),
    "an unlisted run crashes in the end": (TIMEOUTS.left_s, agent(RUN), next_after(RunEvent.WENT_SILENT)),
    "a stopped run gets more time to finish": (TIMEOUTS.left_s, agent(STOPPED), NOTHING),
    "a stopped run gets 60 s": (59, agent(STOPPED), NOTHING),
    "a stopped run is killed after 60 s": (60, agent(STOPPED), KILLED),
    "a stopped program is killed after 10 s": (10, agent(STOPPED, programs=True), KILLED),
    "a pending run that a user stopped is not delivered again": (
        59,
        agent(UNWANTED, supervised=True),
        NOTHING,
    ),
    "a stopped pending run is killed after 60 s": (60, agent(UNWANTED, supervised=True), KILLED),
    "a released agent is told to exit": (0, agent(agent_gone=True), LEAVE),
    "an idle agent exits a finished sweep": (0, agent(**FINISHED), LEAVE),
    "an idle supervised agent exits a finished sweep": (0, agent(supervised=True, **FINISHED), LEAVE),
    "a paused sweep issues no run and keeps its agents": (0, agent(**PAUSED), NOTHING),
    "a paused sweep delivers no run again": (0, agent(NEW, **PAUSED), NOTHING),
    "at the cap agents wait for runs that may come back": (0, agent(may_requeue=True, **CAPPED), NOTHING),
    "at the cap the sweep is exhausted without such runs": (0, agent(**CAPPED), Answer(Exit(exhausted=True))),
}


@pytest.mark.parametrize(("state", "expected"), LISTED.values(), ids=LISTED)
def test_the_answer_to_an_agent_with_a_run(state: HeartbeatState, expected: Answer) -> None:
    assert answer(state, frozenset({"r1"}), NOW + 10, TIMEOUTS) == expected


@pytest.mark.parametrize(("later_s", "state", "expected"), UNLISTED.values(), ids=UNLISTED)
def test_the_answer_to_an_agent_with_no_run(later_s: float, state: HeartbeatState, expected: Answer) -> None:
    assert answer(state, frozenset(), NOW + later_s, TIMEOUTS) == expected


def test_agents_exit_an_exhausted_sweep_unless_a_run_is_active_or_may_be_requeued() -> None:
    assert exhausted(IDLE, frozenset()) == Exit(exhausted=True)
    assert exhausted(IDLE, frozenset({"r1"})) == NoCommand()
    assert exhausted(agent(may_requeue=True), frozenset()) == NoCommand()
