"""`optimize`, `perform` and `start`, with a fake supervisor: what reaches it, and how they end."""

from __future__ import annotations

import io
import os
import pickle
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr
from dataclasses import dataclass, field, replace
from typing import Any, Final

import pytest

from parallel_hpo import Handle, TargetError
from parallel_hpo.analysis.result import SweepResult
from parallel_hpo.api.hpo import ALL, Main, Platform
from parallel_hpo.api.wandb_sweeps import WandbSweeps
from parallel_hpo.cluster.hosted import ClusterChoice
from parallel_hpo.config.section import HpoSection, parse_section
from parallel_hpo.config.tables import MachineEngine, Machines
from parallel_hpo.core.errors import UsageError
from parallel_hpo.core.types import StopKind, Target
from parallel_hpo.count.policy import Launch
from tests.api.supervision import CLEAN, SECTION, FakeSupervisor, hpo, ignore, main
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


def test_optimize_supervises_main_and_shows_and_returns_the_result() -> None:
    fake = FakeSupervisor()
    with redirect_stderr(io.StringIO()) as stderr:
        assert hpo(fake).optimize(main) is RESULT
    assert fake.mains == [main]
    assert "supervised\n" in stderr.getvalue()
    assert "ended: count reached\n" in stderr.getvalue()


def test_optimize_passes_on_the_sweep_to_resume() -> None:
    fake = FakeSupervisor()
    hpo(fake).optimize(main, resume="s1")
    assert fake.launch == Launch(resume="s1")
    hpo(fake).optimize(main, resume="s1", keep_configuration=True)
    assert fake.launch == Launch(resume="s1", keep_configuration=True)
    with pytest.raises(UsageError, match="is only for a resumed sweep"):
        hpo(FakeSupervisor()).optimize(main, keep_configuration=True)


def test_perform_takes_a_target_by_name_shows_nothing_and_raises_no_signal(
    capsys: pytest.CaptureFixture[str],
) -> None:
    fake, target = FakeSupervisor(replace(RESULT, exit_code=130)), Target("train.py", "main")
    assert hpo(fake).perform(target, observer=ignore).exit_code == 130
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


@pytest.mark.parametrize(
    ("host", "words"),
    [
        (Platform({"PARALLEL_HPO_WORKER": "1"}), "inside a worker of a sweep"),
        (Platform({}, platform="win32"), "Windows is not supported"),
    ],
)
def test_a_sweep_inside_a_worker_or_on_windows_is_refused(host: Platform, words: str) -> None:
    for begin in (hpo(host=host).optimize, hpo(host=host).start):
        with pytest.raises(UsageError, match=words):
            begin(main)


def test_a_sweep_can_start_after_a_failed_sweep_or_choice_of_machines() -> None:
    def fail(*_: object) -> None:
        raise UsageError("no")

    failing = hpo(FakeSupervisor(during=fail))
    for one in (failing, WandbSweeps(SECTION, supervise=FakeSupervisor(), choose=fail, host=CLEAN)):
        with pytest.raises(UsageError, match="no"):
            one.optimize(main)
        assert hpo().optimize(main) is RESULT


@pytest.mark.parametrize("action", [signal.default_int_handler, signal.SIG_IGN])
def test_a_sweep_ended_by_sigint_raises_keyboard_interrupt(action: Any) -> None:
    with handler(signal.SIGINT, action), pytest.raises(KeyboardInterrupt):
        ended_by(signal.SIGINT).optimize(main)


def test_the_callers_own_handler_gets_the_signal_again() -> None:
    got: list[int] = []
    with handler(signal.SIGTERM, lambda number, frame: got.append(number)):
        ended_by(signal.SIGTERM).optimize(main)
    assert got == [signal.SIGTERM]


@pytest.mark.parametrize("exit_code", [0, 5, 75, 124, 128])
def test_other_exit_codes_raise_no_signal(exit_code: int) -> None:
    assert hpo(FakeSupervisor(replace(RESULT, exit_code=exit_code))).optimize(main).exit_code == exit_code


SWEEP = {"sweep_configuration": {"method": "random", "parameters": {"lr": {"value": 0.1}}}}


@dataclass
class Calls:
    """Records calls instead of performing them."""

    supervised: int = 0
    led: list[tuple[Machines, bool]] = field(default_factory=list)
    """The machines of each call, and whether an engine was chosen."""

    def supervise(self, *_: Any, **__: Any) -> SweepResult:
        self.supervised += 1
        return RESULT

    def run_on_cluster(self, *_: Any, machines: Machines, make_engine: object, **__: Any) -> SweepResult:
        self.led.append((machines, make_engine is not None))
        return RESULT


def performed(choice: ClusterChoice | None, **section: object) -> Calls:
    """Return the calls of `optimize` with a section and this choice."""
    calls = Calls()
    checked = parse_section({**SWEEP, **section}, origin=lambda key: "c")
    sweeps = WandbSweeps(
        checked,
        supervise=calls.supervise,
        run_on_cluster=calls.run_on_cluster,
        choose=lambda machines: choice,
        host=CLEAN,
    )
    sweeps.perform(main, observer=ignore, launch=ALL)
    return calls


DASK, RAY = ClusterChoice(MachineEngine.DASK), ClusterChoice(MachineEngine.RAY)


@pytest.mark.parametrize(
    ("choice", "keys", "led"),
    [
        (None, None, None),  # this machine
        (DASK, {"engine": "dask"}, (Machines(engine=MachineEngine.DASK), True)),
        (None, {"node_timeout_s": 60}, (Machines(node_timeout_s=60), False)),  # machines that join
        (RAY, None, (Machines(), True)),  # joblib's cluster needs no key
    ],
)
def test_a_sweep_runs_here_or_on_its_configured_machines_or_on_joblibs_cluster(
    choice: ClusterChoice | None, keys: dict[str, object] | None, led: tuple[Machines, bool] | None
) -> None:
    calls = performed(choice, **({} if keys is None else {"machines": keys}))
    assert calls == (Calls(supervised=1) if led is None else Calls(led=[led]))


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


def test_start_returns_while_the_sweep_runs_and_its_handle_has_the_result_later(gate: Gate) -> None:
    fake = FakeSupervisor(during=gate)
    handle = hpo(fake).start(main)
    with pytest.raises(TimeoutError, match=r"still runs after 0\.01 s, and continues"):
        handle.result(timeout=0.01)
    assert not handle.done()
    assert fake.mains == [main]
    gate.open()
    assert handle.result(DEADLINE_S) is RESULT
    assert handle.done()
    assert handle.result() is RESULT


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
def test_a_handles_stop_reaches_the_sweep(gate: Gate, ask: Callable[[Handle], None], kind: StopKind) -> None:
    fake = FakeSupervisor(during=gate)
    handle = hpo(fake).start(main)
    ask(handle)
    assert [stop.kind for stop in fake.controls[0].take()] == [kind]


def test_a_handle_does_not_stop_a_later_sweep(gate: Gate) -> None:
    fake = FakeSupervisor()
    one = hpo(fake)
    first = one.start(main)
    first.result(DEADLINE_S)
    fake.during = gate
    one.start(main)
    first.stop()
    first.drain()
    assert fake.controls[1].take() == []


def test_no_other_sweep_can_start_while_one_is_running(gate: Gate) -> None:
    hpo(FakeSupervisor(during=gate)).start(main)
    for another in (hpo().start, hpo().optimize):
        with pytest.raises(UsageError, match=r"already running in this process.* or stop that"):
            another(main)


def test_start_raises_an_error_about_main() -> None:
    def refuse(section: HpoSection, main: Main, **others: object) -> SweepResult:
        raise TargetError("main can't travel")

    with pytest.raises(TargetError, match="can't travel"):
        hpo(refuse).start(main)
    assert hpo().start(main).result(DEADLINE_S) is RESULT


def test_result_raises_an_error_of_the_running_sweep(gate: Gate) -> None:
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


def test_a_started_sweep_raises_its_own_timeout_error_but_no_signal() -> None:
    def fail() -> None:
        raise TimeoutError("a disk")

    with redirect_stderr(io.StringIO()) as stderr:
        handle = hpo(FakeSupervisor(replace(RESULT, exit_code=130))).start(main)
        assert handle.result(DEADLINE_S).exit_code == 130
    assert "supervised\n" in stderr.getvalue()
    with pytest.raises(TimeoutError, match="a disk"):
        hpo(FakeSupervisor(during=fail)).start(main).result(DEADLINE_S)


def test_an_interactive_prompt_shows_only_the_end_of_a_sweep() -> None:
    typed = "from tests.api.supervision import hpo, main\nhpo().start(main).result().sweep_id\n"
    ended = subprocess.run([sys.executable, "-i", "-q"], input=typed, capture_output=True, text=True)
    assert "'s1'" in ended.stdout, ended.stderr
    assert "supervised" not in ended.stderr
    assert "0 runs in 1.0 s" in ended.stderr


def test_the_repr_of_a_handle_shows_its_state_and_a_pickled_handle_is_none(gate: Gate) -> None:
    handle = hpo(FakeSupervisor(during=gate)).start(main)
    assert repr(handle) == "<Handle of sweep that is starting, running>"
    gate.open()
    handle.result(DEADLINE_S)
    assert repr(handle).endswith(", ended>")
    assert pickle.loads(pickle.dumps(handle)) is None
