"""What follows when a run has left `main` and its worker says how. Pure, a part of `decide`."""

from __future__ import annotations

from dataclasses import replace

from parallel_hpo.policy import may_be_preempted_again
from parallel_hpo.protocol.messages import RunEnded
from parallel_hpo.supervisor.decisions import deadline, deaths, device_care, occupancy
from parallel_hpo.supervisor.decisions.actions import TellEnd
from parallel_hpo.supervisor.decisions.draft import Draft
from parallel_hpo.supervisor.decisions.view import OpenRun, SlotView
from parallel_hpo.words import SlotState


def on_run_ended(draft: Draft, slot: SlotView, report: RunEnded) -> None:
    if slot.run is None or slot.run.run_id != report.run_id:
        return  # nothing of it was recorded: a late message changes nothing
    kill_at = None if slot.cut else slot.kill_at
    if slot.state is SlotState.STOPPING and (slot.replacing or kill_at is None):
        kill_at = draft.now + draft.view.limits.grace_s  # nothing keeps it any more but what may hang
    draft.change(
        slot.slot, run=None, cut=None, kill_at=kill_at, performed=slot.performed + 1, active_at=draft.now
    )
    again = _may_be_run_again(draft, slot, slot.run, report)
    if not again:
        _end(draft, slot, slot.run, report)
    if report.unsent or not report.told:
        # What is sent afterwards opens the run again: where that is cut short it stays open.
        draft.actions.append(TellEnd(report.run_id, None if again else report.outcome, report.unsent))
    if report.worn and draft.slot(slot.slot).state is SlotState.RUNNING:
        draft.replace_worker(draft.slot(slot.slot), f"replaced: {report.worn}")


def _may_be_run_again(draft: Draft, slot: SlotView, run: OpenRun, report: RunEnded) -> bool:
    """Give a run another attempt that was preempted, or that others left too little memory."""
    if report.preempted and may_be_preempted_again(run.preemptions):
        deaths.run_again_preempted(draft, slot.slot, run, report.reason)
    elif occupancy.fell_short(draft, slot, report.outcome, report.reason):
        deaths.run_again_alone(draft, slot, run, report.reason)
        occupancy.after_shortage(draft, slot, report.reason)
    else:
        return False
    return True


def _end(draft: Draft, slot: SlotView, run: OpenRun, report: RunEnded) -> None:
    """End the run with its attempt, and see to what that tells of its metric and its device."""
    draft.end_attempt(slot.slot, run, report)
    if report.missing is not None and not draft.view.told_of_metric:
        draft.view = replace(draft.view, told_of_metric=True)
        draft.tell(report.missing)
    occupancy.after_run(draft, slot, report.outcome)
    if not report.resumable:
        deadline.note_run(draft, report.outcome, draft.now - run.since)
    device_care.after_run(draft, slot.slot, report.outcome, report.reason)
