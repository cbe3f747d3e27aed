from __future__ import annotations

import pytest

from parallel_hpo.server.rules.sweeps import (
    EVENTS_BY_STATE,
    IllegalSweepMoveError,
    SweepEvent,
    SweepState,
    move,
)


@pytest.mark.parametrize("wish", ["RUNNING", "PAUSED", "FINISHED", "CANCELED"])
@pytest.mark.parametrize("state", [SweepState.PENDING, SweepState.RUNNING, SweepState.PAUSED])
def test_a_sweep_that_is_not_over_becomes_what_is_wished(state: SweepState, wish: str) -> None:
    assert move(state, EVENTS_BY_STATE[wish]) == wish


@pytest.mark.parametrize("state", [SweepState.FINISHED, SweepState.CANCELED])
def test_a_sweep_that_is_over_may_be_run_again_but_not_paused(state: SweepState) -> None:
    assert move(state, SweepEvent.RUN) is SweepState.RUNNING
    with pytest.raises(IllegalSweepMoveError):
        move(state, SweepEvent.PAUSE)


@pytest.mark.parametrize("state", [SweepState.FINISHED, SweepState.CANCELED])
def test_no_agent_joins_a_sweep_that_is_over(state: SweepState) -> None:
    with pytest.raises(IllegalSweepMoveError):
        move(state, SweepEvent.AGENT_JOINED)


def test_the_first_agent_sets_a_sweep_running() -> None:
    assert move(SweepState.PENDING, SweepEvent.AGENT_JOINED) is SweepState.RUNNING
