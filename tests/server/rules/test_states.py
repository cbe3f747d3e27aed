"""The moves of runs and sweeps: what clients say is never illegal, and what is over is over."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from parallel_hpo.server.rules.runs import (
    MOVES,
    OPEN,
    IllegalRunMoveError,
    RunEvent,
    RunState,
    exit_event,
    move,
)
from parallel_hpo.server.rules.sweeps import EVENTS_BY_STATE, IllegalSweepMoveError, SweepEvent, SweepState
from parallel_hpo.server.rules.sweeps import move as move_sweep

ENDINGS = (RunEvent.EXITED_WELL, RunEvent.EXITED_BADLY, RunEvent.EXITED_BY_REQUEST)
OVER = pytest.mark.parametrize("over", [SweepState.FINISHED, SweepState.CANCELED])


@given(st.sampled_from(sorted(MOVES, key=str)))
def test_a_repeated_message_changes_nothing_more(pair: tuple[RunState, RunEvent]) -> None:
    state, event = pair
    once = move(state, event)
    if (once, event) in MOVES:
        assert move(once, event) is once


@pytest.mark.parametrize("event", [RunEvent.STARTED, RunEvent.ACTIVITY, RunEvent.PREEMPTING, *ENDINGS])
@pytest.mark.parametrize("state", RunState)
def test_what_a_client_says_is_never_illegal_and_an_ending_ends(state: RunState, event: RunEvent) -> None:
    assert move(state, event) not in OPEN or event not in ENDINGS


R, E = RunState, RunEvent
LIVES = {
    "a crashed run that speaks again is running": (R.CRASHED, E.ACTIVITY, R.RUNNING),
    "unsent data that came later saves no run from having crashed": (R.FAILED, E.OWNER_CRASHED, R.CRASHED),
    "nor does it unmake an end": (R.FINISHED, E.OWNER_CRASHED, R.FINISHED),
    "a preempting run that leaves with an error was preempted": (R.PREEMPTING, E.EXITED_BADLY, R.PREEMPTED),
    "so was one that falls silent": (R.PREEMPTING, E.WENT_SILENT, R.PREEMPTED),
    "and one that leaves well has finished": (R.PREEMPTING, E.EXITED_WELL, R.FINISHED),
}


@pytest.mark.parametrize(("state", "event", "becomes"), LIVES.values(), ids=LIVES)
def test_what_becomes_of_a_run(state: RunState, event: RunEvent, becomes: RunState) -> None:
    assert move(state, event) is becomes


@pytest.mark.parametrize("event", [RunEvent.OWNER_KILLED, RunEvent.ACTIVITY])
@pytest.mark.parametrize("ended", [RunState.FINISHED, RunState.FAILED, RunState.KILLED])
def test_an_owner_does_not_overrule_the_runs_own_word(ended: RunState, event: RunEvent) -> None:
    assert move(ended, event) is ended


def test_an_unlisted_move_is_refused_by_name() -> None:
    with pytest.raises(IllegalRunMoveError, match="finished can't be given_up"):
        move(RunState.FINISHED, RunEvent.GIVEN_UP)


@pytest.mark.parametrize(
    ("code", "stop", "event"),
    [
        (0, False, RunEvent.EXITED_WELL),
        (0, True, RunEvent.EXITED_WELL),
        (1, False, RunEvent.EXITED_BADLY),
        (1, True, RunEvent.EXITED_BY_REQUEST),
        (255, False, RunEvent.EXITED_BY_REQUEST),
        (-9, False, RunEvent.EXITED_BADLY),
    ],
)
def test_an_exit_code_says_how_a_run_ended(code: int, stop: bool, event: RunEvent) -> None:
    assert exit_event(code, stop_requested=stop) is event


@pytest.mark.parametrize("wish", ["RUNNING", "PAUSED", "FINISHED", "CANCELED"])
@pytest.mark.parametrize("state", [SweepState.PENDING, SweepState.RUNNING, SweepState.PAUSED])
def test_a_sweep_that_is_not_over_becomes_what_is_wished(state: SweepState, wish: str) -> None:
    assert move_sweep(state, EVENTS_BY_STATE[wish]) == wish


@OVER
def test_a_sweep_that_is_over_may_be_run_again_but_not_paused_or_joined(over: SweepState) -> None:
    assert move_sweep(over, SweepEvent.RUN) is SweepState.RUNNING
    for event in (SweepEvent.PAUSE, SweepEvent.AGENT_JOINED):
        with pytest.raises(IllegalSweepMoveError):
            move_sweep(over, event)


def test_the_first_agent_sets_a_sweep_running() -> None:
    assert move_sweep(SweepState.PENDING, SweepEvent.AGENT_JOINED) is SweepState.RUNNING
