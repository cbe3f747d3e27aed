"""Messages as JSON, retried calls, libraries of extras, and run folders."""

from __future__ import annotations

import json
from math import inf, nan
from pathlib import Path
from typing import Any, get_args

import numpy
import pytest

from parallel_hpo import MissingExtraError
from parallel_hpo.analysis.table import read_summaries
from parallel_hpo.core.errors import ServerAwayError
from parallel_hpo.core.folders import folders_of, run_folders
from parallel_hpo.core.messages import MissingMetric, Progress
from parallel_hpo.core.notices import (
    MemoryUsed,
    Message,
    Notice,
    OutputLine,
    RunBegan,
    RunOver,
    RunProgressed,
    SweepOpened,
    SweepOver,
    WorkerChanged,
    WorkerNamed,
    from_json,
    to_json,
)
from parallel_hpo.core.periodic import PeriodicThread
from parallel_hpo.core.pool_messages import Exchange, PooledEnd, as_json, read
from parallel_hpo.core.retry import retry
from parallel_hpo.core.types import Outcome, RunId, Slot, SlotState, SweepId, SweepPath
from parallel_hpo.core.version import library
from parallel_hpo.session.server_calls import last_run_folder

PATH = SweepPath("e", "p", SweepId("s"))
NOTICES: list[Notice] = [
    SweepOpened(PATH, "http://w", "local", 3, 2, (2, 1), "/sweeps/s", "loss", "minimize"),
    WorkerNamed(Slot(0), "gpu2/w0"),
    RunBegan(Slot(1), RunId("r"), 2, {"x": 0.5, "layers": [1, 2]}, "GPU-1"),
    RunProgressed(Slot(0), Progress(RunId("r"), 3, 1.0, 2.0, "loss", 0.25)),
    MemoryUsed(Slot(0), 12.5),
    RunOver(Slot(0), RunId("r"), 1, Outcome.CRASHED, "SIGKILL", None, 1.5, again=True),
    MissingMetric("nothing", ("a", "b")),
    WorkerChanged(Slot(0), SlotState.BACKOFF, "SIGKILL"),
    OutputLine(Slot(0), "epoch 1"),
    Message("a word", warning=True),
    SweepOver(0),
]


def test_every_kind_of_notice_survives_a_round_trip_through_json() -> None:
    assert {type(notice) for notice in NOTICES} == set(get_args(Notice))
    assert [from_json(json.loads(json.dumps(to_json(notice)))) for notice in NOTICES] == NOTICES


@pytest.mark.parametrize(
    "body", [{}, {"notice": "Nonsense"}, {"notice": "OutputLine", "slot": 1}, {"notice": "SweepOver"}]
)
def test_an_invalid_notice_is_refused(body: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"not a kind of notice|Line|SweepOver"):
        from_json(body)


def test_text_and_values_that_json_cannot_hold_are_replaced_in_a_message() -> None:
    """One surrogate or null character would get the whole message refused again and again."""
    end = PooledEnd(RunId("r"), 1, outcome=Outcome.FAILED, reason="\udcff broken \0", value=nan)
    told = Exchange(1, 1, 0, ends=(end,), notices=({"text": "\ud800", "loss": inf},))
    body = json.dumps(as_json(told), allow_nan=False, ensure_ascii=False).encode()
    heard = read(Exchange, json.loads(body))
    assert heard.ends[0].reason == "? broken \N{REPLACEMENT CHARACTER}"
    assert heard.ends[0].value is None
    assert heard.notices == ({"text": "?", "loss": None},)


class Server:
    """A server that answers after some errors; a call is retried every 2 s of a fake clock."""

    def __init__(self, *errors: Exception) -> None:
        self.errors = list(errors)
        self.said: list[Exception] = []
        self.now = 0.0

    def ask(self, within_s: float) -> str:
        seams: Any = {"say": self.said.append, "clock": lambda: self.now, "sleep": self._sleep}
        return retry(self._answer, ServerAwayError, within_s=within_s, every_s=2.0, **seams)

    def _answer(self) -> str:
        if self.errors:
            raise self.errors.pop(0)
        return "there"

    def _sleep(self, seconds: float) -> None:
        self.now += seconds


def test_a_call_is_retried_with_one_message() -> None:
    server = Server(*(ServerAwayError(name) for name in ("first", "second")))
    assert server.ask(60.0) == "there"
    assert (server.now, [str(error) for error in server.said]) == (4.0, ["first"])


def test_the_last_error_is_raised_after_the_timeout_and_any_other_at_once() -> None:
    server = Server(*(ServerAwayError(name) for name in ("first", "second", "last", "never")))
    with pytest.raises(ServerAwayError, match="last"):
        server.ask(4.0)
    with pytest.raises(KeyError):
        Server(KeyError("bad")).ask(60.0)


class Slow(PeriodicThread):
    """Each look takes 3 s of a fake clock; the pauses before the looks are recorded."""

    def __init__(self, *, every_s: float) -> None:
        super().__init__("slow", every_s=every_s, rest=2.0, clock=lambda: self.now_s)
        self.now_s = 0.0
        self.pauses_s: list[float] = []
        self.closing.wait = self._pause  # type: ignore[assignment, method-assign]

    def _pause(self, seconds: float) -> bool:
        self.pauses_s.append(seconds)
        return len(self.pauses_s) == 3

    def look(self) -> None:
        self.now_s += 3.0


@pytest.mark.parametrize(("every_s", "pauses_s"), [(1.0, [1.0, 6.0, 6.0]), (10.0, [10.0, 10.0, 10.0])])
def test_a_slow_look_is_followed_by_a_longer_pause(every_s: float, pauses_s: list[float]) -> None:
    slow = Slow(every_s=every_s)
    slow.run()
    assert slow.pauses_s == pauses_s


def test_an_installed_library_is_returned_unless_it_is_too_old_or_missing() -> None:
    assert library("numpy", extra="pandas", at_least=1) is numpy
    too_old = f"needs numpy 99 or newer, and {numpy.__version__} is installed"
    with pytest.raises(MissingExtraError, match=too_old):
        library("numpy", extra="plots", at_least=99)
    with pytest.raises(ImportError, match=r"pip install 'parallel_hpo\[plots\]'"):
        library("no_such_library", extra="plots")


def open_run(home: Path, run_id: str, *, begin: str = "run-20261224_180000", number: int = 0) -> Path:
    """Create the folder of a run as the client does."""
    folder = home / f"{begin}-{run_id}{f'-{number}' if number else ''}"
    (folder / "files").mkdir(parents=True)
    (folder / f"run-{run_id}.wandb").touch()
    return folder


def test_folders_of_attempts_within_a_second_are_listed_in_order(tmp_path: Path) -> None:
    open_run(tmp_path, "other")
    made = [open_run(tmp_path, "abc", number=number) for number in range(12)]
    made.append(open_run(tmp_path, "abc", begin="offline-run-20261224_180001"))
    assert folders_of(tmp_path, "abc") == made
    offline = [each.offline for each in sorted(run_folders(tmp_path)) if each.run_id == "abc"]
    assert offline == [False] * 12 + [True]


@pytest.mark.parametrize("run_id", ["abc-1", "my-run-2", "7"])
def test_a_run_id_may_end_in_a_number(tmp_path: Path, run_id: str) -> None:
    first, second = open_run(tmp_path, run_id), open_run(tmp_path, run_id, number=1)
    assert folders_of(tmp_path, run_id) == [first, second]


def test_other_entries_and_a_missing_folder_yield_no_runs(tmp_path: Path) -> None:
    (tmp_path / "latest-run").symlink_to(open_run(tmp_path, "abc"))
    (tmp_path / "logs").mkdir()
    assert [each.run_id for each in run_folders(tmp_path)] == ["abc"]
    assert list(run_folders(tmp_path / "nowhere")) == []


def test_a_run_retried_within_a_second_has_the_summary_and_folder_of_its_last_attempt(
    tmp_path: Path,
) -> None:
    home = tmp_path / "worker-0" / "wandb"
    open_run(home, "abc")
    last = open_run(home, "abc", number=1)
    (last / "files" / "wandb-summary.json").write_text('{"loss": 2, "_wandb": {}}')
    assert read_summaries(tmp_path) == {"abc": {"loss": 2}}
    assert last_run_folder(tmp_path, RunId("abc")) == last
