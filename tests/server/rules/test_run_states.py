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

ENDINGS = (RunEvent.EXITED_WELL, RunEvent.EXITED_BADLY, RunEvent.EXITED_BY_REQUEST)


@given(st.sampled_from(sorted(MOVES, key=str)))
def test_a_repeated_message_changes_nothing_more(pair: tuple[RunState, RunEvent]) -> None:
    state, event = pair
    once = move(state, event)
    if (once, event) in MOVES:
        assert move(once, event) is once


@pytest.mark.parametrize("event", [RunEvent.STARTED, RunEvent.ACTIVITY, RunEvent.PREEMPTING, *ENDINGS])
@pytest.mark.parametrize("state", RunState)
def test_what_a_client_says_is_never_illegal(state: RunState, event: RunEvent) -> None:
    move(state, event)


@pytest.mark.parametrize("event", ENDINGS)
@pytest.mark.parametrize("state", RunState)
def test_an_ending_ends(state: RunState, event: RunEvent) -> None:
    assert move(state, event) not in OPEN


def test_a_crashed_run_that_speaks_again_is_running() -> None:
    assert move(RunState.CRASHED, RunEvent.ACTIVITY) is RunState.RUNNING


@pytest.mark.parametrize("ended", [RunState.FINISHED, RunState.FAILED, RunState.KILLED])
def test_an_owner_does_not_overrule_the_runs_own_word(ended: RunState) -> None:
    assert move(ended, RunEvent.OWNER_KILLED) is ended
    assert move(ended, RunEvent.ACTIVITY) is ended


def test_a_run_whose_unsent_data_came_later_has_crashed_all_the_same() -> None:
    assert move(RunState.FAILED, RunEvent.OWNER_CRASHED) is RunState.CRASHED
    assert move(RunState.FINISHED, RunEvent.OWNER_CRASHED) is RunState.FINISHED


def test_a_preempting_run_that_leaves_with_an_error_was_preempted() -> None:
    assert move(RunState.PREEMPTING, RunEvent.EXITED_BADLY) is RunState.PREEMPTED
    assert move(RunState.PREEMPTING, RunEvent.WENT_SILENT) is RunState.PREEMPTED
    assert move(RunState.PREEMPTING, RunEvent.EXITED_WELL) is RunState.FINISHED


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
