"""The effects of a pool on a sweep of the same server, and the pool's stored state."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from parallel_hpo.core.messages import SweepEnd
from parallel_hpo.core.pool_messages import Granted, NewPool, NodeLost, PoolNews, as_json, read
from parallel_hpo.core.types import Outcome, StopKind
from parallel_hpo.server import removal
from parallel_hpo.server.context import BURST_S, BYTES_PER_S, MAX_NOTICE_BYTES, MAX_NOTICES, NoticeBuffer
from parallel_hpo.server.rules.runs import RunState
from parallel_hpo.server.services import pool
from parallel_hpo.server.values import RefusedError
from tests.server.pool_requests import TIMEOUT_S, end, machine, new_pool, start, stopped, told
from tests.server.server_logic import Services, grid

DRAIN = SweepEnd("Ctrl-C", 130, StopKind.DRAIN)
NOTICE = {"kind": "Message", "text": "x"}


class PooledSweep:
    """A grid sweep on this server, and machines that work for it."""

    def __init__(self, services: Services) -> None:
        self.services = services
        self.world = services.world
        self.sweep = services.sweep(grid(6))
        self.open(count=4)
        self.number = self.workers = 0

    def open(self, **wanted: Any) -> None:
        pool.open_pool(self.world, self.sweep, new_pool(self.sweep, **{"backend": "local"} | wanted))

    def join(self, name: str, **more: Any) -> int:
        wants = replace(machine(name, mark=f"1_t2_3_{name}"), **more)
        return pool.join(self.world, self.sweep, wants).epoch

    def tell(self, epoch: int, wants: int = 0, **more: Any) -> Granted:
        self.number += 1
        return pool.exchange(self.world, self.sweep, told(epoch, self.number, wants, **more))[0]

    def leave(self, epoch: int) -> None:
        pool.leave(self.world, self.sweep, epoch, "told to go")

    def issued(self, name: str) -> str:
        """Let a new worker of a machine be issued a run."""
        self.workers += 1
        return self.services.issued(self.services.agent(self.sweep, f"1_t2_3_{name}_0_{self.workers}"))

    def begin(self, epoch: int, run: str, attempt: int = 1, **more: Any) -> None:
        self.tell(epoch, wants=1)
        assert self.tell(epoch, starts=(start(run, attempt, **more),)).started == (run,)

    def news(self, event: int = 0, notice: int = 0) -> PoolNews:
        return pool.news(self.world, self.sweep, event, notice)

    @property
    def state(self) -> str:
        return self.services.state(self.sweep)


@pytest.fixture
def together(services: Services) -> PooledSweep:
    return PooledSweep(services)


def test_the_unstarted_run_of_a_lost_machine_is_issued_to_another(together: PooledSweep) -> None:
    services, epoch = together.services, together.join("a")
    begun, never = together.issued("a"), together.issued("a")
    together.begin(epoch, begun)
    services.clock.now += TIMEOUT_S
    other = together.join("b")
    assert [run.run_id for run in together.tell(other, wants=1).again] == [begun]
    assert services.run(begun).state is RunState.RUNNING
    assert together.issued("b") == never
    assert together.issued("b") not in (begun, never)


@pytest.mark.parametrize("how", ["left", "returned"])
def test_an_unstarted_run_of_a_departed_machine_is_issued_to_another(together: PooledSweep, how: str) -> None:
    epoch, never = together.join("a"), together.issued("a")
    together.tell(epoch)
    if how == "left":
        together.leave(epoch)
    else:
        pool.lose(together.world, together.sweep, NodeLost("a", returned=True))
    assert together.issued("b") == never


@pytest.mark.parametrize("sign", ["news", "hint", "stop"])
def test_any_request_of_the_coordinator_counts_as_a_sign_of_life(together: PooledSweep, sign: str) -> None:
    together.open(has_coordinator=True)
    together.services.clock.now += TIMEOUT_S
    if sign == "hint":
        pool.lose(together.world, together.sweep, NodeLost("a", returned=False))
    elif sign == "stop":
        pool.stop(together.world, together.sweep, DRAIN)
    assert together.news().ends == (DRAIN if sign == "stop" else None)


def test_no_machine_is_lost_before_the_server_has_been_up_for_a_lease(together: PooledSweep) -> None:
    world, epoch = together.world, together.join("a")
    together.services.clock.now += TIMEOUT_S
    restarted = replace(world, up_since=together.services.clock.now)
    assert pool.news(restarted, together.sweep, 0, 0).living == 1
    assert together.news().living == 0
    assert not pool.is_alive(world, together.sweep, epoch)


def test_dividing_a_sweep_closes_its_pool_unless_a_machine_has_joined(together: PooledSweep) -> None:
    world, sweep = together.world, together.sweep
    divided = SweepEnd("shares", 2, StopKind.DRAIN)
    pool.divide(world, sweep, divided)
    assert pool.watch(world, sweep, 0).ends == divided
    together.open()
    together.join("a")
    with pytest.raises(RefusedError, match="machines have joined"):
        pool.divide(world, sweep, divided)
    assert pool.watch(world, sweep, 0).ends is None


def test_reopening_a_pool_with_a_larger_count_resumes_its_finished_sweep(together: PooledSweep) -> None:
    together.open(count=1)
    epoch, other, never = together.join("a"), together.join("b"), together.issued("b")
    together.tell(other)
    together.leave(other)
    together.begin(epoch, "r")
    assert together.state == "RUNNING"
    together.tell(epoch, ends=(end("r"),))
    assert together.state == "FINISHED"
    assert together.services.run(never).state is RunState.KILLED, "it was still pending"
    with pytest.raises(RefusedError, match="all 1 runs performed"):
        together.join("c")
    together.open(count=2)
    assert together.state == "RUNNING"
    assert together.tell(epoch, wants=5).granted == 2


def test_reopening_a_pool_does_not_resume_a_cancelled_sweep(together: PooledSweep) -> None:
    together.services.set_state(together.sweep, "CANCELED")
    together.open(count=5)
    assert together.state == "CANCELED"


def test_opening_a_pool_returns_its_progress(together: PooledSweep) -> None:
    epoch = together.join("a")
    for run in "rs":
        together.begin(epoch, run)
    together.tell(epoch, ends=(end("r"),))
    state = pool.open_pool(together.world, together.sweep, new_pool(together.sweep))
    assert (state.started, state.ended, state.living, state.events) == (2, 1, 1, 6)


def test_removing_a_sweep_removes_its_pool(together: PooledSweep) -> None:
    epoch = together.join("a")
    together.begin(epoch, "r")
    together.tell(epoch, notices=(NOTICE,))
    removal.remove_sweep(together.world, together.sweep)
    with pytest.raises(RefusedError, match="has no pool here"):
        pool.facts(together.world, together.sweep)
    with pytest.raises(RefusedError, match="has no pool here"):
        together.news()
    assert not pool.is_alive(together.world, together.sweep, epoch)
    assert together.world.notices.after(together.sweep, 0) == ((), 0)


def test_news_contain_only_events_and_notices_after_the_known_ones(together: PooledSweep) -> None:
    epoch = together.join("a")
    together.begin(epoch, "r")
    together.tell(epoch, notices=(NOTICE,))
    first = together.news()
    assert [event.kind for event in first.events] == ["opened", "joined", "started"]
    assert first.events[2].body["run"]["parameters"] == {"x": 1}
    assert first.notices == ((1, epoch, NOTICE),)
    assert (first.running, first.living) == (1, 1)
    together.tell(epoch, ends=(end("r", outcome=Outcome.CRASHED, final=False),))
    assert together.news().running == 0, "the run is between two attempts"
    second = together.news(first.events[-1].number, first.notice_number)
    assert [event.kind for event in second.events] == ["attempt_ended"]
    assert second.notices == ()


def test_notices_of_a_node_that_has_left_are_dropped(together: PooledSweep) -> None:
    epoch = together.join("a")
    together.leave(epoch)
    assert together.tell(epoch, notices=(NOTICE,)).gone
    assert together.news().notices == ()


def test_the_counts_and_the_seed_of_a_requeued_run_are_stored_in_the_database(together: PooledSweep) -> None:
    epoch = together.join("a")
    together.begin(epoch, "r", 3, spent_s=7.5, deaths=2, preemptions=1, seed=2**31 - 1)
    together.tell(epoch, ends=(stopped("r", 3),))
    (again,) = together.tell(epoch, wants=1).again
    assert (again.attempt, again.spent_s, again.deaths, again.preemptions) == (4, 7.5, 2, 1)
    assert again.seed == 2**31 - 1


def test_the_request_that_opened_a_pool_is_stored_unchanged(together: PooledSweep) -> None:
    wanted = new_pool(
        together.sweep,
        section={"workers": 2, "failures": {"max_total": 3}},
        configuration={"method": "random"},
        main="x",
    )
    pool.open_pool(together.world, together.sweep, wanted)
    assert read(NewPool, json.loads(pool.facts(together.world, together.sweep))) == wanted


@pytest.mark.parametrize(
    "section", [{"failures": {"max_total": 0}}, {"failures": {"most": 1}}, {"sweep_timeout_s": "soon"}]
)
def test_invalid_limits_are_refused_and_open_no_pool(services: Services, section: dict[str, Any]) -> None:
    with pytest.raises(RefusedError, match=f"NewPool.section.{next(iter(section))}"):
        pool.open_pool(services.world, "s", new_pool(section=section))
    with pytest.raises(RefusedError, match="has no pool here"):
        pool.facts(services.world, "s")


def test_the_deadline_and_the_durations_of_runs_are_stored_in_the_database(together: PooledSweep) -> None:
    together.open(count=50, section={"deadline": 40}, has_coordinator=True)
    epoch = together.join("a")
    together.begin(epoch, "first")
    together.tell(epoch, ends=(end("first", duration_s=20.0),))
    assert together.tell(epoch).each == 2
    together.services.clock.now += 25
    assert "no run starts" in str(together.tell(epoch, wants=1).ends)


def test_without_a_coordinator_only_the_deadlines_of_machines_apply(together: PooledSweep) -> None:
    together.open(section={"deadline": 5})
    epoch, brief = together.join("a"), together.join("b", deadline_s=5.0)
    together.services.clock.now += 10
    assert together.tell(epoch, wants=1).ends is None
    assert "deadline of this machine" in str(together.tell(brief, wants=1).ends)


def test_a_refused_machine_is_recorded_as_an_event(together: PooledSweep) -> None:
    wants = as_json(machine("odd"))
    wants["versions"]["wandb"] = "0.1"
    with pytest.raises(RefusedError, match=r"wandb 0\.1 there"):
        pool.join(together.world, together.sweep, read(type(machine()), wants))
    event = together.news(event=1).events[0]
    assert (event.kind, event.body["name"]) == ("refused", "odd")


def test_notices_of_a_node_are_rate_limited() -> None:
    board, notice = NoticeBuffer(), {"text": "x" * 10_000}
    burst = int(BYTES_PER_S * BURST_S / 10_000)
    board.post("s", 1, [notice] * 200, now=0.0)
    kept = board.after("s", 0)[1]
    assert burst - 2 <= kept <= burst
    board.post("s", 1, [notice], now=0.0)
    board.post("s", 2, [notice], now=0.0)
    assert board.after("s", 0)[1] == kept + 1, "one node's flood does not affect another"
    board.post("s", 1, [notice], now=1.0)
    assert board.after("s", 0)[1] == kept + 2


def test_the_newest_notices_are_kept_and_a_huge_one_is_dropped() -> None:
    board = NoticeBuffer()
    for number in range(MAX_NOTICES + 5):
        board.post("s", number, [{}], now=0.0)
    notices, last = board.after("s", 0)
    assert (len(notices), notices[0][1], last) == (MAX_NOTICES, 5, MAX_NOTICES + 5)
    board.post("s", 1, [{"text": "x" * MAX_NOTICE_BYTES}], now=0.0)
    assert board.after("s", last) == ((), last)
    assert board.after("s", last + 400)[0] == notices, "the number is from before a restart"
