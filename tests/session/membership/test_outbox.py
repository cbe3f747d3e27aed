"""What a machine has yet to send to its pool."""

from __future__ import annotations

import pytest

from parallel_hpo.core.notices import Message, OutputLine, SweepOver, from_json
from parallel_hpo.core.pool_messages import Granted, PooledEnd, PooledRun, PooledStart
from parallel_hpo.core.types import Outcome, RunId, Slot
from parallel_hpo.session.decide.demand import PoolNeeds
from parallel_hpo.session.decide.events import StartGranted, StartRefused
from parallel_hpo.session.outbox import LINE_CHARS, NOTICES, Outbox

RUN = RunId("r")
START = PooledStart(PooledRun(RUN, {}, 1), 0)
OTHER = PooledStart(PooledRun(RunId("s"), {}, 1), 1)
END = PooledEnd(RUN, 1, outcome=Outcome.FINISHED)
WITHDRAWN = PooledEnd(RUN, 1, outcome=Outcome.STOPPED, resumable=True)


@pytest.fixture
def outbox() -> Outbox:
    return Outbox(7)


def test_starts_and_ends_are_sent_until_they_are_acknowledged(outbox: Outbox) -> None:
    outbox.end(END)
    outbox.ask(START, PoolNeeds())
    first, second = outbox.compose(), outbox.compose()
    assert (first.epoch, first.number, second.number) == (7, 1, 2)
    assert (first.starts, first.ends) == (second.starts, second.ends) == ((START,), (END,))
    assert outbox.acknowledge(second, Granted(started=(RUN,))) == [StartGranted(Slot(0), RUN)]
    assert (outbox.compose().starts, outbox.compose().ends, outbox.has_pending) == ((), (), False)


def test_a_start_is_sent_together_with_the_current_demand(outbox: Outbox) -> None:
    outbox.needs = PoolNeeds(wants=3, wants_again=2)
    outbox.ask(START, PoolNeeds(wants=2, wants_again=1, over="used up"))
    told = outbox.compose()
    assert (told.wants, told.wants_again, told.over) == (2, 1, "used up")


def test_an_end_that_arrives_during_an_exchange_is_sent_in_the_next_one(outbox: Outbox) -> None:
    outbox.end(END)
    told = outbox.compose()
    outbox.end(WITHDRAWN)
    outbox.acknowledge(told, Granted())
    assert outbox.compose().ends == (WITHDRAWN,)


def test_several_starts_are_requested_at_once_and_stay_pending_until_they_are_answered(
    outbox: Outbox,
) -> None:
    outbox.ask(START, PoolNeeds())
    outbox.ask(OTHER, PoolNeeds())
    told = outbox.compose()
    assert told.starts == (START, OTHER)
    assert outbox.acknowledge(told, Granted(started=(RunId("s"),))) == [StartGranted(Slot(1), RunId("s"))]
    told = outbox.compose()
    assert (told.starts, outbox.has_pending) == ((START,), True)
    refused = outbox.acknowledge(told, Granted(refused={RUN: "on elsewhere"}))
    assert (refused, outbox.has_pending) == ([StartRefused(Slot(0), RUN, "on elsewhere")], False)


@pytest.mark.parametrize(
    ("is_told", "is_granted", "ends"),
    [
        pytest.param(False, False, (), id="not if it was never sent"),
        pytest.param(True, False, (WITHDRAWN,), id="if it was sent, as the pool may have counted it"),
        pytest.param(True, True, (WITHDRAWN,), id="if it was granted"),
    ],
)
def test_a_withdrawn_start_is_taken_back(
    outbox: Outbox, is_told: bool, is_granted: bool, ends: tuple[PooledEnd, ...]
) -> None:
    outbox.ask(START, PoolNeeds())
    if is_told:
        outbox.compose()
    if is_granted:
        outbox.acknowledge(outbox.compose(), Granted(started=(RUN,)))
    outbox.withdraw(WITHDRAWN)
    told = outbox.compose()
    assert (told.starts, told.ends) == ((), ends)


def test_the_answer_to_a_start_that_was_withdrawn_meanwhile_is_ignored(outbox: Outbox) -> None:
    outbox.ask(START, PoolNeeds())
    told = outbox.compose()
    outbox.withdraw(WITHDRAWN)
    assert outbox.acknowledge(told, Granted(started=(RUN,))) == []


def test_notices_are_sent_once_and_those_beyond_the_limit_are_counted(outbox: Outbox) -> None:
    for number in range(NOTICES + 5):
        outbox.note(OutputLine(Slot(0), f"line {number}"))
    *lines, last = (from_json(body) for body in outbox.compose().notices)
    assert lines[-1] == OutputLine(Slot(0), f"line {NOTICES - 1}")
    assert isinstance(last, Message) and last.text.startswith("5 more lines")
    assert outbox.compose().notices == ()


def test_a_long_line_is_truncated_and_the_machines_own_end_is_not_forwarded(outbox: Outbox) -> None:
    outbox.note(OutputLine(Slot(0), "x" * (LINE_CHARS + 1)))
    outbox.note(SweepOver(0))
    assert [from_json(body) for body in outbox.compose().notices] == [OutputLine(Slot(0), "x" * LINE_CHARS)]
