"""A coordinator: its copies of a pool's events, and its loop between the pool, nodes and stops."""

from __future__ import annotations

import queue
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import pytest

from parallel_hpo.cluster.loop import (
    AWAY_WARNING_S,
    LEAVE_TIMEOUT_S,
    NO_NODE_WARNING_S,
    ClusterLoop,
    ShutdownDeadline,
    is_empty,
    shutdown_deadline,
)
from parallel_hpo.cluster.nodes import NodeEnded, NodeReport, NoMachinesLeft
from parallel_hpo.cluster.watcher import LAST_EVENT, Answer, EventCopier, PoolWatcher
from parallel_hpo.core.errors import BackendError, ExitCode, ServerRefusedError
from parallel_hpo.core.messages import SweepEnd
from parallel_hpo.core.notices import (
    Message,
    Notice,
    OutputLine,
    RunBegan,
    RunOver,
    WorkerChanged,
    WorkerNamed,
)
from parallel_hpo.core.pool_messages import AT_ONCE, NodeLost, PoolEvent, PoolNews
from parallel_hpo.core.types import Outcome, RunId, Slot, SlotState, StopKind
from parallel_hpo.records.ledger import Ledger
from parallel_hpo.records.reader import MachineSummary, performed
from parallel_hpo.session.signals import CommandPipe, Control
from tests.cluster.pools import ALL_DONE, USED, RecordedPool, joined, left, news, over, started


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    with Ledger(tmp_path / "sweep" / "ledger.db") as kept:
        yield kept


def taken(ledger: Ledger, *several: object) -> list[Notice]:
    """Return the notices that follow from these news."""
    told: list[Notice] = []
    copier = EventCopier(ledger, told.append)
    for each in several:
        copier.take(each)  # type: ignore[arg-type]
    return told


def test_a_machines_folder_has_the_name_that_the_machine_gives_it(ledger: Ledger) -> None:
    taken(ledger, news(joined(1, 4, "rack 2/gpu:1", directory="/data")))
    assert [machine.folder for machine in ledger.machines()] == ["/data/sweep/machine-rack_2_gpu_1-4"]


def test_a_run_on_a_machine_is_recorded_in_the_ledger_and_reported_to_the_observer(ledger: Ledger) -> None:
    told = taken(
        ledger,
        news(joined(1, 1, "gpu1", directory="/data"), started(2, 1, "a"), over(3, 1, "a", Outcome.FINISHED)),
    )
    (row,) = ledger.runs()
    assert (row.machine, row.outcome, row.value, row.device) == ("gpu1", Outcome.FINISHED, 0.5, "GPU-1")
    assert (row.started_at, row.duration_s, row.consumption) == (102.0, 2.0, USED)
    assert ledger.machines() == [MachineSummary("gpu1", 1, 1, "", "/data/sweep/machine-gpu1-1")]
    assert told[1:] == [
        WorkerNamed(Slot(0), "gpu1/w0"),
        RunBegan(Slot(0), RunId("a"), 1, {"x": 1}, "GPU-1"),
        RunOver(Slot(0), RunId("a"), 1, Outcome.FINISHED, "reason", 0.5, 2.0),
    ]


def test_a_requeued_run_is_resumable_until_it_starts_elsewhere(ledger: Ledger) -> None:
    before = [joined(1, 1, "gpu1"), joined(2, 2, "gpu2"), started(3, 1, "a")]
    gone = [over(4, 1, "a", Outcome.STOPPED, kind="handed_on"), left(5, 1, "gpu1", "not heard for 300 s")]
    told = taken(ledger, news(*before, *gone))
    (row,) = ledger.runs()
    assert (row.outcome, row.resumable, row.deaths) == (Outcome.STOPPED, True, 0)
    over_there = [notice for notice in told if isinstance(notice, RunOver)]
    assert [notice.again for notice in over_there] == [True]
    taken(ledger, news(started(6, 2, "a", attempt=2)))
    (row,) = ledger.runs()
    assert (row.outcome, row.resumable, row.attempts, row.machine) == (None, False, 2, "gpu2")
    assert [machine.departure for machine in ledger.machines()] == ["not heard for 300 s", ""]


def test_each_event_is_copied_once_even_if_it_comes_twice(ledger: Ledger) -> None:
    events = [joined(1, 1, "gpu1"), started(2, 1, "a")]
    taken(ledger, news(*events), news(*events))
    assert taken(ledger, news(*events)) == []
    assert (len(list(ledger.runs())), ledger.last_event()) == (1, (2, 1))


def test_events_that_an_earlier_version_has_copied_are_not_copied_again(ledger: Ledger) -> None:
    ledger.record_facts({LAST_EVENT: 2})
    taken(ledger, news(joined(1, 1, "gpu1"), started(2, 1, "a"), joined(3, 2, "gpu2")))
    assert (list(ledger.runs()), [machine.name for machine in ledger.machines()]) == ([], ["gpu2"])


def test_a_crashed_attempt_does_not_end_its_run(ledger: Ledger) -> None:
    crash = over(3, 1, "a", Outcome.CRASHED, kind="attempt_ended")
    taken(ledger, news(joined(1, 1, "gpu1"), started(2, 1, "a"), crash))
    (row,) = ledger.runs()
    assert (row.outcome, row.deaths) == (None, 1)


def test_an_attempt_has_its_own_duration_and_its_run_the_total(ledger: Ledger, tmp_path: Path) -> None:
    crash = over(3, 1, "a", Outcome.CRASHED, kind="attempt_ended", duration_s=1.0)
    handed = over(5, 1, "a", Outcome.STOPPED, kind="handed_on", attempt=2, duration_s=2.0)
    ended = over(8, 2, "a", Outcome.FINISHED, attempt=3, duration_s=7.0)
    begun = [joined(1, 1, "gpu1"), started(2, 1, "a"), crash, started(4, 1, "a", attempt=2), handed]
    taken(ledger, news(*begun, joined(6, 2, "gpu2"), started(7, 2, "a", attempt=3), ended))
    (row,) = ledger.runs()
    (share,) = performed(tmp_path / "sweep")
    assert row.duration_s == 7.0
    assert [attempt.duration_s for attempt in share.attempts] == [1.0, 2.0, 4.0]


def test_workers_of_different_machines_have_different_slots_in_notices(ledger: Ledger) -> None:
    events = news(joined(1, 1, "gpu1"), joined(2, 2, "gpu2"), started(3, 1, "a"))
    lines = {2: OutputLine(Slot(0), "hello"), 1: OutputLine(Slot(0), "there")}
    told = taken(ledger, events, news(notices=lines))
    assert told[-3:] == [
        WorkerNamed(Slot(1), "gpu2/w0"),
        OutputLine(Slot(1), "hello"),
        OutputLine(Slot(0), "there"),
    ]


def test_a_message_from_a_machine_starts_with_the_machines_name(ledger: Ledger) -> None:
    told = taken(ledger, news(joined(1, 1, "gpu1")), news(notices={1: Message("low disk", warning=True)}))
    assert told[-1] == Message("gpu1: low disk", warning=True)


def test_a_notice_about_a_run_is_ignored_because_events_report_runs(ledger: Ledger) -> None:
    began = RunBegan(Slot(0), RunId("a"), 1)
    assert taken(ledger, news(joined(1, 1, "gpu1")), news(notices={1: began}))[1:] == []


def test_a_worker_that_died_counts_as_a_restart(ledger: Ledger) -> None:
    died = WorkerChanged(Slot(0), SlotState.BACKOFF, "SIGKILL")
    taken(ledger, news(joined(1, 1, "gpu1"), started(2, 1, "a")), news(notices={1: died}))
    assert [worker.restarts for worker in ledger.workers()] == [1]


def test_worker_names_of_an_earlier_launch_are_sent_again(ledger: Ledger) -> None:
    taken(ledger, news(joined(1, 1, "gpu1"), started(2, 1, "a")))
    told: list[Notice] = []
    EventCopier(ledger, told.append).name_workers()
    assert told == [WorkerNamed(Slot(0), "gpu1/w0")]


GRACE_S = 30.0
STOP = SweepEnd("interrupt asked by the program", ExitCode.RESUMABLE, StopKind.INTERRUPT)


Answers = list[PoolNews | BackendError]


@dataclass
class Coordinator:
    """A coordinator whose pool and nodes are made up."""

    folder: Path
    pool: RecordedPool = field(default_factory=lambda: RecordedPool([news()]))
    now: float = 0.0
    told: list[Notice] = field(default_factory=list)
    stopped: list[float] = field(default_factory=list)
    answers: int = 0

    def __post_init__(self) -> None:
        self.control = Control(clock=lambda: self.now)
        self.reports: queue.SimpleQueue[NodeReport | Answer] = queue.SimpleQueue()
        self.given()

    def given(
        self,
        *first: PoolNews | BackendError,
        stops: dict[int, StopKind] | None = None,
        reports: Sequence[NodeReport] = (),
        later: dict[int, Answers] | None = None,
        replies: dict[int, Answers] | None = None,
        step_s: float = 0.0,
    ) -> Coordinator:
        """Have the pool answer so, and things happen at some of its answers, each `step_s` after the last.

        Args:
            first: the pool's answers until others replace them; the last one for ever.
            stops: stops at these answers, counted from 1.
            reports: reports of nodes, at the first answer.
            later: the pool's answers from these on.
            replies: the pool's answers once it has received so many reports.
        """
        if first:
            self.pool.then(*first)
        self._stops, self._later, self._replies = stops or {}, later or {}, replies or {}
        self._reports, self._step_s = reports, step_s
        return self

    def run(self) -> SweepEnd:
        with Ledger(self.folder / "ledger.db") as ledger, CommandPipe(self.folder) as command_pipe:
            copier = EventCopier(ledger, self.told.append)
            watcher = PoolWatcher(
                self.pool, lambda: (copier.last_event, copier.last_notice), self._post, ask_every_s=0.001
            )
            return ClusterLoop(
                control=self.control,
                command_pipe=command_pipe,
                watcher=watcher,
                copier=copier,
                observer=self.told.append,
                stop_nodes=lambda: self.stopped.append(self.now),
                reports=self.reports,
                grace_s=GRACE_S,
            ).run()

    def _post(self, answer: Answer) -> None:
        self.reports.put(answer)
        self.answers += 1
        self.now += self._step_s
        if self.answers in self._stops:
            self.control.stop(self._stops[self.answers])
        if self.answers == 1:
            for report in self._reports:
                self.reports.put(report)
        if answers := self._later.pop(self.answers, None) or self._replies.pop(len(self.pool.told), None):
            self.pool.then(*answers)
        self.control.ring()


@pytest.fixture
def coordinator(tmp_path: Path) -> Iterator[Coordinator]:
    made = Coordinator(tmp_path)
    with closing(made.control):
        yield made


OVER: Final = news(ends=ALL_DONE, living=0)
STOPPED: Final = news(ends=STOP, living=0)
GPU1: Final = joined(1, 1, "gpu1", mark="1_t2_3_boot_0badf00d")
KILLED: Final = NodeEnded("0badf00d", "gpu1", returned=True, reason="killed")
NONE_LEFT: Final = NoMachinesLeft("gpu1: no torch")


def test_a_sweep_ends_when_its_pool_ends_and_all_nodes_have_left(coordinator: Coordinator) -> None:
    coordinator.given(news(joined(1, 1, "gpu1")), news(ends=ALL_DONE, living=1), OVER)
    assert coordinator.run() == SweepEnd("all 2 runs performed", 0, None)
    assert coordinator.pool.asked[:2] == [(0, 0), (1, 0)]
    assert (coordinator.pool.told, coordinator.stopped) == ([], [])


def test_an_interrupt_is_sent_to_the_pool_and_its_answer_ends_the_sweep(coordinator: Coordinator) -> None:
    coordinator.given(stops={1: StopKind.INTERRUPT}, replies={1: [STOPPED]})
    assert coordinator.run() == SweepEnd(STOP.reason, STOP.exit_code, StopKind.INTERRUPT)
    assert coordinator.pool.told == [STOP]


def test_a_second_interrupt_kills_the_runs_and_makes_the_engine_stop_all_nodes(
    coordinator: Coordinator,
) -> None:
    interrupts = dict.fromkeys((1, 2), StopKind.INTERRUPT)
    coordinator.given(stops=interrupts, replies={2: [STOPPED]}).run()
    told = [told.stop for told in coordinator.pool.told if isinstance(told, SweepEnd)]
    assert told == [StopKind.INTERRUPT, StopKind.KILL]
    assert coordinator.stopped == [0.0]


def test_the_engine_stops_machines_that_do_not_leave_in_time(coordinator: Coordinator) -> None:
    coordinator.given(stops={1: StopKind.INTERRUPT}, step_s=1.0)
    assert coordinator.run().stop is StopKind.INTERRUPT
    assert GRACE_S <= coordinator.stopped[0] < coordinator.now <= GRACE_S + 5 + 4


@pytest.mark.parametrize("number", [0, 3])
def test_a_returned_node_is_reported_lost_with_its_epoch_once_its_join_is_known(
    coordinator: Coordinator, number: int
) -> None:
    never = NodeEnded("deadbeef", "gpu2", returned=True, reason="never joined")
    known: Answers = [news(GPU1), news()]
    first = () if number else known
    coordinator.given(*first, reports=[KILLED, never], later={number: known}, replies={1: [OVER]}).run()
    assert coordinator.pool.told == [NodeLost("gpu1", returned=True, reason="killed", epoch=1)]


def test_a_sweep_without_a_usable_machine_ends_with_the_failure_exit_code(coordinator: Coordinator) -> None:
    ends = SweepEnd("gpu1: no torch", ExitCode.FAILURE_POLICY)
    coordinator.given(news(living=0), reports=[NONE_LEFT], replies={1: [news(ends=ends, living=0)]})
    assert coordinator.run().exit_code == ExitCode.FAILURE_POLICY
    (told,) = coordinator.pool.told
    assert isinstance(told, SweepEnd)
    assert (told.exit_code, "gpu1: no torch" in told.reason) == (ExitCode.FAILURE_POLICY, True)


@pytest.mark.parametrize(
    ("living", "reports"),
    [
        pytest.param(1, [NONE_LEFT], id="one that joined by itself"),
        pytest.param(0, [NONE_LEFT, NoMachinesLeft("")], id="one that the engine finds later"),
    ],
)
def test_one_usable_machine_keeps_a_sweep_going(
    coordinator: Coordinator, living: int, reports: list[NodeReport]
) -> None:
    coordinator.given(news(living=living), reports=reports, later={5: [OVER]})
    assert coordinator.run().exit_code == ExitCode.COMPLETE
    assert coordinator.pool.told == []


def test_the_lack_of_machines_is_reported_once(coordinator: Coordinator) -> None:
    coordinator.given(news(living=0), later={5: [OVER]}, step_s=NO_NODE_WARNING_S).run()
    assert ["no machine has joined" in str(notice) for notice in coordinator.told] == [True]


def test_a_deleted_pool_ends_the_sweep_as_an_internal_error(coordinator: Coordinator) -> None:
    ending = coordinator.given(ServerRefusedError("no pool", status=404, answer={})).run()
    assert (ending.exit_code, "no pool" in ending.reason) == (ExitCode.OUR_FAULT, True)


def test_temporary_refusals_by_a_proxy_do_not_end_the_sweep(coordinator: Coordinator) -> None:
    refused = ServerRefusedError("too many requests", status=429, answer={})
    assert coordinator.given(refused, later={3: [OVER]}).run().exit_code == ExitCode.COMPLETE


def test_a_stop_that_a_pool_refuses_is_not_sent_again(coordinator: Coordinator) -> None:
    coordinator.pool.refusals.append(ServerRefusedError("it has ended", status=409, answer={}))
    coordinator.given(stops={1: StopKind.INTERRUPT}, later={3: [STOPPED]}).run()
    assert coordinator.pool.told == [STOP]


def test_an_unreachable_pool_is_asked_again_and_reported_once(coordinator: Coordinator) -> None:
    coordinator.given(BackendError("no answer"), later={6: [OVER]}, step_s=AWAY_WARNING_S / 2)
    assert coordinator.run().exit_code == ExitCode.COMPLETE
    words = [notice.text for notice in coordinator.told if isinstance(notice, Message)]
    assert ["no answer" in text for text in words] == [True, False]


def after(*stops: StopKind | None) -> ShutdownDeadline:
    """Return the deadline after these ends, a second apart, the first at 100 s."""
    known: ShutdownDeadline | None = None
    for second, stop in enumerate(stops):
        known = shutdown_deadline(known, SweepEnd("reason", 0, stop), 100.0 + second, grace_s=GRACE_S)
    assert known is not None
    return known


@pytest.mark.parametrize(
    ("stop", "by"),
    [
        (None, 100 + LEAVE_TIMEOUT_S),
        (StopKind.DRAIN, None),
        (StopKind.INTERRUPT, 100 + GRACE_S + LEAVE_TIMEOUT_S),
        (StopKind.PREEMPT, 100 + GRACE_S + LEAVE_TIMEOUT_S),
        (StopKind.KILL, 100 + LEAVE_TIMEOUT_S),
    ],
)
def test_the_wait_depends_on_the_kind_of_stop(stop: StopKind | None, by: float | None) -> None:
    assert after(stop).by == by


def test_repeated_or_milder_ends_do_not_move_the_deadline() -> None:
    assert after(None, None, None).by == 100 + LEAVE_TIMEOUT_S
    assert after(StopKind.KILL, StopKind.INTERRUPT).ends.stop is StopKind.KILL


def test_a_second_stop_can_only_shorten_the_wait() -> None:
    assert after(StopKind.DRAIN, StopKind.INTERRUPT).by == 101 + GRACE_S + LEAVE_TIMEOUT_S
    assert after(StopKind.INTERRUPT, StopKind.KILL).by == 101 + LEAVE_TIMEOUT_S
    assert after(StopKind.INTERRUPT, None).by == 101 + LEAVE_TIMEOUT_S
    assert after(StopKind.KILL, None).by == 100 + LEAVE_TIMEOUT_S


def test_a_pool_is_empty_once_it_ends_without_nodes_and_all_events_were_received() -> None:
    opened = PoolEvent(1, 0.0, None, "opened", {})
    assert is_empty(news(*[opened] * (AT_ONCE - 1), ends=ALL_DONE, living=0))
    assert not is_empty(news(living=0))
    assert not is_empty(news(ends=ALL_DONE, living=1))
    assert not is_empty(news(*[opened] * AT_ONCE, ends=ALL_DONE, living=0))
