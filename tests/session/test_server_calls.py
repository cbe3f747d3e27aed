"""The line to the server, over a backend that records what it is asked and fails where it is told to."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from parallel_hpo.client.base import OpenedSweep, RunCall, SweepRequest
from parallel_hpo.core.errors import BackendError
from parallel_hpo.core.messages import Progress
from parallel_hpo.core.notices import Message, Notice
from parallel_hpo.core.types import Outcome, RunId, Slot, StopKind, SweepId, SweepPath
from parallel_hpo.session.decide.events import StopAsked, SweepSeen
from parallel_hpo.session.server_calls import ServerCalls, last_run_folder
from parallel_hpo.session.signals import Control
from parallel_hpo.session.waiting import StopAware, StoppedError

PATH = SweepPath("me", "project", SweepId("s1"))
RUN = RunId("run1")


@dataclass
class RecordingBackend:
    """Keeps what it is asked, in order; fails all of it with `error`."""

    error: str = ""
    asked: list[tuple[str, ...]] = field(default_factory=list)
    open_runs: dict[RunId, str] = field(default_factory=dict)
    name = title = "recording"
    keeps_login = False

    def _take(self, *words: str) -> None:
        self.asked.append(words)
        if self.error:
            raise BackendError(self.error)

    def open(
        self,
        on_lost: Callable[[str], None] = lambda why: None,
        on_trouble: Callable[[str], None] = lambda why: None,
    ) -> None:
        self._take("open")

    def open_sweep(self, order: SweepRequest, run_call: RunCall) -> OpenedSweep:
        return OpenedSweep(PATH, "", {})

    def use_for(self, path: SweepPath, run_call: RunCall) -> None:
        raise NotImplementedError

    def address_for_people(self, url: str) -> str:
        return url

    def client_environment(self, label: str) -> Mapping[str, str]:
        return {}

    def end_reason(self, path: SweepPath) -> str:
        self._take("end_reason")
        return "the sweep is finished"

    def requeue_runs(self, path: SweepPath, label: str, keep: Sequence[RunId]) -> None:
        self._take("requeue_runs", label, *keep)

    def end_run(self, path: SweepPath, run_id: RunId, state: str) -> None:
        self._take("end_run", run_id, state)

    def unconfirmed_runs(self, path: SweepPath) -> Mapping[RunId, str]:
        self._take("unconfirmed_runs")
        return self.open_runs

    def steps(self, path: SweepPath) -> Sequence[tuple[Slot, Progress]]:
        return ()

    def send_rest(self, folder: Path) -> None:
        self._take("send_rest", folder.name)

    def phantoms(self, path: SweepPath, known: Collection[RunId]) -> Sequence[str]:
        return ()

    def finish_sweep(self, path: SweepPath) -> None:
        self._take("finish_sweep")

    def close(self) -> None:
        self._take("close")


@dataclass
class Line:
    """A server_calls with all that comes out of it."""

    folder: Path
    backend: RecordingBackend = field(default_factory=RecordingBackend)
    told: list[Notice] = field(default_factory=list)
    seen: list[SweepSeen] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.server_calls = ServerCalls(
            self.backend, PATH, folder=self.folder, observer=self.told.append, post=self.seen.append
        )

    def asked(self) -> list[tuple[str, ...]]:
        """Return what the backend was asked, once all of it has been."""
        self.server_calls.close()
        return self.backend.asked


def make_run_folder(sweep_folder: Path, slot: int, stamp: str) -> Path:
    folder = sweep_folder / f"worker-{slot}" / "wandb" / f"run-{stamp}-{RUN}"
    folder.mkdir(parents=True)
    return folder


def test_the_rest_of_a_dead_run_is_sent_before_its_end(tmp_path: Path) -> None:
    folder = make_run_folder(tmp_path, 0, "20260101_000000")
    line = Line(tmp_path)
    line.server_calls.end_run(RUN, "crashed", send_rest=True)
    assert line.asked() == [("send_rest", folder.name), ("end_run", RUN, "crashed")]
    assert line.told == []


def test_of_a_run_that_is_run_again_nothing_is_sent(tmp_path: Path) -> None:
    make_run_folder(tmp_path, 0, "20260101_000000")
    line = Line(tmp_path)
    line.server_calls.end_run(RUN, "killed", send_rest=False)
    assert line.asked() == [("end_run", RUN, "killed")]


def test_the_last_attempt_is_the_newest_folder_of_any_slot(tmp_path: Path) -> None:
    make_run_folder(tmp_path, 0, "20260101_000001")
    newest = make_run_folder(tmp_path, 1, "20260101_000002")
    make_run_folder(tmp_path, 2, "20251231_000003")
    assert last_run_folder(tmp_path, RUN) == newest
    assert last_run_folder(tmp_path, RunId("another")) is None


def test_what_could_not_be_sent_is_named_with_its_folder_and_the_command(tmp_path: Path) -> None:
    folder = make_run_folder(tmp_path, 0, "20260101_000000")
    line = Line(tmp_path, RecordingBackend(error="no network"))
    line.server_calls.end_run(RUN, "crashed", send_rest=True)
    line.asked()
    (first, second) = line.told
    assert first == Message(
        f"run {RUN}: its last data was not sent (no network);"
        f" send it by: wandb sync --include-online {folder}",
        warning=True,
    )
    assert second == Message("the sweep server did not answer: no network", warning=True)


def test_only_ends_that_an_earlier_launch_could_not_report_are_reported(tmp_path: Path) -> None:
    states = {"lost": "running", "known": "crashed", "again": "running", "strange": "crashed"}
    backend = RecordingBackend(open_runs={RunId(name): state for name, state in states.items()})
    line = Line(tmp_path, backend)
    ended = {RunId("lost"): Outcome.CRASHED, RunId("known"): Outcome.CRASHED}
    line.server_calls.report_earlier_ends(ended | {RunId("strange"): Outcome.FINISHED})
    assert line.asked() == [
        ("unconfirmed_runs",),
        ("end_run", "lost", "crashed"),
        ("end_run", "strange", "finished"),
    ]


def test_offline_data_is_sent_and_then_an_end_that_the_run_could_not_report(tmp_path: Path) -> None:
    line = Line(tmp_path)
    line.server_calls.report_end(RUN, None, [tmp_path / "offline-run-1"])
    line.server_calls.report_end(RUN, Outcome.FINISHED, [])
    assert line.asked() == [("send_rest", "offline-run-1"), ("end_run", RUN, "finished")]


def test_a_server_that_is_away_does_not_end_the_sweep(tmp_path: Path) -> None:
    line = Line(tmp_path, RecordingBackend(error="no network"))
    line.server_calls.ask_sweep()
    line.asked()
    assert line.seen == [SweepSeen("")]


def test_a_sweep_that_is_over_is_seen_as_such(tmp_path: Path) -> None:
    line = Line(tmp_path)
    line.server_calls.ask_sweep()
    line.asked()
    assert line.seen == [SweepSeen("the sweep is finished")]


class HangingBackend(RecordingBackend):
    """Never answers."""

    def __init__(self) -> None:
        super().__init__()
        self.let_go = threading.Event()

    def _take(self, *words: str) -> None:
        super()._take(*words)
        self.let_go.wait()


def test_what_a_stop_leaves_no_time_to_tell_is_said_in_one_line(tmp_path: Path) -> None:
    backend = HangingBackend()
    line = Line(tmp_path, backend)
    for number in range(7):
        line.server_calls.end_run(RunId(f"run{number}"), "killed", send_rest=False)
    line.server_calls.finish_sweep()
    with closing(Control()) as control:
        control.put(StopAsked(StopKind.INTERRUPT, "SIGINT", 130))
        with pytest.raises(StoppedError):
            line.server_calls.flush(StopAware(control, grace_s=0))
        line.server_calls.close()
    ends = ", ".join(f"the end of run run{number}" for number in range(5))
    words = f"the sweep server did not receive {ends} and 3 more: --resume reports the ends"
    assert line.told == [Message(words, warning=True)]
    backend.let_go.set()


def test_after_it_was_given_up_nothing_is_said_or_posted_any_more(tmp_path: Path) -> None:
    backend = HangingBackend()
    line = Line(tmp_path, backend)
    line.server_calls.ask_sweep()
    line.server_calls.close(within_s=0)
    backend.error = "no network"
    backend.let_go.set()
    line.server_calls.close()
    assert (line.told, line.seen) == ([], [])
