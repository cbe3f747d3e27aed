"""How a run or a program has ended, and how that is reported."""

from __future__ import annotations

import math
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from parallel_hpo.core.messages import MissingMetric
from parallel_hpo.core.types import NEVER_INITIALISED, Outcome
from parallel_hpo.core.values import WORDS_CHARS, last_words
from parallel_hpo.worker.program import TeeStderr
from parallel_hpo.worker.rerun import print_end
from parallel_hpo.worker.run import (
    INTERRUPTED_EXIT,
    NOT_ASKED,
    RunVerdict,
    StopRequest,
    StopSource,
    classify,
    explain_missing,
)
from parallel_hpo.worker.tree import NAME, WandbCores

FINISHED = RunVerdict(Outcome.FINISHED, "", 0)


class UnprintableError(Exception):
    def __str__(self) -> str:
        raise RuntimeError


def failed(reason: str, exit_code: int = 1) -> RunVerdict:
    return RunVerdict(Outcome.FAILED, reason, exit_code)


def unasked(error: BaseException | None) -> RunVerdict:
    return classify(error, ask=NOT_ASKED)


@pytest.mark.parametrize(
    ("error", "verdict"),
    [
        *((error, FINISHED) for error in (None, SystemExit(), SystemExit(None), SystemExit(0))),
        (ValueError("lr is negative"), failed("ValueError: lr is negative")),
        (ValueError("two\n  lines"), failed("ValueError: two lines")),
        (ValueError(), failed("ValueError")),
        (UnprintableError(), failed("UnprintableError: (its text can't be printed)")),
        (BaseException("odd"), failed("BaseException: odd")),
        (KeyboardInterrupt(), failed("KeyboardInterrupt", INTERRUPTED_EXIT)),  # as wandb reports it
        (SystemExit(3), failed("exit 3", 3)),
        (SystemExit(-1), failed("exit -1", 255)),
        (SystemExit(256), failed("exit 256", 1)),
        (SystemExit(True), failed("exit True", 1)),
        (SystemExit("no data"), failed("exit 1: no data")),
        (SystemExit(""), failed("exit 1: ")),
        (SystemExit("x" * 10_000), failed(f"exit 1: {'x' * 492}")),
        (ValueError("x" * 10_000), failed(f"ValueError: {'x' * 488}")),
    ],
)
def test_a_main_finishes_if_it_returns_or_exits_with_0_and_fails_otherwise(
    error: BaseException | None, verdict: RunVerdict
) -> None:
    assert unasked(error) == verdict


def test_a_main_that_never_opened_its_run_fails_with_that_reason_or_its_own_error() -> None:
    for error in (None, SystemExit(0)):
        assert classify(error, ask=NOT_ASKED, unopened=NEVER_INITIALISED) == failed(NEVER_INITIALISED)
    verdict = classify(ImportError("no torch"), ask=NOT_ASKED, unopened=NEVER_INITIALISED)
    assert verdict == failed("ImportError: no torch")


@pytest.mark.parametrize("error", [None, KeyboardInterrupt(), ValueError("in cleanup"), SystemExit(3)])
@pytest.mark.parametrize(
    ("ask", "verdict"),
    [
        (StopRequest(StopSource.SUPERVISOR, "interrupted"), (Outcome.STOPPED, INTERRUPTED_EXIT)),
        (StopRequest(StopSource.SWEEP, "early_terminate"), (Outcome.STOPPED, 1)),
        (StopRequest(StopSource.LIMIT, "run timeout 60 s"), (Outcome.FAILED, 1)),
    ],
)
def test_a_main_asked_to_stop_is_stopped_or_failed_by_the_kind_of_request(
    error: BaseException | None, ask: StopRequest, verdict: tuple[Outcome, int]
) -> None:
    outcome, exit_code = verdict
    for unopened in ("",) if ask.who is StopSource.LIMIT else ("", NEVER_INITIALISED):
        assert classify(error, ask=ask, unopened=unopened) == RunVerdict(outcome, ask.reason, exit_code)


@pytest.mark.parametrize(
    ("value", "found"),
    [
        (None, "nothing"),
        (math.nan, "NaN"),
        ("NaN", "NaN"),
        (-math.inf, "-infinity"),
        ("Infinity", "infinity"),
        (True, "a boolean, true"),
        ("0.5", "a text, '0.5'"),
        ([0.5], "a list"),
        ({"_type": "histogram"}, "an object of type histogram"),
        ({"a": 1.0, "b": 2.0}, "a table of values"),
        ({}, "nothing"),
        ({"min": "NaN", "max": 2.0}, "NaN"),
        pytest.param(10**400, "a number that is too large", id="10**400"),
    ],
)
def test_a_metric_that_is_not_a_number_is_explained_by_the_logged_value(value: object, found: str) -> None:
    explained = explain_missing({"loss": value}, "loss", "minimize")
    assert explained is not None
    assert explained.found == found


def test_a_missing_metric_lists_logged_names_without_the_clients_own() -> None:
    summary = {"val": {"loss": 0.5, "acc": {"top1": 1}}, "_step": 3, "_wandb": {"runtime": 1}, "x": 1}
    assert explain_missing(summary, "val.loss", "minimize") is None
    assert explain_missing(summary, "loss", "minimize") == MissingMetric(
        "nothing", ("val.acc.top1", "val.loss", "x")
    )


HOSTILE = "\x1b]0;owned\x07"


@pytest.mark.parametrize("error", [ValueError(HOSTILE), SystemExit(HOSTILE), None])
def test_control_characters_in_the_reason_of_a_failure_are_visible(
    error: BaseException | None, capsys: pytest.CaptureFixture[str]
) -> None:
    print_end(error, RunVerdict(Outcome.FAILED, HOSTILE, 1))
    assert capsys.readouterr().err.endswith("\\x1b]0;owned\\x07\n")


ASSERT = """Traceback (most recent call last):
  File "train.py", line 3, in <module>
    loss.backward()
    ^^^^^^^^^^^^^^^
RuntimeError: CUDA error: device-side assert triggered
CUDA kernel errors might be asynchronously reported at some other API call.
For debugging consider passing CUDA_LAUNCH_BLOCKING=1

\x1b[34m\x1b[1mwandb\x1b[0m: View run wise-sweep-1 at: http://127.0.0.1
wandb: Find logs at: ./wandb/run-1/logs
"""


CHAINED = f"""{ASSERT}
During handling of the above exception, another exception occurred:

Traceback (most recent call last):
  File "a.py", line 1
KeyError: 'x'
"""
LOGGED = "train.py: error: unrecognized arguments: --lr=0.1"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (ASSERT, " ".join(line.strip() for line in ASSERT.splitlines()[4:7])),
        (CHAINED, "KeyError: 'x'"),
        ("", ""),
        ("wandb: Syncing run\n", ""),
        (f"{LOGGED}\n\n", LOGGED),
        ("10%\r100%\r", "100%"),
        ("Traceback (most recent call last):\n", ""),
        ("x" * 10 * WORDS_CHARS, "x" * WORDS_CHARS),
    ],
)
def test_last_words_are_an_exceptions_message_or_the_last_line(text: str, words: str) -> None:
    assert last_words(text, ignored="wandb: ") == words


def test_stderr_is_passed_on_unchanged(capfd: pytest.CaptureFixture[str]) -> None:
    overheard = TeeStderr()
    code = "import sys; sys.stderr.write('a' * 100_000 + '\\n'); sys.exit('no good')"
    process = subprocess.Popen([sys.executable, "-c", code], stderr=overheard.writer)
    overheard.close()
    process.wait()
    assert overheard.words() == "no good"
    assert capfd.readouterr().err == "a" * 100_000 + "\nno good\n"


@pytest.fixture
def program(tmp_path: Path) -> Path:
    """A program with the name of the client's process, which does nothing."""
    sleep = shutil.which("sleep")
    assert sleep is not None
    return Path(shutil.copy(sleep, tmp_path / NAME))


@contextmanager
def ended(program: Path, *, killed: bool) -> Iterator[None]:
    """Yield a process that has ended and was not reaped."""
    with subprocess.Popen([str(program), "60" if killed else "0"]) as process:
        if killed:
            process.kill()
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        yield


def test_a_killed_core_counts_as_killed_and_one_that_ended_does_not(program: Path) -> None:
    core = WandbCores()
    core.begin()
    assert not core.was_killed()
    with ended(program, killed=True):
        assert core.was_killed()
        core.begin()
        assert core.was_killed()
    core = WandbCores()
    with ended(program, killed=False):
        core.begin()
        assert not core.was_killed()


def test_a_core_reaped_by_the_client_counts_as_killed_until_the_next_run() -> None:
    core = WandbCores()
    core.note_death()
    assert core.was_killed()
    core.begin()
    assert not core.was_killed()
