"""A slot's states: the table of its moves has no dead end, and a missing move changes nothing."""

from __future__ import annotations

from itertools import product

import pytest

from parallel_hpo.core.types import SlotState
from parallel_hpo.session.decide.state import ALIVE, MOVES, TERMINAL, IllegalMove, Move, move


def reachable_from(state: SlotState) -> set[SlotState]:
    found = {state}
    while more := {after for (before, _), after in MOVES.items() if before in found} - found:
        found |= more
    return found


@pytest.mark.parametrize(("state", "what"), [pair for pair in product(SlotState, Move) if pair not in MOVES])
def test_a_missing_move_raises_with_a_readable_message(state: SlotState, what: Move) -> None:
    with pytest.raises(IllegalMove, match=f"a slot that is {state.value} can't {what.value}"):
        move(state, what)


def test_every_state_is_reachable_and_leads_to_a_terminal_state_without_exits() -> None:
    assert reachable_from(SlotState.STOPPED) == set(SlotState)
    assert {SlotState.EXITED, SlotState.FATAL} == TERMINAL
    for state in SlotState:
        assert reachable_from(state) & TERMINAL
    assert all(after is state for (state, _), after in MOVES.items() if state in TERMINAL)


def test_a_process_lives_exactly_between_its_spawn_and_its_death() -> None:
    entered = {after for (_, what), after in MOVES.items() if what is Move.SPAWN}
    assert {state for state, what in MOVES if what is Move.DIED} == ALIVE
    assert entered <= ALIVE
    assert not ALIVE & (TERMINAL | {state for state, what in MOVES if what is Move.SPAWN})


@pytest.mark.parametrize("state", SlotState)
def test_every_slot_can_be_asked_to_leave(state: SlotState) -> None:
    assert move(state, Move.LEAVE) in {SlotState.STOPPING, *TERMINAL}
