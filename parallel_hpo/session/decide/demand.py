"""Runs that are drawn from a pool, which counts for all machines of a sweep: pure, a part of `decide`.

    wants ─▶ the pool ─▶ PoolAnswered: so many new runs, these again, or leave

The pool is the one that knows when a sweep is over; here it is known only what could be used.

What an idle worker is given, and which slots get one: pure, a part of `decide`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from parallel_hpo.core.messages import Lease, Rerun, SweepEnd
from parallel_hpo.core.pool_messages import Granted, PooledRun
from parallel_hpo.core.types import RunId, SlotState
from parallel_hpo.count.policy import next_lease
from parallel_hpo.session.decide import devices, stopping
from parallel_hpo.session.decide.draft import Draft
from parallel_hpo.session.decide.events import Send, StopAsked
from parallel_hpo.session.decide.state import OpenRun, PoolGrant, SlotView, SweepView
from parallel_hpo.session.decide.stopping import is_too_late

_COMING: Final = (SlotState.STOPPED, SlotState.BACKOFF, SlotState.STARTING, SlotState.RUNNING)
"""States of a slot that may be given work, now or soon."""


def take(draft: Draft, answer: Granted) -> None:
    """Take in what may start here, and leave where nothing is left on any machine."""
    handed = frozenset(run.run_id for run in answer.again)
    draft.view = replace(draft.view, grant=PoolGrant(answer.granted, answer.each, handed))
    if draft.view.ending is not None:
        return
    if answer.ends is not None and answer.ends.stop is None:
        draft.leave(answer.ends)
        return
    known = _known_here(draft.view)
    new = tuple(_to_be_run(run, draft.now) for run in answer.again if run.run_id not in known)
    draft.view = replace(draft.view, reruns=(*draft.view.reruns, *new))


def stop_in(view: SweepView, ends: SweepEnd | None) -> StopAsked | None:
    """Return the stop that the pool asks for; None: none, or none that is harder than what is under way."""
    under_way = view.ending.stop if view.ending else None
    if ends is None or ends.stop is None or not ends.stop.is_harder_than(under_way):
        return None
    return StopAsked(ends.stop, ends.reason, ends.exit_code)


def granted_lease(draft: Draft) -> int:
    """Return how many new runs an idle worker is given."""
    assert draft.view.grant is not None
    return min(draft.unleased(), draft.view.grant.each)


@dataclass(frozen=True, slots=True)
class PoolNeeds:
    """What could be used here; the numbers are those of an `Exchange`."""

    wants: int = 0
    wants_again: int = 0
    over: str = ""
    """Why the sweep gives no more runs."""

    def exceed(self, before: PoolNeeds) -> bool:
        """Say whether there is more to be had, or more to be known by others, than before."""
        more = self.wants > before.wants or self.wants_again > before.wants_again
        return more or self.over != before.over


def needs(view: SweepView, now: float) -> PoolNeeds:
    """Return what this machine could use at `now`: what it holds, and something for each worker that is idle.

    New runs come as many as a worker is given at a time. Those that others had to leave are wanted also
    where the sweep gives no new ones, and one by one: a second would wait here, while others are idle.
    For the same reason one goes back for which there is no worker after all: its start would be refused.
    """
    if view.ending is not None or view.grant is None or is_too_late(view, now):
        return PoolNeeds(over=view.exhausted)
    kept = {*view.presence.away, *_kept_for_lone_runs(view)}
    free = sum(1 for slot in view.slots if _could_take_work(slot) and slot.device not in kept)
    assigned = [slot.assigned.run_id for slot in view.slots if slot.assigned is not None]
    waiting = [run.run_id for run in view.reruns if not run.alone_on][:free]
    handed = len(view.grant.handed.intersection([*assigned, *waiting]))
    leased = sum(slot.lease_left for slot in view.slots)
    idle = free - len(waiting)
    wants = leased if view.exhausted else handed + leased + view.grant.each * idle
    return PoolNeeds(wants, handed + idle, view.exhausted)


def _kept_for_lone_runs(view: SweepView) -> set[str]:
    """Return the devices on which a run is, or is to be, alone."""
    on = [run for slot in view.slots for run in slot.held]
    return {run.alone_on for run in (*on, *view.reruns) if run.alone_on}


def _could_take_work(slot: SlotView) -> bool:
    waits = slot.spawn_at is not None or slot.lease_at is not None or slot.soiled or slot.pending
    return slot.state in _COMING and not slot.busy and not waits


def _known_here(view: SweepView) -> set[RunId]:
    """Return the runs that are on here or wait for a worker: an answer may be older than that."""
    runs = [run for slot in view.slots for run in slot.held]
    return {run.run_id for run in (*runs, *view.reruns)}


def _to_be_run(run: PooledRun, now: float) -> OpenRun:
    return OpenRun(
        *(run.run_id, run.parameters, run.attempt, now, run.spent_s, run.deaths, run.preemptions, run.seed)
    )


def give_work(draft: Draft, slot: SlotView) -> None:
    """Give an idle worker a run that waits for another attempt, or a lease; send it off where it must go."""
    if devices.is_quarantined(draft, slot):
        draft.replace_worker(slot, "its device is in quarantine")
    elif devices.is_away(draft, slot):
        draft.replace_worker(slot, "its device is left to its owner")
    elif devices.makes_room(draft, slot):
        draft.replace_worker(slot, "a run is run again alone on its device")
    elif stopping.is_too_late(draft.view, draft.now):
        if draft.work():
            stopping.say_once(draft)
    elif (run := devices.next_rerun(draft, slot)) is not None:
        reruns = tuple(other for other in draft.view.reruns if other is not run)
        draft.view = replace(draft.view, reruns=reruns)
        draft.change(slot.slot, busy=True, assigned=run, active_at=draft.now)
        draft.actions.append(Send(slot.slot, Rerun(run.run_id, run.parameters, run.attempt)))
    elif not devices.is_kept_free(draft, slot):
        _lease(draft, slot)


def _lease(draft: Draft, slot: SlotView) -> None:
    if slot.lease_at is None and not draft.view.asking and draft.unleased() > 0:
        lease = _lease_for(draft, slot)
        draft.change(slot.slot, busy=True, lease_left=lease or 0, active_at=draft.now)
        draft.actions.append(Send(slot.slot, Lease(lease)))


def _lease_for(draft: Draft, slot: SlotView) -> int | None:
    """The slot's next lease: its part of what is left, and no more than its process may perform."""
    caps = (
        runs_left_in_process(draft, slot),
        devices.longest_lease(draft, slot),
        stopping.longest_lease(draft.view, draft.now),
    )
    most = min((cap for cap in caps if cap is not None), default=None)
    if draft.view.limits.count is None and draft.view.grant is None:
        return most
    lease = granted_lease(draft) if draft.view.grant else next_lease(draft.unleased(), draft.workers())
    return lease if most is None else min(lease, most)


def runs_left_in_process(draft: Draft, slot: SlotView) -> int | None:
    """How many runs the slot's process may still be given before it is replaced; None: any number."""
    after = draft.view.limits.recycle_after
    return None if after is None else max(0, after - slot.performed)


def wants_worker(draft: Draft, slot: SlotView) -> bool:
    """Whether a slot without a process is to get one now: its wait is over and there is work."""
    if slot.spawn_at is not None or slot.pending is not None or devices.is_away(draft, slot):
        return False
    if stopping.is_too_late(draft.view, draft.now):
        return False
    if not devices.may_start(draft, slot) or not devices.fits_on_device(draft, slot):
        return False
    coming = sum(1 for other in draft.view.slots if other.state is SlotState.STARTING)
    return draft.work() > coming
