"""A program's last words, and whether the client's own process was killed."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from parallel_hpo.core.values import WORDS_CHARS, last_words
from parallel_hpo.worker.program import TeeStderr
from parallel_hpo.worker.tree import NAME, WandbCores

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


def test_a_core_killed_in_a_run_or_before_it_counts_as_killed(program: Path) -> None:
    core = WandbCores()
    core.begin()
    assert not core.was_killed()
    with ended(program, killed=True):
        assert core.was_killed()
        core.begin()
        assert core.was_killed()


def test_a_core_that_ended_by_itself_was_not_killed(program: Path) -> None:
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
