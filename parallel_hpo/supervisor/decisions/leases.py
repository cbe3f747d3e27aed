"""What an idle worker is given, and which slots get one: pure, a part of `decide`."""

from __future__ import annotations

from dataclasses import replace

from parallel_hpo.plan import next_lease
from parallel_hpo.protocol.messages import Lease, Rerun
from parallel_hpo.supervisor.decisions import deadline, device_care, grants, occupancy
from parallel_hpo.supervisor.decisions.actions import Send
from parallel_hpo.supervisor.decisions.draft import Draft
from parallel_hpo.supervisor.decisions.view import SlotView
from parallel_hpo.words import SlotState


def give_work(draft: Draft, slot: SlotView) -> None:
    """Give an idle worker a run that waits for another attempt, or a lease; send it off where it must go."""
    if device_care.is_quarantined(draft, slot):
        draft.replace_worker(slot, "its device is in quarantine")
    elif device_care.is_away(draft, slot):
        draft.replace_worker(slot, "its device is left to its owner")
    elif occupancy.makes_room(draft, slot):
        draft.replace_worker(slot, "a run is run again alone on its device")
    elif deadline.is_too_late(draft.view, draft.now):
        if draft.work():
            deadline.say_once(draft)
    elif (run := occupancy.next_rerun(draft, slot)) is not None:
        reruns = tuple(other for other in draft.view.reruns if other is not run)
        draft.view = replace(draft.view, reruns=reruns)
        draft.change(slot.slot, busy=True, assigned=run, active_at=draft.now)
        draft.actions.append(Send(slot.slot, Rerun(run.run_id, run.parameters, run.attempt)))
    elif not occupancy.is_kept_free(draft, slot):
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
        device_care.longest_lease(draft, slot),
        deadline.longest_lease(draft.view, draft.now),
    )
    most = min((cap for cap in caps if cap is not None), default=None)
    if draft.view.limits.count is None and draft.view.grant is None:
        return most
    lease = grants.next_lease(draft) if draft.view.grant else next_lease(draft.unleased(), draft.workers())
    return lease if most is None else min(lease, most)


def runs_left_in_process(draft: Draft, slot: SlotView) -> int | None:
    """How many runs the slot's process may still be given before it is replaced; None: any number."""
    after = draft.view.limits.recycle_after
    return None if after is None else max(0, after - slot.performed)


def wants_worker(draft: Draft, slot: SlotView) -> bool:
    """Whether a slot without a process is to get one now: its wait is over and there is work."""
    if slot.spawn_at is not None or slot.pending is not None or device_care.is_away(draft, slot):
        return False
    if deadline.is_too_late(draft.view, draft.now):
        return False
    if not device_care.may_start(draft, slot) or not occupancy.may_start(draft, slot):
        return False
    coming = sum(1 for other in draft.view.slots if other.state is SlotState.STARTING)
    return draft.work() > coming
