"""A machine and its pool on a server: what it has yet to send, the lease, the fence, and the last report."""

from __future__ import annotations

import queue
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from parallel_hpo.core.errors import ExitCode, ServerAwayError, ServerRefusedError
from parallel_hpo.core.messages import SweepEnd
from parallel_hpo.core.notices import Message, Notice, OutputLine, SweepOver, from_json
from parallel_hpo.core.pool_messages import Exchange, Granted, PooledEnd, PooledRun, PooledStart
from parallel_hpo.core.types import Outcome, RunId, Slot, StopKind
from parallel_hpo.session.decide.demand import PoolNeeds
from parallel_hpo.session.decide.events import PoolAnswered, StartGranted, StartRefused
from parallel_hpo.session.membership import REASON_CHARS, TRACEBACK_CHARS, RemoteCount
from parallel_hpo.session.outbox import LINE_CHARS, NOTICES, Outbox
from parallel_hpo.session.signals import Control
from parallel_hpo.session.waiting import StopAware

LEASE_S = 100.0
DEADLINE_S = 60.0
SOON_S = 0.2
"""Many times the duration of an urgent exchange."""
RUN = RunId("r")
START = PooledStart(PooledRun(RUN, {}, 1), 3)
OTHER = PooledStart(PooledRun(RunId("s"), {}, 1), 1)
WITHDRAWN = PooledEnd(RUN, 1, outcome=Outcome.STOPPED, resumable=True)
END = PooledEnd(RUN, 1, outcome=Outcome.FINISHED)
AWAY = ServerAwayError("no answer")
Answer = Granted | Exception


@dataclass
class FakeLine:
    """A pool that gives the answers of a test, then empty ones, and records what it is sent."""

    answers: list[Answer] = field(default_factory=list)
    to_starts: list[Answer] = field(default_factory=list)
    """The answers to exchanges that contain a start."""
    told: list[Exchange] = field(default_factory=list)
    left: list[str] = field(default_factory=list)
    heard: Callable[[Exchange], None] = lambda told: None

    def exchange(self, told: Exchange) -> Granted:
        self.told.append(told)
        self.heard(told)
        answers = self.to_starts if told.starts else self.answers
        answer = answers.pop(0) if answers else Granted()
        if isinstance(answer, Exception):
            raise answer
        return answer

    def leave(self, epoch: int, reason: str) -> None:
        self.left.append(reason)


class FakeNode:
    """A machine's count on a server, with a clock that a test sets, and its notices."""

    def __init__(self, control: Control, clock: Callable[[], float] | None = None) -> None:
        self.now = 0.0
        self.line = FakeLine()
        self.control = control
        self.notices: list[Notice] = []
        clock, observer = clock or (lambda: self.now), self.notices.append
        times: Any = {"node_timeout_s": LEASE_S, "joined_at": clock(), "clock": clock}
        self.count = RemoteCount(self.line, 5, control=control, observer=observer, **times)

    def exchange(self, *answers: Answer) -> list[bool]:
        self.line.answers += answers
        return [self.count.exchange_once() for _ in answers]

    def ask(self, *answers: Answer) -> None:
        """Ask for a start, and exchange until each of `answers` has been given."""
        self.line.to_starts += answers
        self.count.ask(START, PoolNeeds())
        while self.line.to_starts:
            self.count.exchange_once()

    def is_known(self) -> bool:
        """Return whether the machine's own record has the run, once all answers are taken."""
        self.count.take()
        return self.count.known(RUN) is not None


@pytest.fixture
def control() -> Iterator[Control]:
    with closing(Control()) as control:
        yield control


@pytest.fixture
def node(control: Control) -> FakeNode:
    return FakeNode(control)


def refusal(status: int) -> ServerRefusedError:
    return ServerRefusedError("refused", status=status, answer={})


def test_the_fence_is_measured_from_the_sending_of_the_last_answered_exchange(node: FakeNode) -> None:
    node.now = 40.0
    assert node.exchange(Granted()) == [True]
    node.now = 50.0
    assert node.exchange(AWAY) == [False]
    assert node.count.check_fence() == 80.0
    node.now = 130.0
    assert node.count.check_fence() == 0.0
    assert node.count.lost == "no answer from the sweep's pool for 90 s"
    (asked,) = node.control.take()
    assert (asked.kind, asked.exit_code) == (StopKind.KILL, ExitCode.RESUMABLE)


@pytest.mark.parametrize("answer", [Granted(gone=True), refusal(403)], ids=["gone", "another key"])
def test_a_lost_machine_kills_everything_once_and_sends_no_leave(node: FakeNode, answer: Answer) -> None:
    node.exchange(answer)
    assert node.count.lost
    node.now = 200.0
    node.count.check_fence()
    assert [asked.kind for asked in node.control.take()] == [StopKind.KILL]
    assert (len(node.notices), node.count.take()) == (1, [])
    node.count.open()
    node.count.close("killed")
    assert node.line.left == []


def test_an_exchange_refused_for_a_reason_other_than_the_key_is_retried(node: FakeNode) -> None:
    assert node.exchange(refusal(400), Granted()) == [False, True]
    assert node.count.lost == ""


@pytest.mark.parametrize("kind", [StopKind.DRAIN, StopKind.INTERRUPT])
@pytest.mark.parametrize("first", [True, False], ids=["before the loss", "after it"])
def test_a_lost_machine_joins_again_unless_the_user_stops_it(
    node: FakeNode, kind: StopKind, first: bool
) -> None:
    assert not node.count.joins_again
    if first:
        node.control.stop(kind)
    node.exchange(Granted(gone=True))
    assert node.count.joins_again is not first
    node.control.stop(kind)
    assert not node.count.joins_again


def test_only_changed_answers_are_passed_on(node: FakeNode) -> None:
    ends = SweepEnd("done", 0)
    node.exchange(Granted(granted=2), Granted(granted=2, started=(RUN,)), Granted(granted=2, ends=ends))
    answers = [event for event in node.count.take() if isinstance(event, PoolAnswered)]
    assert [each.answer.ends for each in answers] == [None, ends]


def test_starts_and_ends_are_resent_until_the_pool_answers_them(node: FakeNode) -> None:
    node.ask(AWAY, Granted(), Granted(started=(RUN,)))
    assert [told.starts for told in node.line.told if told.starts] == [(START,)] * 3
    assert [(told.epoch, told.number) for told in node.line.told[:2]] == [(5, 1), (5, 2)]
    assert node.count.known(RUN) is None
    assert StartGranted(Slot(3), RUN) in node.count.take()
    started = node.count.known(RUN)
    assert started is not None and (started.attempts, started.outcome) == (1, None)
    assert node.count.begun_with({}) == 1
    node.count.end(END)
    node.line.told.clear()
    node.exchange(AWAY, Granted(), Granted())
    assert [told.ends for told in node.line.told] == [(END,), (END,), ()]
    ended = node.count.known(RUN)
    assert ended is not None and ended.outcome is Outcome.FINISHED


def test_a_refused_start_has_a_reason_and_is_not_taken_back(node: FakeNode) -> None:
    node.ask(Granted(refused={RUN: "on elsewhere"}))
    assert StartRefused(Slot(3), RUN, "on elsewhere") in node.count.take()
    node.exchange(Granted())
    assert (node.line.told[-1].ends, node.is_known()) == ((), False)


@pytest.mark.parametrize("answer", [AWAY, Granted(started=(RUN,))], ids=["without an answer", "granted"])
def test_a_withdrawn_start_is_taken_back_and_not_recorded_here(node: FakeNode, answer: Answer) -> None:
    node.ask(answer)
    node.count.withdraw(WITHDRAWN)
    node.exchange(Granted(started=(RUN,)))
    assert (node.line.told[-1].starts, node.line.told[-1].ends) == ((), (WITHDRAWN,))
    assert not node.is_known()


def test_pending_ends_are_sent_before_the_machine_leaves(control: Control) -> None:
    node = FakeNode(control, time.monotonic)
    node.line.answers.append(AWAY)
    node.count.open()
    node.count.end(END)
    node.count.flush(StopAware(control, grace_s=1.0))
    node.count.close("all 9 runs performed")
    assert any(END in told.ends for told in node.line.told)
    assert node.line.left == ["all 9 runs performed"]


def test_a_higher_demand_is_sent_at_once_and_a_lower_one_with_the_next_exchange(node: FakeNode) -> None:
    """The clock stands still: no exchange is ever due by itself."""
    node.now = -1.0
    told: queue.SimpleQueue[Exchange] = queue.SimpleQueue()
    node.line.heard = told.put
    node.count.open()
    assert told.get(timeout=DEADLINE_S).wants == 0
    node.count.publish(PoolNeeds(wants=3))
    assert told.get(timeout=DEADLINE_S).wants == 3
    node.count.publish(PoolNeeds(wants=2))
    with pytest.raises(queue.Empty):
        told.get(timeout=SOON_S)
    node.count.publish(PoolNeeds(wants=2, over="the grid is used up"))
    assert told.get(timeout=DEADLINE_S).over == "the grid is used up"
    node.count.close("done")


def test_a_long_reason_is_sent_without_its_end_and_a_traceback_without_its_beginning(node: FakeNode) -> None:
    reason, traceback = "r" * REASON_CHARS, "t" * TRACEBACK_CHARS
    node.count.end(replace(END, reason=f"{reason} more", traceback=f"before {traceback}"))
    node.exchange(Granted())
    ((end,),) = [told.ends for told in node.line.told]
    assert (end.reason, end.traceback) == (reason, traceback)


# --- what is yet to send ---


@pytest.fixture
def outbox() -> Outbox:
    return Outbox(5)


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


def test_starts_are_requested_together_and_pending_until_they_are_answered(outbox: Outbox) -> None:
    outbox.ask(START, PoolNeeds())
    outbox.ask(OTHER, PoolNeeds())
    told = outbox.compose()
    assert told.starts == (START, OTHER)
    assert outbox.acknowledge(told, Granted(started=(RunId("s"),))) == [StartGranted(Slot(1), RunId("s"))]
    told = outbox.compose()
    assert (told.starts, outbox.has_pending) == ((START,), True)
    refused = outbox.acknowledge(told, Granted(refused={RUN: "on elsewhere"}))
    assert (refused, outbox.has_pending) == ([StartRefused(Slot(3), RUN, "on elsewhere")], False)


def test_a_start_that_is_withdrawn_before_it_is_sent_is_never_sent(outbox: Outbox) -> None:
    outbox.ask(START, PoolNeeds())
    outbox.withdraw(WITHDRAWN)
    told = outbox.compose()
    assert (told.starts, told.ends) == ((), ())


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
