"""Workers that die before they are ready: hopeless only while none has ever been."""

from __future__ import annotations

from parallel_hpo.core.errors import ExitCode
from parallel_hpo.core.messages import Ready
from parallel_hpo.core.types import Slot, SlotState
from parallel_hpo.count.policy import RestartLimits
from parallel_hpo.session.decide.decide import decide
from parallel_hpo.session.decide.events import Died, Event, Opened, Reported, TimePassed
from parallel_hpo.session.decide.state import Limits, PoolGrant, SweepView, open_view

FIRST, SECOND = Slot(0), Slot(1)
LATER_S = 1000.0
"""Longer than any backoff."""


def play(*events: Event) -> SweepView:
    """Return what two workers of a sweep come to, with all backoff waited for after each event."""
    limits = Limits(restart=RestartLimits(max_restarts=100))
    view, now = open_view(limits, 2, grant=PoolGrant(10)), 0.0
    for event in (Opened(), *events):
        view = decide(view, event, now).view
        now += LATER_S
        view = decide(view, TimePassed(), now).view
    return view


def test_two_deaths_of_the_same_cause_end_a_sweep_in_which_no_worker_was_ever_ready() -> None:
    view = play(Died(FIRST, "SIGKILL"), Died(SECOND, "SIGKILL"))
    assert view.ending is not None
    assert view.ending.exit_code is ExitCode.FAILURE_POLICY


def test_once_a_worker_was_ready_such_deaths_cost_restarts_and_nothing_else() -> None:
    deaths = [Died(SECOND, "SIGKILL")] * 5
    view = play(Reported(FIRST, Ready()), *deaths)
    assert view.ending is None
    assert view.slots[SECOND].state is SlotState.STARTING
