"""What an idle worker gets, which slots get a worker, and what this session asks its count for.

    needs ─▶ the count ─▶ PoolAnswered: new runs, requeued runs, or leave

Pure, a part of `decide`. The count knows when a sweep has ended; the session knows what it could run.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from parallel_hpo.core.messages import Lease, Rerun, SweepEnd
from parallel_hpo.core.notices import Message
from parallel_hpo.core.pool_messages import Granted
from parallel_hpo.core.types import RunId, SlotState, changed
from parallel_hpo.session.decide import devices
from parallel_hpo.session.decide.draft import Draft
from parallel_hpo.session.decide.events import Send, StopAsked
from parallel_hpo.session.decide.state import OpenRun, PoolGrant, SlotView, SweepView

_COMING: Final = (SlotState.STOPPED, SlotState.BACKOFF, SlotState.STARTING, SlotState.RUNNING)
"""States of a slot that can get work, now or soon."""


def take(draft: Draft, answer: Granted) -> None:
    """Take the count's answer, and leave if nothing is left on any machine."""
    before = draft.view.grant
    assigned = frozenset(run.run_id for run in answer.again)
    grant = PoolGrant(answer.granted, answer.each, assigned, answer.held)
    draft.view = changed(draft.view, grant=grant)
    if draft.view.ending is not None:
        return
    if answer.ends is not None and answer.ends.stop is None:
        draft.leave(answer.ends)
        return
    _forget(draft, before.assigned - assigned)
    if answer.held:
        _hold(draft, answer.held, said=bool(before.held))
        return
    known = _known_here(draft.view)
    new = tuple(OpenRun(**vars(run), since=draft.now) for run in answer.again if run.run_id not in known)
    draft.view = changed(draft.view, reruns=(*draft.view.reruns, *new))


def _forget(draft: Draft, released: frozenset[RunId]) -> None:
    """Forget waiting runs that are assigned to this machine no more."""
    kept = tuple(run for run in draft.view.reruns if run.run_id not in released)
    draft.view = changed(draft.view, reruns=kept)


def _hold(draft: Draft, reason: str, *, said: bool) -> None:
    """Return waiting runs to the count, since none may start; tell the user once."""
    if not said:
        draft.notify(Message(reason))
    draft.drop_reruns(reason)


def stop_in(view: SweepView, ends: SweepEnd | None) -> StopAsked | None:
    """Return the stop that the count asks for, None if there is none or it isn't harder than the present
    one."""
    under_way = view.ending.stop if view.ending else None
    if ends is None or ends.stop is None or not ends.stop.is_harder_than(under_way):
        return None
    return StopAsked(ends.stop, ends.reason, ends.exit_code)


@dataclass(frozen=True, slots=True)
class PoolNeeds:
    """This machine's demand, as in an `Exchange`."""

    wants: int = 0
    wants_again: int = 0
    over: str = ""
    """Why the sweep gives no more runs."""
    workers: int = 0
    """Number of slots that take part."""

    def exceed(self, before: PoolNeeds) -> bool:
        """Return whether the demand has grown, or the end of the sweep is news."""
        more = self.wants > before.wants or self.wants_again > before.wants_again
        return more or self.over != before.over


def needs(view: SweepView) -> PoolNeeds:
    """Return this machine's demand: what it holds, and something for each idle worker.

    An idle worker asks for `max_lease` new runs, but for one requeued run, also when the sweep gives no new
    ones: a second would wait here while other machines are idle. A requeued run without a worker here is
    returned for the same reason: the pool would refuse its start.
    """
    if view.ending is not None:
        return PoolNeeds(over=view.exhausted)
    kept = {*view.presence.in_use, *_exclusive_devices(view)}
    free = leased = workers = 0
    assigned = []
    for slot in view.slots:
        leased += slot.lease_left
        workers += not slot.is_terminal
        free += _could_take_work(slot) and slot.device not in kept
        if slot.assigned is not None:
            assigned.append(slot.assigned.run_id)
    waiting = [run.run_id for run in view.reruns if not run.exclusive_on][:free]
    reruns = len(view.grant.assigned.intersection([*assigned, *waiting])) if view.grant.assigned else 0
    idle = free - len(waiting)
    wants = leased if view.exhausted else reruns + leased + view.grant.max_lease * idle
    return PoolNeeds(wants, reruns + idle, view.exhausted, workers)


def _exclusive_devices(view: SweepView) -> set[str]:
    """Return the devices of exclusive runs, active or waiting."""
    if view.occupancy is None:
        return set()
    on = [run for slot in view.slots for run in slot.held]
    return {run.exclusive_on for run in (*on, *view.reruns) if run.exclusive_on}


def _could_take_work(slot: SlotView) -> bool:
    waits = slot.spawn_at is not None or slot.lease_at is not None or slot.memory_not_released or slot.pending
    return slot.state in _COMING and not slot.busy and not waits


def _known_here(view: SweepView) -> set[RunId]:
    """Return the runs that are active or waiting here; the pool's answer may be older than that."""
    runs = [run for slot in view.slots for run in slot.held]
    return {run.run_id for run in (*runs, *view.reruns)}


def give_work(draft: Draft, slot: SlotView) -> None:
    """Give an idle worker a waiting run or a lease, or replace it if it must leave its device."""
    if devices.is_quarantined(draft, slot):
        draft.replace_worker(slot, "its device is in quarantine")
    elif devices.is_in_use(draft, slot):
        draft.replace_worker(slot, "its device is left to its owner")
    elif devices.must_make_room(draft, slot):
        draft.replace_worker(slot, "a run is run again alone on its device")
    elif draft.view.grant.held:
        pass
    elif (run := devices.next_rerun(draft, slot)) is not None:
        reruns = tuple(other for other in draft.view.reruns if other is not run)
        draft.view = changed(draft.view, reruns=reruns)
        draft.change(slot.slot, busy=True, assigned=run, active_at=draft.now)
        draft.actions.append(Send(slot.slot, Rerun(run.run_id, run.parameters, run.attempt)))
    elif not devices.is_exclusive(draft, slot):
        _lease(draft, slot)


def _lease(draft: Draft, slot: SlotView) -> None:
    if slot.lease_at is None and not draft.view.asking and draft.unleased() > 0:
        lease = _lease_for(draft, slot)
        draft.change(slot.slot, busy=True, lease_left=lease, active_at=draft.now)
        draft.actions.append(Send(slot.slot, Lease(lease)))


def _lease_for(draft: Draft, slot: SlotView) -> int:
    """Return the slot's next lease: its part of the rest, at most what its process may still run."""
    caps = (runs_left_in_process(draft, slot), devices.longest_lease(draft, slot))
    lease = min(draft.unleased(), draft.view.grant.max_lease)
    return min([lease, *(cap for cap in caps if cap is not None)])


def runs_left_in_process(draft: Draft, slot: SlotView) -> int | None:
    """Return how many runs the slot's process may still get before it is replaced; None: any number."""
    after = draft.view.limits.recycle_after
    return None if after is None else max(0, after - slot.completed)


def wants_worker(draft: Draft, slot: SlotView) -> bool:
    """Return whether a slot without a process gets one now: its wait has passed and there is work."""
    if slot.spawn_at is not None or slot.pending is not None or devices.is_in_use(draft, slot):
        return False
    if draft.view.grant.held:
        return False
    if not devices.may_start(draft, slot) or not devices.fits_on_device(draft, slot):
        return False
    coming = sum(1 for other in draft.view.slots if other.state is SlotState.STARTING)
    return draft.work() > coming
