"""Limits on runs: timeouts, stalls and memory."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from parallel_hpo.core.messages import CutRun
from parallel_hpo.core.types import RunId, Slot, SlotState
from parallel_hpo.session.decide import stopping
from parallel_hpo.session.decide.draft import Draft
from parallel_hpo.session.decide.events import Action, DumpStacks, Kill, Send
from parallel_hpo.session.decide.state import CutShort, Limits, OpenRun, SweepView, next_deadline, open_view

S0 = Slot(0)
RUN = OpenRun(RunId("r"), {}, attempt=1, since=100.0)
moments = st.floats(100.0, 1000.0)


def inside_main(**limits: Any) -> SweepView:
    """A sweep with one worker, which has been inside `main` since second 100."""
    view = open_view(Limits(**limits), 1)
    slot = replace(view.slots[0], state=SlotState.RUNNING, busy=True, run=RUN, active_at=RUN.since)
    return replace(view, slots=(slot,))


def pass_time(view: SweepView, now: float) -> tuple[SweepView, list[Action]]:
    draft = Draft(view, now)
    stopping.end_overdue(draft)
    return draft.view, draft.actions


def see_memory(view: SweepView, used_mb: float) -> tuple[SweepView, list[Action]]:
    draft = Draft(view, 200.0)
    stopping.on_memory(draft, draft.slot(S0), used_mb)
    return draft.view, draft.actions


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
