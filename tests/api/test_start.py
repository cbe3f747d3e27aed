from __future__ import annotations

import io
import os
import pickle
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr
from dataclasses import replace
from typing import Final

import pytest

from parallel_hpo import Handle, SweepResult, TargetError, UsageError
from parallel_hpo.api.hpo import Main
from parallel_hpo.config.section import HpoSection
from parallel_hpo.core.types import StopKind
from tests.api.supervision import FakeSupervisor, hpo, main
from tests.results import RESULT

DEADLINE_S: Final = 30.0


class Gate:
    """Blocks a sweep until it is opened."""

    def __init__(self) -> None:
        self._open = threading.Event()
        self.reached = threading.Event()

    def __call__(self) -> None:
        self.reached.set()
        assert self._open.wait(DEADLINE_S)

    def open(self) -> None:
        self._open.set()


@pytest.fixture
def gate() -> Iterator[Gate]:
    """A gate that is opened at the end, so that no sweep is left."""
    made = Gate()
    yield made
    made.open()
    for thread in threading.enumerate():
        if thread.name == "parallel_hpo sweep":
            thread.join(DEADLINE_S)


def test_start_returns_while_the_sweep_runs_and_its_handle_has_the_result(gate: Gate) -> None:
    fake = FakeSupervisor(during=gate)
    handle = hpo(fake).start(main)
    assert not handle.done()
    assert fake.mains == [main]
    gate.open()
    assert handle.result(DEADLINE_S) is RESULT
    assert handle.done()
    assert handle.result() is RESULT


def test_a_late_result_is_a_timeout(gate: Gate) -> None:
    handle = hpo(FakeSupervisor(during=gate)).start(main)
    with pytest.raises(TimeoutError, match=r"still runs after 0\.01 s, and continues"):
        handle.result(timeout=0.01)
    gate.open()
    assert handle.result(DEADLINE_S) is RESULT


def test_an_interrupted_wait_leaves_the_sweep_running(gate: Gate) -> None:
    fake = FakeSupervisor(during=gate)
    handle = hpo(fake).start(main)
    threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGINT)).start()
    with pytest.raises(KeyboardInterrupt):
        handle.result(DEADLINE_S)
    assert not handle.done()
    assert fake.controls[0].take() == []
    gate.open()
    assert handle.result(DEADLINE_S) is RESULT


@pytest.mark.parametrize(("ask", "kind"), [(Handle.stop, StopKind.INTERRUPT), (Handle.drain, StopKind.DRAIN)])
def test_an_early_stop_reaches_the_sweep(gate: Gate, ask: Callable[[Handle], None], kind: StopKind) -> None:
    fake = FakeSupervisor(during=gate)
    handle = hpo(fake).start(main)
    ask(handle)
    assert [stop.kind for stop in fake.controls[0].take()] == [kind]


def test_a_handle_stops_no_later_sweep_of_its_hpo(gate: Gate) -> None:
    fake = FakeSupervisor()
    one = hpo(fake)
    first = one.start(main)
    first.result(DEADLINE_S)
    fake.during = gate
    one.start(main)
    first.stop()
    first.drain()
    assert fake.controls[1].take() == []


def test_no_other_sweep_may_start_while_a_handle_runs(gate: Gate) -> None:
    hpo(FakeSupervisor(during=gate)).start(main)
    for another in (hpo().start, hpo().optimize):
        with pytest.raises(UsageError, match=r"already running in this process.* or stop that"):
            another(main)


def test_start_raises_errors_of_main() -> None:
    def refuse(section: HpoSection, main: Main, **others: object) -> SweepResult:
        raise TargetError("main can't travel")

    with pytest.raises(TargetError, match="can't travel"):
        hpo(refuse).start(main)
    assert hpo().start(main).result(DEADLINE_S) is RESULT


def test_result_raises_later_errors(gate: Gate) -> None:
    def fail() -> None:
        gate()
        raise UsageError("no")

    with redirect_stderr(io.StringIO()) as stderr:
        handle = hpo(FakeSupervisor(during=fail)).start(main)
        gate.open()
        for _ in range(2):
            with pytest.raises(UsageError, match="no"):
                handle.result(DEADLINE_S)
    assert handle.done()
    assert (handle.best, handle.runs) == (None, ())
    assert "the sweep ended with an error: no" in stderr.getvalue()


def test_a_started_sweep_ends_with_its_own_timeout_error_and_no_signal() -> None:
    def fail() -> None:
        raise TimeoutError("a disk")

    with redirect_stderr(io.StringIO()) as stderr:
        assert (
            hpo(FakeSupervisor(replace(RESULT, exit_code=130))).start(main).result(DEADLINE_S).exit_code
            == 130
        )
    assert "supervised\n" in stderr.getvalue()
    with pytest.raises(TimeoutError, match="a disk"):
        hpo(FakeSupervisor(during=fail)).start(main).result(DEADLINE_S)


def test_at_a_prompt_only_the_end_is_shown() -> None:
    typed = "from tests.api.supervision import hpo, main\nhpo().start(main).result().sweep_id\n"
    ended = subprocess.run([sys.executable, "-i", "-q"], input=typed, capture_output=True, text=True)
    assert "'s1'" in ended.stdout, ended.stderr
    assert "supervised" not in ended.stderr
    assert "0 runs in 1.0 s" in ended.stderr


def test_a_handle_shows_its_sweep_and_state_and_becomes_none_in_a_worker(gate: Gate) -> None:
    handle = hpo(FakeSupervisor(during=gate)).start(main)
    assert repr(handle) == "<Handle of sweep that is starting, running>"
    gate.open()
    handle.result(DEADLINE_S)
    assert repr(handle).endswith(", ended>")
    assert pickle.loads(pickle.dumps(handle)) is None
