from __future__ import annotations

from itertools import product

import pytest

from parallel_hpo.core.types import SlotState
from parallel_hpo.session.decide.state import ALIVE, MOVES, TERMINAL, IllegalMove, Move, move

MISSING = [pair for pair in product(SlotState, Move) if pair not in MOVES]


@pytest.mark.parametrize(("pair", "after"), MOVES.items())
def test_a_listed_move_leads_where_the_table_says(pair: tuple[SlotState, Move], after: SlotState) -> None:
    assert move(*pair) is after


@pytest.mark.parametrize(("state", "what"), MISSING)
def test_a_missing_pair_raises_in_words_and_changes_nothing(state: SlotState, what: Move) -> None:
    before = dict(MOVES)
    with pytest.raises(IllegalMove, match=f"a slot that is {state.value} can't {what.value}"):
        move(state, what)
    assert before == MOVES


def test_the_terminal_states_are_those_without_a_way_out() -> None:
    assert {SlotState.EXITED, SlotState.FATAL} == TERMINAL
    assert all(after is state for (state, _), after in MOVES.items() if state in TERMINAL)


def test_every_other_state_has_a_way_to_a_terminal_one() -> None:
    for state in SlotState:
        assert reachable_from(state) & TERMINAL


def test_every_state_is_reachable_from_the_first() -> None:
    assert reachable_from(SlotState.STOPPED) == set(SlotState)


def test_a_process_lives_exactly_between_its_spawn_and_its_death() -> None:
    entered = {after for (_, what), after in MOVES.items() if what is Move.SPAWN}
    mortal = {state for state, what in MOVES if what is Move.DIED}
    assert mortal == ALIVE
    assert entered <= ALIVE
    assert not ALIVE & {state for state, what in MOVES if what is Move.SPAWN}


def test_no_terminal_state_has_a_process() -> None:
    assert not ALIVE & TERMINAL


@pytest.mark.parametrize("state", SlotState)
def test_every_slot_can_be_told_to_leave(state: SlotState) -> None:
    assert move(state, Move.LEAVE) in {SlotState.STOPPING, *TERMINAL}


def reachable_from(state: SlotState) -> set[SlotState]:
    found = {state}
    while more := {after for (before, _), after in MOVES.items() if before in found} - found:
        found |= more
    return found
