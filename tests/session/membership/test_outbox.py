"""What a machine is yet to tell its pool."""

from __future__ import annotations

from parallel_hpo.core.notices import Message, OutputLine, SweepOver, from_json
from parallel_hpo.core.pool_messages import Granted, PooledEnd, PooledRun, PooledStart
from parallel_hpo.core.types import Outcome, RunId, Slot
from parallel_hpo.session.decide.demand import PoolNeeds
from parallel_hpo.session.decide.events import StartGranted, StartRefused
from parallel_hpo.session.outbox import LINE_CHARS, NOTICES, Outbox

RUN = RunId("r")
START = PooledStart(PooledRun(RUN, {}, 1), 0)
END = PooledEnd(RUN, 1, outcome=Outcome.FINISHED)
WITHDRAWN = PooledEnd(RUN, 1, outcome=Outcome.STOPPED, resumable=True)


def test_starts_and_ends_are_sent_until_they_are_acknowledged() -> None:
    outbox = Outbox(7)
    outbox.end(END)
    outbox.ask(START, PoolNeeds())
    first, second = outbox.compose(), outbox.compose()
    assert (first.epoch, first.number, second.number) == (7, 1, 2)
    assert (first.starts, first.ends) == (second.starts, second.ends) == ((START,), (END,))
    assert outbox.acknowledge(second, Granted(started=(RUN,))) == [StartGranted(Slot(0), RUN)]
    assert (outbox.compose().starts, outbox.compose().ends) == ((), ())
    assert not outbox.has_pending


def test_a_start_is_sent_with_the_demand_beside_it() -> None:
    outbox = Outbox(1)
    outbox.needs = PoolNeeds(wants=3, wants_again=2)
    outbox.ask(START, PoolNeeds(wants=2, wants_again=1, over="used up"))
    told = outbox.compose()
    assert (told.wants, told.wants_again, told.over) == (2, 1, "used up")


def test_an_end_that_came_during_an_exchange_is_sent_in_the_next() -> None:
    outbox = Outbox(1)
    outbox.end(END)
    told = outbox.compose()
    outbox.end(WITHDRAWN)
    outbox.acknowledge(told, Granted())
    assert outbox.compose().ends == (WITHDRAWN,)


def test_a_start_is_open_until_the_pool_has_said_something_of_it() -> None:
    outbox = Outbox(1)
    outbox.ask(START, PoolNeeds())
    assert outbox.acknowledge(outbox.compose(), Granted()) == []
    assert outbox.has_pending
    decided = outbox.acknowledge(outbox.compose(), Granted(refused={RUN: "on elsewhere"}))
    assert decided == [StartRefused(Slot(0), RUN, "on elsewhere")]
    assert not outbox.has_pending


def test_several_starts_are_asked_for_at_once_and_answered_one_by_one() -> None:
    outbox = Outbox(1)
    other = PooledStart(PooledRun(RunId("s"), {}, 1), 1)
    outbox.ask(START, PoolNeeds())
    outbox.ask(other, PoolNeeds())
    told = outbox.compose()
    assert told.starts == (START, other)
    assert outbox.acknowledge(told, Granted(started=(RunId("s"),))) == [StartGranted(Slot(1), RunId("s"))]
    assert outbox.compose().starts == (START,)


def test_the_answer_to_a_start_that_was_withdrawn_meanwhile_is_ignored() -> None:
    outbox = Outbox(1)
    outbox.ask(START, PoolNeeds())
    told = outbox.compose()
    outbox.withdraw(WITHDRAWN)
    assert outbox.acknowledge(told, Granted(started=(RUN,))) == []
    assert outbox.compose().ends == (WITHDRAWN,)


def test_a_granted_start_that_is_withdrawn_is_sent_as_an_end() -> None:
    outbox = Outbox(1)
    outbox.ask(START, PoolNeeds())
    outbox.acknowledge(outbox.compose(), Granted(started=(RUN,)))
    outbox.withdraw(WITHDRAWN)
    assert outbox.compose().ends == (WITHDRAWN,)


def test_a_start_that_was_told_and_given_up_is_taken_back() -> None:
    """The pool may have counted it: without a word it would wait for its end for ever."""
    outbox = Outbox(1)
    outbox.ask(START, PoolNeeds())
    outbox.compose()
    outbox.withdraw(WITHDRAWN)
    told = outbox.compose()
    assert (told.starts, told.ends) == ((), (WITHDRAWN,))


def test_a_start_that_was_never_told_needs_no_taking_back() -> None:
    outbox = Outbox(1)
    outbox.ask(START, PoolNeeds())
    outbox.withdraw(WITHDRAWN)
    assert outbox.compose().ends == ()


def test_notices_are_sent_once_and_a_flood_is_counted() -> None:
    outbox = Outbox(1)
    for number in range(NOTICES + 5):
        outbox.note(OutputLine(Slot(0), f"line {number}"))
    *lines, last = (from_json(body) for body in outbox.compose().notices)
    assert lines[-1] == OutputLine(Slot(0), f"line {NOTICES - 1}")
    assert isinstance(last, Message)
    assert last.text.startswith("5 more lines")
    assert outbox.compose().notices == ()


def test_a_long_line_is_cut_and_the_machines_own_end_is_not_passed_on() -> None:
    outbox = Outbox(1)
    outbox.note(OutputLine(Slot(0), "x" * (LINE_CHARS + 1)))
    outbox.note(SweepOver(0))
    (line,) = (from_json(body) for body in outbox.compose().notices)
    assert line == OutputLine(Slot(0), "x" * LINE_CHARS)
