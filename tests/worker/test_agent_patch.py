from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Final

import pytest

from parallel_hpo.worker.agent_patch import FAILED_BEATS, IDLE_BEATS_S, STOCK_BEAT_S, HeartbeatTimer

DEADLINE_S: Final = 10.0
SOON_S: Final = 0.1
"""Time to wait for a heartbeat that must not come, in seconds."""


@dataclass
class FakeAgent:
    """The agent's internals that the timer uses."""

    _count: int | None = None
    _run_status: dict[str, str] = field(default_factory=dict)
    _exit_flag: bool = False


class Beating:
    """An agent's heartbeat thread, as it reads how long to sleep."""

    def __init__(self, pool: ThreadPoolExecutor) -> None:
        self.pace = HeartbeatTimer()
        self._pool = pool
        self._agents: list[object] = []

    def ask(self, agent: object) -> Future[float]:
        self._agents.append(agent)
        return self._pool.submit(self.pace.__get__, agent, type(agent))

    def end(self) -> None:
        """End every wait, so that a failed test does not hang."""
        for agent in self._agents:
            if isinstance(agent, FakeAgent):
                agent._exit_flag = True


@pytest.fixture
def beating() -> Iterator[Beating]:
    with ThreadPoolExecutor(max_workers=1) as pool:
        beating = Beating(pool)
        yield beating
        beating.end()


def comes_soon(beat: Future[float]) -> bool:
    """Return whether a heartbeat comes soon."""
    came = threading.Event()
    beat.add_done_callback(lambda _: came.set())
    return came.wait(SOON_S)


@pytest.mark.parametrize(
    ("agent", "pace_s"),
    [
        (FakeAgent(), 0.0),
        (FakeAgent(_count=2, _run_status={"run": "DONE"}), 0.0),  # has more runs to do
        (object(), STOCK_BEAT_S),  # other internals
    ],
)
def test_an_agent_that_may_get_a_run_sends_a_heartbeat_at_once(
    beating: Beating, agent: object, pace_s: float
) -> None:
    assert beating.ask(agent).result(DEADLINE_S) == pace_s
    assert HeartbeatTimer().__get__(None, FakeAgent) == STOCK_BEAT_S


def test_heartbeats_of_an_idle_agent_slow_down(beating: Beating) -> None:
    agent = FakeAgent()
    for wait_s in IDLE_BEATS_S[:3]:
        began = time.monotonic()
        beating.ask(agent).result(DEADLINE_S)
        assert time.monotonic() - began >= wait_s
    assert sorted(IDLE_BEATS_S) == list(IDLE_BEATS_S)


def test_there_is_no_early_heartbeat_during_a_run(beating: Beating) -> None:
    agent = FakeAgent(_run_status={"run": "RUNNING"})
    beat = beating.ask(agent)
    assert not comes_soon(beat)
    agent._run_status["run"] = "DONE"
    beating.pace.run_is_over()
    assert beat.result(STOCK_BEAT_S / 2) == 0.0


def test_a_heartbeat_waits_until_the_agent_has_noted_its_runs_end(beating: Beating) -> None:
    agent = FakeAgent(_run_status={"run": "RUNNING"})
    beating.pace.run_is_over()
    beat = beating.ask(agent)
    assert not comes_soon(beat)
    agent._run_status["run"] = "DONE"
    assert beat.result(DEADLINE_S) == 0.0


def test_an_agent_with_all_its_runs_done_sends_no_heartbeat(beating: Beating) -> None:
    agent = FakeAgent(_count=1, _run_status={"run": "DONE"})
    beat = beating.ask(agent)
    assert not comes_soon(beat)
    agent._exit_flag = True
    assert beat.result(DEADLINE_S) == 0.0


def test_an_answered_heartbeat_reports_the_agent_as_alive(beating: Beating) -> None:
    beats: list[str] = []
    beating.pace.on_idle_beat = lambda: beats.append("alive")
    beating.ask(FakeAgent()).result(DEADLINE_S)
    assert beats == ["alive"]


def test_an_agent_whose_heartbeats_keep_failing_is_reported_lost_once(beating: Beating) -> None:
    agent, error = FakeAgent(), OSError("no descriptor")
    lost: list[BaseException] = []
    beating.pace.on_lost = lost.append

    def beat(*, fails: bool = True) -> None:
        if fails:
            beating.pace.note_failure(error)
        agent.__dict__["idle_beats"] = 0  # or this would take long
        beating.ask(agent).result(DEADLINE_S)

    for fails in (*[True] * (FAILED_BEATS - 1), False, *[True] * (FAILED_BEATS - 1)):
        beat(fails=fails)  # an answered one resets the failures
    assert lost == []
    beat()
    beat()
    assert lost == [error]
