"""Requests to a sweep's server: their order, the messages about failed ones, and the steps of programs."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from unittest.mock import call, create_autospec

import pytest

from parallel_hpo.client.base import Backend
from parallel_hpo.core.errors import BackendError
from parallel_hpo.core.messages import Progress
from parallel_hpo.core.notices import Message, Notice
from parallel_hpo.core.types import Outcome, RunId, Slot, StopKind, SweepId, SweepPath
from parallel_hpo.session.decide.events import StopAsked, SweepSeen
from parallel_hpo.session.program_steps import ProgramSteps
from parallel_hpo.session.server_calls import ServerCalls, last_run_folder
from parallel_hpo.session.signals import Control
from parallel_hpo.session.waiting import StopAware, StoppedError

PATH: Final = SweepPath("me", "project", SweepId("s1"))
RUN: Final = RunId("run1")
AWAY: Final = BackendError("no network")


@dataclass
class Line:
    """The calls to a server, with their notices and answers."""

    folder: Path
    backend: Any = field(default_factory=lambda: create_autospec(Backend, instance=True))
    told: list[Notice] = field(default_factory=list)
    seen: list[SweepSeen] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.calls = ServerCalls(
            self.backend, PATH, folder=self.folder, observer=self.told.append, post=self.seen.append
        )

    def answers_by(self, act: Exception | Callable[..., object]) -> None:
        """Let the backend do this at any request."""
        for name in ("end_reason", "end_run", "send_rest", "finish_sweep"):
            getattr(self.backend, name).side_effect = act

    def asked(self) -> list[Any]:
        """Return the requests to the backend, once all have been made."""
        self.calls.close()
        return list(self.backend.method_calls)


@pytest.fixture
def line(tmp_path: Path) -> Line:
    return Line(tmp_path)


def make_run_folder(sweep_folder: Path, slot: int = 0, stamp: str = "20260101_000000") -> Path:
    folder = sweep_folder / f"worker-{slot}" / "wandb" / f"run-{stamp}-{RUN}"
    folder.mkdir(parents=True)
    return folder


@pytest.mark.parametrize("send_rest", [True, False], ids=["for good", "to be run again"])
def test_unsent_data_of_a_dead_run_is_sent_before_its_end(line: Line, send_rest: bool) -> None:
    folder = make_run_folder(line.folder)
    line.calls.end_run(RUN, "crashed", send_rest=send_rest)
    sent = [call.send_rest(folder)] if send_rest else []
    assert line.asked() == [*sent, call.end_run(PATH, RUN, "crashed")]
    assert line.told == []


def test_the_last_attempt_is_the_newest_folder_of_any_slot(tmp_path: Path) -> None:
    make_run_folder(tmp_path, 0, "20260101_000001")
    newest = make_run_folder(tmp_path, 1, "20260101_000002")
    make_run_folder(tmp_path, 2, "20251231_000003")
    assert last_run_folder(tmp_path, RUN) == newest
    assert last_run_folder(tmp_path, RunId("another")) is None


def test_unsent_data_is_reported_with_its_folder_and_the_command_to_send_it(line: Line) -> None:
    folder = make_run_folder(line.folder)
    line.answers_by(AWAY)
    line.calls.end_run(RUN, "crashed", send_rest=True)
    line.asked()
    assert line.told == [
        Message(
            f"run {RUN}: its last data was not sent (no network);"
            f" send it by: wandb sync --include-online {folder}",
            warning=True,
        ),
        Message("the sweep server did not answer: no network", warning=True),
    ]


def test_only_ends_left_unreported_by_an_earlier_launch_are_reported(line: Line) -> None:
    states = {"lost": "running", "known": "crashed", "again": "running", "strange": "crashed"}
    line.backend.unconfirmed_runs.return_value = states
    ended = {"lost": Outcome.CRASHED, "known": Outcome.CRASHED, "strange": Outcome.FINISHED}
    line.calls.report_earlier_ends({RunId(name): outcome for name, outcome in ended.items()})
    assert line.asked() == [
        call.unconfirmed_runs(PATH),
        call.end_run(PATH, "lost", "crashed"),
        call.end_run(PATH, "strange", "finished"),
    ]


def test_offline_data_is_sent_before_an_end_that_the_run_could_not_report(line: Line) -> None:
    line.calls.report_end(RUN, None, [line.folder / "offline-run-1"])
    line.calls.report_end(RUN, Outcome.FINISHED, [])
    sent = call.send_rest(line.folder / "offline-run-1")
    assert line.asked() == [sent, call.end_run(PATH, RUN, "finished")]


@pytest.mark.parametrize(
    ("answer", "seen"), [(lambda path: "the sweep is finished", "the sweep is finished"), (AWAY, "")]
)
def test_a_sweep_is_known_to_be_over_if_its_server_is_reachable(line: Line, answer: Any, seen: str) -> None:
    line.answers_by(answer)
    line.calls.ask_sweep()
    line.asked()
    assert line.seen == [SweepSeen(seen)]


@dataclass
class Silence:
    """A server that does not answer before `over` is set."""

    begun: threading.Event = field(default_factory=threading.Event)
    over: threading.Event = field(default_factory=threading.Event)

    def __call__(self, *asked: object) -> None:
        self.begun.set()
        self.over.wait()
        raise AWAY


@pytest.fixture
def silence(line: Line) -> Iterator[Silence]:
    silence = Silence()
    line.answers_by(silence)
    yield silence
    silence.over.set()


@pytest.mark.usefixtures("silence")
def test_requests_cut_off_by_a_stop_are_reported_in_one_message(line: Line) -> None:
    for number in range(7):
        line.calls.end_run(RunId(f"run{number}"), "killed", send_rest=False)
    line.calls.finish_sweep()
    with closing(Control()) as control:
        control.put(StopAsked(StopKind.INTERRUPT, "SIGINT", 130))
        with pytest.raises(StoppedError):
            line.calls.flush(StopAware(control, grace_s=0))
        line.calls.close()
    ends = ", ".join(f"the end of run run{number}" for number in range(5))
    words = f"the sweep server did not receive {ends} and 3 more: --resume reports the ends"
    assert line.told == [Message(words, warning=True)]


@pytest.mark.parametrize("request_of", [ServerCalls.ask_sweep, ServerCalls.finish_sweep])
def test_no_message_or_event_follows_a_close_that_timed_out(
    line: Line, silence: Silence, request_of: Callable[[ServerCalls], None]
) -> None:
    request_of(line.calls)
    silence.begun.wait()
    line.calls.close(within_s=0)
    line.told.clear()
    silence.over.set()
    line.calls.close()
    assert (line.told, line.seen) == ([], [])


def test_only_changed_steps_are_reported_and_an_unreachable_server_is_asked_again() -> None:
    first, second = (Progress(RunId("one"), step, None, None, "loss", 0.5) for step in (3, 4))
    answers: list[Sequence[tuple[Slot, Progress]] | BackendError]
    answers = [[(Slot(0), first)], AWAY, [(Slot(0), first)], [(Slot(0), second)]]
    told, enough = list[tuple[Slot, Progress]](), threading.Event()

    def ask() -> Sequence[tuple[Slot, Progress]]:
        answer = answers.pop(0)
        if isinstance(answer, BackendError):
            raise answer
        return answer

    def tell(slot: Slot, progress: Progress) -> None:
        told.append((slot, progress))
        if not answers:
            steps.close()
            enough.set()

    steps = ProgramSteps(ask, tell, every_s=0.001)
    steps.start()
    assert enough.wait(30)
    steps.join(30)
    assert told == [(Slot(0), first), (Slot(0), second)]
