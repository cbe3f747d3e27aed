"""A session's decisions and the count of its sweep, in memory: no process, and a test sets the time."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from typing import Any, TypeVar

from parallel_hpo.core.messages import LeaseEnded, Ready, RunEnded, RunStarted
from parallel_hpo.core.notices import Message, Observer
from parallel_hpo.core.types import Outcome, RunId, Slot, SlotState
from parallel_hpo.count.policy import FailureLimits
from parallel_hpo.records.ledger import Ledger
from parallel_hpo.session.count import LocalCount, end_of, end_of_waiting, end_of_withdrawn, start_of
from parallel_hpo.session.decide.decide import decide
from parallel_hpo.session.decide.demand import needs
from parallel_hpo.session.decide.events import (
    Action,
    AskStart,
    Event,
    Notify,
    Opened,
    RecordDrop,
    RecordEnd,
    Reported,
    Send,
    WithdrawStart,
)
from parallel_hpo.session.decide.state import SweepView
from parallel_hpo.session.resume import counted_before, read_earlier, waiting_run
from parallel_hpo.session.signals import Control

Kind = TypeVar("Kind")


def count_of(
    ledger: Ledger,
    count: int | None,
    *,
    now: Callable[[], float],
    control: Control,
    workers: int = 2,
    limits: FailureLimits | None = None,
    took: tuple[float, ...] = (),
    observer: Observer = lambda notice: None,
    **times: Any,
) -> LocalCount:
    """The count of a launch that begins now and goes on with what the ledger has; `took`: by runs before."""
    earlier = read_earlier(ledger.runs())
    earlier = replace(earlier, took=earlier.took + took)
    pool = counted_before(
        ledger, earlier, count=count, opened_at=now(), limits=limits or FailureLimits(), **times
    )
    waiting = map(waiting_run, earlier.reruns)
    return LocalCount(ledger, pool, waiting, workers=workers, now=now, control=control, observer=observer)


def tell(count: LocalCount, action: Action, view: SweepView) -> None:
    """Perform an action as the loop does, as far as the count goes."""
    match action:
        case AskStart(slot, run):
            count.ask(start_of(slot, run, view.slots[slot].device or None), needs(view))
        case WithdrawStart(run):
            count.withdraw(end_of_withdrawn(run))
        case RecordEnd():
            count.end(end_of(action))
        case RecordDrop():
            count.end(end_of_waiting(action))


class CountedPlay:
    """A sweep of `count` runs, whose count answers at once; `actions` are those of the last event."""

    def __init__(self, view: SweepView, count: int | None, **known: Any) -> None:
        """`known` are other fields of the count, such as its deadline."""
        self.now = 0.0
        self.view = view
        self.actions: tuple[Action, ...] = ()
        self.ledger = Ledger(None)
        with closing(Control(lambda: self.now)) as control:  # it is only asked for the time
            self.count = count_of(
                self.ledger, count, now=lambda: self.now, control=control, workers=len(view.slots), **known
            )

    def event(self, event: Event) -> None:
        """Handle an event and the answers that follow from it."""
        self.actions = ()
        self._handle(event)

    def open(self) -> None:
        """Open the sweep, and let all workers become ready."""
        self.event(Opened())
        self.ready()

    def ready(self, *slots: int) -> None:
        """Let workers become ready: these, or all that are starting."""
        starting = [each.slot for each in self.view.slots if each.state is SlotState.STARTING]
        for slot in slots or starting:
            self.event(Reported(Slot(slot), Ready()))

    def start(self, slot: int, run_id: str = "run", attempt: int = 1) -> None:
        """Let a worker start a run."""
        self.event(Reported(Slot(slot), RunStarted(RunId(run_id), {}, attempt)))

    def end(self, slot: int, outcome: Outcome = Outcome.FINISHED, **told: Any) -> None:
        """End a worker's run; `told` are other fields of its report."""
        run = self.view.slots[slot].run
        assert run is not None
        self.event(Reported(Slot(slot), RunEnded(run.run_id, run.attempt, outcome=outcome, **told)))

    def back(self, slot: int, **told: Any) -> None:
        """End a worker's lease."""
        self.event(Reported(Slot(slot), LeaseEnded(**told)))

    def alter(self, **changes: Any) -> None:
        """Change the fields of the first worker's slot."""
        first, *others = self.view.slots
        self.view = replace(self.view, slots=(replace(first, **changes), *others))

    def pass_time(self, now: float) -> None:
        """Let the count act on the time; earlier, where it is due before."""
        for at in sorted({min(self.count.due_at or now, now), now}):
            self.now, self.actions = at, ()
            self.count.tick()
            self._take_answers()

    def did(self, action: Action | type[Action]) -> bool:
        """Return whether the last event led to this action, or to one of this kind."""
        if isinstance(action, type):
            return any(isinstance(each, action) for each in self.actions)
        return action in self.actions

    def only(self, kind: type[Kind]) -> Kind:
        """Return the only action of this kind that the last event led to."""
        (action,) = (each for each in self.actions if isinstance(each, kind))
        return action

    def orders(self, slot: int) -> list[object]:
        """Return the orders that a slot's worker got by the last event."""
        return [each.order for each in self.actions if isinstance(each, Send) and each.slot == Slot(slot)]

    def words(self) -> list[str]:
        """Return the messages that the last event showed to the user."""
        told = [each.notice for each in self.actions if isinstance(each, Notify)]
        return [notice.text for notice in told if isinstance(notice, Message)]

    def _handle(self, event: Event) -> None:
        decision = decide(self.view, event, self.now)
        self.view = decision.view
        self.actions += decision.actions
        for action in decision.actions:
            tell(self.count, action, self.view)
        self.count.publish(needs(self.view))
        self._take_answers()

    def _take_answers(self) -> None:
        for answer in self.count.take():
            self._handle(answer)
