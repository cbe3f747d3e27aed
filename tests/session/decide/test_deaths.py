"""What follows from a worker's death: for its run, for its slot, for the sweep."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from parallel_hpo.core.messages import SweepEnd
from parallel_hpo.core.notices import Message, RunOver
from parallel_hpo.core.types import Outcome, RunId, Slot, SlotState, StopKind
from parallel_hpo.count.policy import RestartLimits
from parallel_hpo.session.decide.deaths import on_death, on_spawn_denied
from parallel_hpo.session.decide.draft import Draft
from parallel_hpo.session.decide.events import Action, Died, Notify, RecordEnd, ReturnRuns, SpawnDenied
from parallel_hpo.session.decide.state import CutShort, Limits, OpenRun, SweepView, open_view

S0 = Slot(0)
NOW = 107.0
RUN = OpenRun(RunId("r"), {"x": 1}, attempt=1, since=100.0)


def sweep_of_one(run: OpenRun | None = RUN, *, ending: SweepEnd | None = None, **slot: Any) -> SweepView:
    """A sweep with one worker, inside `main` with `run`."""
    limits = Limits(retries=1, restart=RestartLimits(max_restarts=2))
    view = open_view(limits, 1)
    place = replace(view.slots[0], state=SlotState.RUNNING, busy=run is not None, run=run)
    return replace(view, slots=(replace(place, **slot),), ending=ending)


def die(view: SweepView, cause: str = "SIGKILL") -> tuple[SweepView, list[Action]]:
    draft = Draft(view, NOW)
    on_death(draft, Died(S0, cause))
    return draft.view, draft.actions


def recorded(actions: list[Action]) -> RecordEnd:
    (end,) = (action for action in actions if isinstance(action, RecordEnd))
    return end


def ending(stop: StopKind | None) -> SweepEnd:
    return SweepEnd("SIGINT", 130, stop)


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
    view, actions = die(sweep_of_one(state=SlotState.STOPPING, ending=ending(stop)))
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


def deny(view: SweepView, now: float) -> tuple[SweepView, list[Action]]:
    draft = Draft(view, now)
    on_spawn_denied(draft, SpawnDenied(Slot(0), "fork failed: no process"))
    return draft.view, draft.actions


def test_a_failed_fork_is_retried_with_a_backoff_at_no_restart_and_reported_once() -> None:
    view, waits, warnings = sweep_of_one(None, state=SlotState.STARTING), [], []
    for _ in range(8):
        view, actions = deny(view, now=100.0)
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
    view, _ = deny(sweep_of_one(None, state=SlotState.STOPPING), now=100.0)
    assert view.slots[0].state is SlotState.EXITED
