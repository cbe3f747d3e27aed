"""A run's parameters and random numbers, and the heartbeats of wandb's agent."""

from __future__ import annotations

import os
import random
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import numpy
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from wandb.sdk.lib import config_util
from wandb.util import load_yaml

from parallel_hpo.worker.agent import (
    SEED_VARIABLE,
    read_index,
    read_parameters,
    seed_random,
    write_parameters,
)
from parallel_hpo.worker.agent_patch import FAILED_BEATS, IDLE_BEATS_S, STOCK_BEAT_S, HeartbeatTimer

VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    # YAML's line breaks are no part of a parameter that wandb itself could pass on.
    | st.text(st.characters(exclude_categories=["Cs", "Cc", "Zl", "Zp"]), max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text("ab.", min_size=1), inner, max_size=3)
    ),
    max_leaves=6,
)
PARAMETERS = st.dictionaries(st.text("abc_./", min_size=1, max_size=6), VALUES, max_size=4)

TRICKY: dict[str, Any] = {
    "lr": 1e-05,
    "large": 1e16,
    "small": 5e-324,
    "word": "1e-05",
    "answer": "yes",
    "date": "2024-01-01",
    "octal": "010",
    "nested": {"layers": [1, 2.5, None], "name": "π: "},
}
"""Values that YAML and JSON read differently."""


@given(PARAMETERS)
@example(TRICKY)
def test_parameters_are_read_as_the_agent_wrote_them(parameters: dict[str, Any]) -> None:
    with TemporaryDirectory() as folder:
        path = Path(folder, "config-run.yaml")
        save: Any = config_util.save_config_file_from_dict
        save(str(path), {name: {"value": value} for name, value in parameters.items()})
        assert read_parameters({"WANDB_SWEEP_PARAM_PATH": str(path)}) == parameters


@given(PARAMETERS)
@example(TRICKY)
def test_wandb_and_we_read_the_parameters_of_another_attempt(parameters: dict[str, Any]) -> None:
    with TemporaryDirectory() as folder:
        path = Path(folder, "wandb", "sweep-abc", "config-run.yaml")
        write_parameters(path, parameters)
        read = load_yaml(path.read_text())
        assert read_parameters({"WANDB_SWEEP_PARAM_PATH": str(path)}) == parameters
    assert read.pop("wandb_version") == 1
    assert {name: entry["value"] for name, entry in read.items()} == parameters


def test_reading_parameters_without_the_agents_file_raises(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read_parameters({"WANDB_SWEEP_PARAM_PATH": str(tmp_path / "nothing.yaml")})


@pytest.fixture
def file(tmp_path: Path) -> Iterator[Path]:
    """The file of a run's parameters; this process is restored."""
    made, state, arrays = tmp_path / "config-r.yaml", random.getstate(), numpy.random.get_state()
    write_parameters(made, {"lr": 0.1})
    os.environ["WANDB_SWEEP_PARAM_PATH"] = str(made)
    yield made
    for name in ("WANDB_SWEEP_PARAM_PATH", SEED_VARIABLE):
        os.environ.pop(name, None)
    random.setstate(state)
    numpy.random.set_state(arrays)


def drawn(seed: int | None) -> tuple[float, float]:
    seed_random(seed)
    return random.random(), float(numpy.random.random())


def test_equal_seeds_give_equal_random_numbers(file: Path) -> None:
    assert drawn(3) == drawn(3)
    assert set(drawn(3)) & set(drawn(4)) == set()
    assert os.environ[SEED_VARIABLE] == "4"


def test_random_numbers_differ_without_a_seed(file: Path) -> None:
    assert set(drawn(None)) & set(drawn(None)) == set()
    assert SEED_VARIABLE not in os.environ


def test_a_named_seed_is_a_parameter(file: Path) -> None:
    seed_random(3)
    assert read_parameters(os.environ) == {"lr": 0.1}
    seed_random(3, parameter="seed")
    assert read_parameters(os.environ) == {"lr": 0.1, "seed": 3}


def test_a_runs_index_is_not_one_of_its_parameters(file: Path) -> None:
    assert read_index(os.environ) is None
    file.write_text("wandb_version: 1\n\nlr:\n  value: 0.1\n  place: 4\n")
    assert (read_index(os.environ), read_parameters(os.environ)) == (4, {"lr": 0.1})


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


@pytest.mark.parametrize("told_first", [True, False])
def test_a_heartbeat_waits_until_the_run_is_over_and_the_agent_has_recorded_it(
    beating: Beating, told_first: bool
) -> None:
    agent = FakeAgent(_run_status={"run": "RUNNING"})
    if told_first:
        beating.pace.run_is_over()
    beat = beating.ask(agent)
    assert not comes_soon(beat)
    agent._run_status["run"] = "DONE"
    if not told_first:
        beating.pace.run_is_over()
    assert beat.result(STOCK_BEAT_S / 2) == 0.0


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
