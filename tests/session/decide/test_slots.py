"""One slot in a sweep: the table of its states, its run's limits and seed, and its worker's death."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import product
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from parallel_hpo.core.messages import CutRun, Proceed, RunStarted, SweepEnd
from parallel_hpo.core.notices import Message, RunOver
from parallel_hpo.core.types import Outcome, RunId, Slot, SlotState, StopKind
from parallel_hpo.count.policy import RestartLimits
from parallel_hpo.session.decide import stopping
from parallel_hpo.session.decide.deaths import on_death, on_spawn_denied
from parallel_hpo.session.decide.decide import on_delivered, on_granted, on_run_started
from parallel_hpo.session.decide.draft import Draft
from parallel_hpo.session.decide.events import (
    Action,
    Delivered,
    Died,
    DumpStacks,
    Kill,
    Notify,
    RecordEnd,
    ReturnRuns,
    Send,
    SpawnDenied,
    StartGranted,
)
from parallel_hpo.session.decide.state import (
    ALIVE,
    MOVES,
    TERMINAL,
    CutShort,
    IllegalMove,
    Limits,
    Move,
    OpenRun,
    SweepView,
    move,
    next_deadline,
    open_view,
)
from parallel_hpo.session.decide.stopping import SEEDS, index_from, seed_of

S0 = Slot(0)
NOW = 107.0
RUN = OpenRun(RunId("r"), {"x": 1}, attempt=1, since=100.0)
NEW = RunStarted(RUN.run_id, RUN.parameters, 1, index=4)
RETRYING = Limits(retries=1, restart=RestartLimits(max_restarts=2))
After = tuple[SweepView, list[Action]]
moments = st.floats(100.0, 1000.0)


def sweep_of_one(
    run: OpenRun | None = RUN, *, limits: Limits = RETRYING, ending: SweepEnd | None = None, **slot: Any
) -> SweepView:
    """A sweep with one worker, which has been inside `main` with `run` since second 100."""
    view = open_view(limits, 1)
    place = replace(
        view.slots[0], state=SlotState.RUNNING, busy=run is not None, run=run, active_at=RUN.since
    )
    return replace(view, slots=(replace(place, **slot),), ending=ending)


def inside_main(**limits: Any) -> SweepView:
    return sweep_of_one(limits=Limits(**limits))


def after(view: SweepView, now: float, happens: Callable[[Draft], object]) -> After:
    draft = Draft(view, now)
    happens(draft)
    return draft.view, draft.actions


def die(view: SweepView, cause: str = "SIGKILL") -> After:
    return after(view, NOW, lambda draft: on_death(draft, Died(S0, cause)))


def deny(view: SweepView) -> After:
    return after(
        view, 100.0, lambda draft: on_spawn_denied(draft, SpawnDenied(S0, "fork failed: no process"))
    )


def pass_time(view: SweepView, now: float) -> After:
    return after(view, now, stopping.end_overdue)


def see_memory(view: SweepView, used_mb: float) -> After:
    return after(view, 200.0, lambda draft: stopping.on_memory(draft, draft.slot(S0), used_mb))


def recorded(actions: list[Action]) -> RecordEnd:
    (end,) = (action for action in actions if isinstance(action, RecordEnd))
    return end


# --- states ------------------------------------------------------------------------------------


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


# --- limits of a run: timeouts, stalls and memory ----------------------------------------------


@given(moments)
def test_without_limits_time_changes_nothing(now: float) -> None:
    view = inside_main()
    assert pass_time(view, now) == (view, [])
    assert next_deadline(view) is None


@given(moments)
def test_a_run_is_cut_at_its_timeout_and_not_before(now: float) -> None:
    after, actions = pass_time(inside_main(run_timeout_s=60), now)
    assert (Send(S0, CutRun(RUN.run_id, "run timeout 60 s")) in actions) == (now >= 160.0)
    assert (after.slots[0].cut is not None) == (now >= 160.0)


def test_a_cut_run_is_killed_once_after_the_grace_period() -> None:
    view, _ = pass_time(inside_main(run_timeout_s=60, stall_timeout_s=63, grace_s=5), 160.0)
    assert pass_time(view, 164.0) == (view, []), "it is not cut again"
    assert next_deadline(view) == 165.0
    view, actions = pass_time(view, 165.0)
    assert actions == [Kill(S0)]
    assert pass_time(view, 166.0) == (view, [])


@given(moments, st.floats(100.0, 1000.0))
def test_a_run_has_stalled_after_the_timeout_without_activity(now: float, active_at: float) -> None:
    view = inside_main(stall_timeout_s=10)
    view = replace(view, slots=(replace(view.slots[0], active_at=active_at),))
    assert (pass_time(view, now)[1] == [DumpStacks(S0)]) == (now >= active_at + 10)


def test_a_stalled_run_is_killed_only_after_its_stacks_were_written() -> None:
    view, actions = pass_time(inside_main(stall_timeout_s=10), 110.0)
    assert actions == [DumpStacks(S0)]
    assert view.slots[0].cut == CutShort("stalled: no log call and no output for 10 s", failed=False)
    assert next_deadline(view) == 110.0 + stopping.STACKS_S
    assert pass_time(view, 110.0 + stopping.STACKS_S)[1] == [Kill(S0)]


@given(st.floats(0.0, 4000.0))
def test_a_worker_is_killed_if_its_process_tree_exceeds_the_memory_limit(used_mb: float) -> None:
    view, actions = see_memory(inside_main(memory_limit_mb=1000), used_mb)
    assert (actions == [Kill(S0)]) == (used_mb > 1000)
    reason = f"memory limit 1000 MB: its process tree held {used_mb:.0f} MB"
    assert view.slots[0].cut == (CutShort(reason, failed=False) if used_mb > 1000 else None)
    idle = inside_main(memory_limit_mb=1000)
    idle = replace(idle, slots=(replace(idle.slots[0], run=None),))
    assert see_memory(idle, used_mb) == (idle, [])


# --- deaths ------------------------------------------------------------------------------------


def test_a_run_whose_worker_died_waits_for_its_next_attempt_with_its_state_kept() -> None:
    view, actions = die(sweep_of_one())
    assert view.reruns == (replace(RUN, attempt=2, deaths=1, spent_s=7.0),)
    end = recorded(actions)
    assert (end.end.outcome, end.end.reason, end.final, end.died) == (Outcome.CRASHED, "SIGKILL", False, True)


@pytest.mark.parametrize(
    ("cut", "outcome", "reason", "is_run_again"),
    [
        (CutShort("run timeout 5 s", failed=True), Outcome.FAILED, "run timeout 5 s; killed", False),
        (CutShort("memory limit 1 MB", failed=False), Outcome.CRASHED, "memory limit 1 MB", True),
    ],
    ids=["run timeout", "memory limit"],
)
def test_a_killed_run_fails_for_its_timeout_and_is_run_again_for_a_stall_or_memory_limit(
    cut: CutShort, outcome: Outcome, reason: str, is_run_again: bool
) -> None:
    view, actions = die(sweep_of_one(cut=cut))
    assert bool(view.reruns) is is_run_again
    assert (recorded(actions).end.outcome, recorded(actions).end.reason) == (outcome, reason)


def test_a_run_without_retries_left_crashes_with_the_duration_of_all_its_attempts() -> None:
    view, actions = die(sweep_of_one(replace(RUN, attempt=2, deaths=1, spent_s=3.0)), "exit 3")
    assert view.reruns == ()
    end = recorded(actions)
    (told,) = (a.notice for a in actions if isinstance(a, Notify) and isinstance(a.notice, RunOver))
    assert (end.end.outcome, end.final) == (Outcome.CRASHED, True)
    assert end.end.duration_s == told.duration_s == 10.0


@pytest.mark.parametrize("stop", [StopKind.INTERRUPT, StopKind.PREEMPT, StopKind.KILL])
def test_a_run_killed_by_a_stop_is_stopped_and_can_be_resumed(stop: StopKind) -> None:
    view, actions = die(sweep_of_one(state=SlotState.STOPPING, ending=SweepEnd("SIGINT", 130, stop)))
    end = recorded(actions)
    assert (end.end.outcome, end.end.resumable, end.end.reason) == (
        Outcome.STOPPED,
        True,
        "SIGINT; killed (SIGKILL)",
    )
    assert view.reruns == ()
    assert view.slots[0].is_terminal


def test_issued_runs_that_a_dead_worker_had_not_started_are_returned() -> None:
    assert ReturnRuns(S0, keep=RUN.run_id) in die(sweep_of_one())[1]
    assert ReturnRuns(S0, keep=None) in die(sweep_of_one(None))[1]


def test_an_assigned_run_whose_worker_dies_before_its_start_uses_no_attempt() -> None:
    view, _ = die(sweep_of_one(None, assigned=RUN, busy=True))
    assert view.reruns == (RUN,)


@given(st.sampled_from(["SIGKILL", "exit 0"]), st.booleans(), st.integers(0, 3), st.booleans())
def test_a_workers_death_clears_its_slot(cause: str, cut: bool, lease_left: int, replacing: bool) -> None:
    why = CutShort("run timeout 5 s", failed=True) if cut else None
    state = SlotState.STOPPING if replacing else SlotState.RUNNING
    view, _ = die(
        sweep_of_one(cut=why, lease_left=lease_left, replacing=replacing, state=state, kill_at=1.0), cause
    )
    slot = view.slots[0]
    assert (slot.busy, slot.lease_left, slot.run, slot.assigned, slot.cut) == (False, 0, None, None, None)
    assert (slot.kill_at, slot.lease_at, slot.replacing, slot.completed) == (None, None, False, 0)


def test_replacing_a_worker_costs_no_restart() -> None:
    view, _ = die(sweep_of_one(None, state=SlotState.STOPPING, replacing=True), "exit 0")
    assert view.slots[0].state is SlotState.STOPPED
    assert view.slots[0].restarts == ()


def test_a_slot_restarts_until_its_budget_is_spent_and_then_gives_up() -> None:
    view, _ = die(sweep_of_one(None))
    assert (view.slots[0].state, view.slots[0].spawn_at) == (SlotState.BACKOFF, NOW)
    view, _ = die(sweep_of_one(None, restarts=(NOW - 2, NOW - 1)))
    assert view.slots[0].state is SlotState.FATAL
    assert view.last_death == "SIGKILL"


def test_a_failed_fork_is_retried_with_a_backoff_at_no_restart_and_reported_once() -> None:
    view, waits, warnings = sweep_of_one(None, state=SlotState.STARTING), [], []
    for _ in range(8):
        view, actions = deny(view)
        (slot,) = view.slots
        assert (slot.state, slot.restarts, view.start_deaths) == (SlotState.STOPPED, (), ())
        assert slot.spawn_at is not None
        waits.append(slot.spawn_at - 100.0)
        warnings += [a for a in actions if isinstance(a, Notify) and isinstance(a.notice, Message)]
        view = replace(view, slots=(replace(slot, state=SlotState.STARTING),))
    assert waits == [1, 2, 4, 8, 16, 30, 30, 30]
    (warning,) = warnings
    assert warning.notice == Message(
        "w0 can't be started: fork failed: no process; retrying until it can", warning=True
    )


def test_a_stopping_worker_whose_fork_fails_has_exited() -> None:
    view, _ = deny(sweep_of_one(None, state=SlotState.STOPPING))
    assert view.slots[0].state is SlotState.EXITED


# --- each run's own seed -----------------------------------------------------------------------


def leased(seed: int | None) -> Draft:
    return Draft(sweep_of_one(None, limits=Limits(seed=seed), busy=True, lease_left=3), 10.0)


def started(draft: Draft) -> int | None:
    """Return the seed with which a granted run enters `main`."""
    on_granted(draft, StartGranted(S0, NEW.run_id))
    (seed,) = [a.order.seed for a in draft.actions if isinstance(a, Send) and isinstance(a.order, Proceed)]
    return seed


@given(st.integers(0, 2**63 - 1), st.sets(st.integers(0, 10**9), max_size=50))
def test_no_two_runs_of_a_sweep_have_the_same_seed(sweep_seed: int, places: set[int]) -> None:
    seeds = {seed_of(sweep_seed, place) for place in places}
    assert len(seeds) == len(places)
    assert all(0 <= seed < SEEDS for seed in seeds)


def test_seeds_are_the_same_on_every_machine_and_in_every_version() -> None:
    """Users note seeds and compare runs by them: a new version must not draw other ones."""
    assert [seed_of(7, place) for place in range(3)] == [1680640654, 40109119, 547061232]
    assert seed_of(8, 0) != seed_of(7, 0)


def test_without_server_indices_runs_with_equal_parameters_have_different_indices() -> None:
    assert index_from({"a": 1, "b": 2}, 0) == index_from({"b": 2, "a": 1}, 0)
    assert len({index_from({"a": 1}, 0), index_from({"a": 1}, 1), index_from({"a": 2}, 0)}) == 3


def test_a_run_gets_the_seed_of_its_index_and_keeps_it_in_its_next_attempt() -> None:
    draft = leased(7)
    on_run_started(draft, draft.slot(S0), NEW)
    assert started(draft) == seed_of(7, 4)
    on_death(draft, Died(S0, "SIGKILL"))
    (again,) = draft.view.reruns
    assert (again.attempt, again.seed) == (2, seed_of(7, 4))


def test_a_run_delivered_again_has_its_recorded_seed() -> None:
    draft = leased(7)
    on_delivered(draft, Delivered(S0, NEW, attempts=1, outcome=None, seed=99))
    assert started(draft) == 99


def test_a_run_of_a_sweep_without_a_seed_has_none() -> None:
    draft = leased(None)
    on_run_started(draft, draft.slot(S0), NEW)
    assert started(draft) is None
