"""State transitions of runs and sweeps: client events are always legal, and ended runs stay ended."""

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
def test_a_repeated_event_changes_nothing(pair: tuple[RunState, RunEvent]) -> None:
    state, event = pair
    once = move(state, event)
    if (once, event) in MOVES:
        assert move(once, event) is once


@pytest.mark.parametrize("event", [RunEvent.STARTED, RunEvent.ACTIVITY, RunEvent.PREEMPTING, *ENDINGS])
@pytest.mark.parametrize("state", RunState)
def test_client_events_are_always_legal_and_endings_end_the_run(state: RunState, event: RunEvent) -> None:
    assert move(state, event) not in OPEN or event not in ENDINGS


R, E = RunState, RunEvent
LIVES = {
    "a crashed run with new activity is running": (R.CRASHED, E.ACTIVITY, R.RUNNING),
    "a crash of the owner marks a failed run as crashed": (R.FAILED, E.OWNER_CRASHED, R.CRASHED),
    "a crash of the owner keeps a finished run": (R.FINISHED, E.OWNER_CRASHED, R.FINISHED),
    "a preempting run that fails is preempted": (R.PREEMPTING, E.EXITED_BADLY, R.PREEMPTED),
    "a preempting run that goes silent is preempted": (R.PREEMPTING, E.WENT_SILENT, R.PREEMPTED),
    "a preempting run that exits well is finished": (R.PREEMPTING, E.EXITED_WELL, R.FINISHED),
}


@pytest.mark.parametrize(("state", "event", "becomes"), LIVES.values(), ids=LIVES)
def test_events_move_a_run_as_expected(state: RunState, event: RunEvent, becomes: RunState) -> None:
    assert move(state, event) is becomes


@pytest.mark.parametrize("event", [RunEvent.OWNER_KILLED, RunEvent.ACTIVITY])
@pytest.mark.parametrize("ended", [RunState.FINISHED, RunState.FAILED, RunState.KILLED])
def test_a_late_event_does_not_change_an_ended_run(ended: RunState, event: RunEvent) -> None:
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
def test_an_exit_code_is_mapped_to_the_ending_event(code: int, stop: bool, event: RunEvent) -> None:
    assert exit_event(code, stop_requested=stop) is event


@pytest.mark.parametrize("wish", ["RUNNING", "PAUSED", "FINISHED", "CANCELED"])
@pytest.mark.parametrize("state", [SweepState.PENDING, SweepState.RUNNING, SweepState.PAUSED])
def test_an_open_sweep_can_be_moved_to_any_requested_state(state: SweepState, wish: str) -> None:
    assert move_sweep(state, EVENTS_BY_STATE[wish]) == wish


@OVER
def test_an_ended_sweep_can_be_resumed_but_not_paused_or_joined(over: SweepState) -> None:
    assert move_sweep(over, SweepEvent.RUN) is SweepState.RUNNING
    for event in (SweepEvent.PAUSE, SweepEvent.AGENT_JOINED):
        with pytest.raises(IllegalSweepMoveError):
            move_sweep(over, event)


def test_the_first_agent_moves_a_sweep_to_running() -> None:
    assert move_sweep(SweepState.PENDING, SweepEvent.AGENT_JOINED) is SweepState.RUNNING
