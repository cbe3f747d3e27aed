"""When the sweep's processes leave: nothing is left to do, nobody to do it, or somebody asks for it.

Pure, a part of `decide`.
"""

from __future__ import annotations

from dataclasses import replace

from parallel_hpo.errors import ExitCode
from parallel_hpo.lifecycle import Move
from parallel_hpo.policy import why_tripped
from parallel_hpo.protocol.ends import Ending
from parallel_hpo.supervisor.decisions import deadline
from parallel_hpo.supervisor.decisions.actions import Kill
from parallel_hpo.supervisor.decisions.draft import Draft
from parallel_hpo.supervisor.decisions.events import StopAsked
from parallel_hpo.supervisor.decisions.view import SweepView
from parallel_hpo.words import Outcome, SlotState, StopKind


def on_stop(draft: Draft, event: StopAsked) -> None:
    """Take a stop; a later one may only be harder than an earlier one."""
    before = draft.view.ending.stop if draft.view.ending else None
    interrupted = before not in (None, StopKind.DRAIN)
    if event.kind is StopKind.KILL or (interrupted and event.kind is not StopKind.DRAIN):
        _kill_all(draft, event)
    elif not interrupted and before is not event.kind:
        draft.tell_stop(event.kind, event.reason)
        draft.leave(Ending(event.reason, event.exit_code, event.kind))


def _kill_all(draft: Draft, event: StopAsked) -> None:
    draft.view = replace(draft.view, ending=Ending(event.reason, event.exit_code, StopKind.KILL))
    draft.withdraw_starts(event.reason)
    draft.drop_reruns(event.reason)
    for slot in draft.view.slots:
        draft.move(slot.slot, Move.LEAVE)
        draft.change(slot.slot, spawn_at=None, replacing=False)
        if slot.alive:
            draft.actions.append(Kill(slot.slot))


def end_if_done(draft: Draft) -> None:
    """End the sweep when nothing is left to do, or nobody to do it."""
    if draft.view.ending is not None:
        return
    tripped = why_tripped(draft.view.failures, draft.view.limits.failures)
    if tripped:
        draft.leave(Ending(tripped, ExitCode.FAILURE_POLICY, StopKind.INTERRUPT))
    elif all(slot.over for slot in draft.view.slots):
        _end_without_workers(draft)
    elif any(slot.busy for slot in draft.view.slots) or draft.view.asking:
        pass
    elif draft.view.grant is None and not draft.work():
        draft.leave(_complete(draft.view))  # a pool says itself when nothing is left on any machine
    elif deadline.is_too_late(draft.view, draft.now):
        deadline.end(draft)


def _end_without_workers(draft: Draft) -> None:
    """End a sweep whose last worker gave up, or was drained by somebody."""
    if any(slot.state is SlotState.FATAL for slot in draft.view.slots):
        reason = f"all workers gave up: {draft.view.last_death}"
        # Another machine may do better with what a pool gets back.
        draft.drop_reruns(reason, Outcome.CRASHED if draft.view.grant is None else Outcome.STOPPED)
        draft.leave(Ending(reason, ExitCode.FAILURE_POLICY))
    else:
        draft.leave(Ending("all workers were drained", ExitCode.RESUMABLE, StopKind.DRAIN))


def _complete(view: SweepView) -> Ending:
    """Return the ending of a sweep in which nothing is left to do."""
    reason = view.exhausted or f"all {view.limits.count} runs performed"
    none_finished = view.started > 0 and view.failures.none_finished
    return Ending(reason, ExitCode.NO_RUN_FINISHED if none_finished else ExitCode.COMPLETE)
