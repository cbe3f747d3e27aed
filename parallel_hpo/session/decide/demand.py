"""What an idle worker gets, which slots get a worker, and what this machine asks the pool for.

    needs ─▶ the pool ─▶ PoolAnswered: new runs, requeued runs, or leave

Pure, a part of `decide`. The pool knows when a sweep has ended; this machine knows what it could run.
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
"""States of a slot that can get work, now or soon."""


def take(draft: Draft, answer: Granted) -> None:
    """Take the pool's answer, and leave if nothing is left on any machine."""
    assigned = frozenset(run.run_id for run in answer.again)
    draft.view = replace(draft.view, grant=PoolGrant(answer.granted, answer.each, assigned))
    if draft.view.ending is not None:
        return
    if answer.ends is not None and answer.ends.stop is None:
        draft.leave(answer.ends)
        return
    known = _known_here(draft.view)
    new = tuple(_to_be_run(run, draft.now) for run in answer.again if run.run_id not in known)
    draft.view = replace(draft.view, reruns=(*draft.view.reruns, *new))


def stop_in(view: SweepView, ends: SweepEnd | None) -> StopAsked | None:
    """Return the stop that the pool asks for, None if there is none or it isn't harder than the present
    one."""
    under_way = view.ending.stop if view.ending else None
    if ends is None or ends.stop is None or not ends.stop.is_harder_than(under_way):
        return None
    return StopAsked(ends.stop, ends.reason, ends.exit_code)


def granted_lease(draft: Draft) -> int:
    """Return the number of new runs for an idle worker."""
    assert draft.view.grant is not None
    return min(draft.unleased(), draft.view.grant.max_lease)


@dataclass(frozen=True, slots=True)
class PoolNeeds:
    """This machine's demand, as in an `Exchange`."""

    wants: int = 0
    wants_again: int = 0
    over: str = ""
    """Why the sweep gives no more runs."""

    def exceed(self, before: PoolNeeds) -> bool:
        """Return whether the demand has grown, or the end of the sweep is news."""
        more = self.wants > before.wants or self.wants_again > before.wants_again
        return more or self.over != before.over


def needs(view: SweepView, now: float) -> PoolNeeds:
    """Return this machine's demand at `now`: what it holds, and something for each idle worker.

    An idle worker asks for `max_lease` new runs, but for one requeued run, also when the sweep gives no new
    ones: a second would wait here while other machines are idle. A requeued run without a worker here is
    returned for the same reason: the pool would refuse its start.
    """
    if view.ending is not None or view.grant is None or is_too_late(view, now):
        return PoolNeeds(over=view.exhausted)
    kept = {*view.presence.away, *_exclusive_devices(view)}
    free = sum(1 for slot in view.slots if _could_take_work(slot) and slot.device not in kept)
    assigned = [slot.assigned.run_id for slot in view.slots if slot.assigned is not None]
    waiting = [run.run_id for run in view.reruns if not run.exclusive_on][:free]
    reruns = len(view.grant.assigned.intersection([*assigned, *waiting]))
    leased = sum(slot.lease_left for slot in view.slots)
    idle = free - len(waiting)
    wants = leased if view.exhausted else reruns + leased + view.grant.max_lease * idle
    return PoolNeeds(wants, reruns + idle, view.exhausted)


def _exclusive_devices(view: SweepView) -> set[str]:
    """Return the devices of exclusive runs, active or waiting."""
    on = [run for slot in view.slots for run in slot.held]
    return {run.exclusive_on for run in (*on, *view.reruns) if run.exclusive_on}


def _could_take_work(slot: SlotView) -> bool:
    waits = slot.spawn_at is not None or slot.lease_at is not None or slot.memory_not_released or slot.pending
    return slot.state in _COMING and not slot.busy and not waits


def _known_here(view: SweepView) -> set[RunId]:
    """Return the runs that are active or waiting here; the pool's answer may be older than that."""
    runs = [run for slot in view.slots for run in slot.held]
    return {run.run_id for run in (*runs, *view.reruns)}


def _to_be_run(run: PooledRun, now: float) -> OpenRun:
    return OpenRun(
        run_id=run.run_id,
        parameters=run.parameters,
        attempt=run.attempt,
        since=now,
        spent_s=run.spent_s,
        deaths=run.deaths,
        preemptions=run.preemptions,
        seed=run.seed,
    )


def give_work(draft: Draft, slot: SlotView) -> None:
    """Give an idle worker a waiting run or a lease, or replace it if it must leave its device."""
    if devices.is_quarantined(draft, slot):
        draft.replace_worker(slot, "its device is in quarantine")
    elif devices.is_away(draft, slot):
        draft.replace_worker(slot, "its device is left to its owner")
    elif devices.must_make_room(draft, slot):
        draft.replace_worker(slot, "a run is run again alone on its device")
    elif stopping.is_too_late(draft.view, draft.now):
        if draft.work():
            stopping.announce_once(draft)
    elif (run := devices.next_rerun(draft, slot)) is not None:
        reruns = tuple(other for other in draft.view.reruns if other is not run)
        draft.view = replace(draft.view, reruns=reruns)
        draft.change(slot.slot, busy=True, assigned=run, active_at=draft.now)
        draft.actions.append(Send(slot.slot, Rerun(run.run_id, run.parameters, run.attempt)))
    elif not devices.is_exclusive(draft, slot):
        _lease(draft, slot)


def _lease(draft: Draft, slot: SlotView) -> None:
    if slot.lease_at is None and not draft.view.asking and draft.unleased() > 0:
        lease = _lease_for(draft, slot)
        draft.change(slot.slot, busy=True, lease_left=lease or 0, active_at=draft.now)
        draft.actions.append(Send(slot.slot, Lease(lease)))


def _lease_for(draft: Draft, slot: SlotView) -> int | None:
    """Return the slot's next lease: its part of the rest, at most what its process may still run."""
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
    """Return how many runs the slot's process may still get before it is replaced; None: any number."""
    after = draft.view.limits.recycle_after
    return None if after is None else max(0, after - slot.completed)


def wants_worker(draft: Draft, slot: SlotView) -> bool:
    """Return whether a slot without a process gets one now: its wait has passed and there is work."""
    if slot.spawn_at is not None or slot.pending is not None or devices.is_away(draft, slot):
        return False
    if stopping.is_too_late(draft.view, draft.now):
        return False
    if not devices.may_start(draft, slot) or not devices.fits_on_device(draft, slot):
        return False
    coming = sum(1 for other in draft.view.slots if other.state is SlotState.STARTING)
    return draft.work() > coming
