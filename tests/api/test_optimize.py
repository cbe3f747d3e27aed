from __future__ import annotations

import io
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr
from dataclasses import replace
from types import FrameType
from typing import Any

import pytest

from parallel_hpo.analysis.result import SweepResult
from parallel_hpo.api.hpo import Platform
from parallel_hpo.api.wandb_sweeps import WandbSweeps
from parallel_hpo.core.errors import UsageError
from parallel_hpo.core.types import StopKind, Target
from parallel_hpo.count.policy import Launch
from tests.api.supervision import FakeSupervisor, hpo, ignore, main
from tests.results import RESULT


@contextmanager
def handler(number: signal.Signals, action: Any) -> Iterator[None]:
    before = signal.signal(number, action)
    try:
        yield
    finally:
        signal.signal(number, before)


def ended_by(number: signal.Signals) -> WandbSweeps:
    return hpo(FakeSupervisor(replace(RESULT, exit_code=128 + number)))


def test_optimize_supervises_main_and_returns_the_result() -> None:
    fake = FakeSupervisor()
    assert hpo(fake).optimize(main) is RESULT
    assert fake.mains == [main]


def test_optimize_passes_on_the_sweep_to_resume() -> None:
    fake = FakeSupervisor()
    hpo(fake).optimize(main, resume="s1")
    assert fake.launch == Launch(resume="s1")
    hpo(fake).optimize(main, resume="s1", keep_configuration=True)
    assert fake.launch == Launch(resume="s1", keep_configuration=True)


def test_keeping_the_configuration_needs_a_resumed_sweep() -> None:
    with pytest.raises(UsageError, match="is only for a resumed sweep"):
        hpo(FakeSupervisor()).optimize(main, keep_configuration=True)


def test_optimize_shows_the_sweep_and_its_result_on_stderr() -> None:
    with redirect_stderr(io.StringIO()) as stderr:
        hpo().optimize(main)
    assert "supervised\n" in stderr.getvalue()
    assert "ended: count reached\n" in stderr.getvalue()


def test_perform_takes_a_target_by_name_and_shows_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    fake, target = FakeSupervisor(), Target("train.py", "main")
    hpo(fake).perform(target, observer=ignore)
    assert fake.mains == [target]
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("ask", "kind"), [(WandbSweeps.interrupt, StopKind.INTERRUPT), (WandbSweeps.drain, StopKind.DRAIN)]
)
def test_a_stop_from_another_thread_reaches_the_sweep(
    ask: Callable[[WandbSweeps], None], kind: StopKind
) -> None:
    fake = FakeSupervisor()
    one = hpo(fake)
    asked: list[StopKind] = []

    def ask_and_look() -> None:
        thread = threading.Thread(target=ask, args=(one,))
        thread.start()
        thread.join()
        asked.extend(stop.kind for stop in fake.controls[0].take())

    fake.during = ask_and_look
    one.optimize(main)
    assert asked == [kind]


def test_a_stop_without_a_sweep_has_no_effect_on_the_next_one() -> None:
    fake = FakeSupervisor()
    one = hpo(fake)
    one.interrupt()
    one.optimize(main)
    one.drain()
    fake.during = lambda: asked.extend(fake.controls[-1].take())
    asked: list[object] = []
    one.optimize(main)
    assert asked == []


def test_inside_a_worker_optimize_is_refused() -> None:
    with pytest.raises(UsageError, match="inside a worker of a sweep"):
        hpo(host=Platform({"PARALLEL_HPO_WORKER": "1"})).optimize(main)


def test_on_windows_optimize_is_refused() -> None:
    with pytest.raises(UsageError, match="Windows is not supported"):
        hpo(host=Platform({}, platform="win32")).optimize(main)


def test_a_second_optimize_while_one_runs_is_refused() -> None:
    refusals: list[UsageError] = []

    def again() -> None:
        with pytest.raises(UsageError, match="already running in this process") as caught:
            hpo().optimize(main)
        refusals.append(caught.value)

    hpo(FakeSupervisor(during=again)).optimize(main)
    assert len(refusals) == 1


def test_a_sweep_may_follow_a_failed_one() -> None:
    def fail() -> None:
        raise UsageError("no")

    with pytest.raises(UsageError, match="no"):
        hpo(FakeSupervisor(during=fail)).optimize(main)
    assert hpo().optimize(main) is RESULT


def test_a_sweep_ended_by_sigint_raises_keyboard_interrupt() -> None:
    with pytest.raises(KeyboardInterrupt):
        ended_by(signal.SIGINT).optimize(main)


def test_a_sweep_ended_by_sigint_ends_a_script_that_ignores_sigint_too() -> None:
    with handler(signal.SIGINT, signal.SIG_IGN), pytest.raises(KeyboardInterrupt):
        ended_by(signal.SIGINT).optimize(main)


def test_the_callers_own_handler_gets_the_signal_again() -> None:
    got: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        got.append(number)

    with handler(signal.SIGTERM, note):
        ended_by(signal.SIGTERM).optimize(main)
    assert got == [signal.SIGTERM]


def test_perform_raises_no_signal() -> None:
    assert ended_by(signal.SIGINT).perform(main, observer=ignore).exit_code == 130


def test_off_the_main_thread_no_signal_is_raised() -> None:
    results: list[SweepResult] = []
    thread = threading.Thread(target=lambda: results.append(ended_by(signal.SIGINT).optimize(main)))
    thread.start()
    thread.join()
    assert results[0].exit_code == 130


@pytest.mark.parametrize("exit_code", [0, 5, 75, 124, 128])
def test_other_ends_raise_nothing(exit_code: int) -> None:
    assert hpo(FakeSupervisor(replace(RESULT, exit_code=exit_code))).optimize(main).exit_code == exit_code
