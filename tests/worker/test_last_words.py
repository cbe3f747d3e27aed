from __future__ import annotations

import subprocess
import sys

import pytest

from parallel_hpo.core.values import WORDS_CHARS, last_words
from parallel_hpo.worker.program import TeeStderr

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


def test_last_words_are_all_lines_of_an_exceptions_message() -> None:
    assert last_words(ASSERT, ignored="wandb: ") == (
        "RuntimeError: CUDA error: device-side assert triggered CUDA kernel errors might be asynchronously"
        " reported at some other API call. For debugging consider passing CUDA_LAUNCH_BLOCKING=1"
    )


def test_last_words_are_those_of_the_last_chained_exception() -> None:
    chained = ASSERT + "\nDuring handling of the above exception, another exception occurred:\n\n"
    text = chained + "Traceback (most recent call last):\n  File \"a.py\", line 1\nKeyError: 'x'\n"
    assert last_words(text, ignored="wandb: ") == "KeyError: 'x'"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", ""),
        ("wandb: Syncing run\n", ""),
        (
            "train.py: error: unrecognized arguments: --lr=0.1\n\n",
            "train.py: error: unrecognized arguments: --lr=0.1",
        ),
        ("10%\r100%\r", "100%"),
        ("Traceback (most recent call last):\n", ""),
    ],
)
def test_last_words_are_the_last_line_without_an_exception(text: str, words: str) -> None:
    assert last_words(text, ignored="wandb: ") == words


def test_last_words_skip_ignored_lines() -> None:
    assert last_words("one\n  two\nwandb: ERROR\n\n") == "wandb: ERROR"


def test_last_words_have_a_maximum_length() -> None:
    assert len(last_words("x" * 10 * WORDS_CHARS)) == WORDS_CHARS


def test_stderr_is_passed_on_unchanged(capfd: pytest.CaptureFixture[str]) -> None:
    overheard = TeeStderr()
    code = "import sys; sys.stderr.write('a' * 100_000 + '\\n'); sys.exit('no good')"
    process = subprocess.Popen([sys.executable, "-c", code], stderr=overheard.writer)
    overheard.close()
    process.wait()
    assert overheard.words() == "no good"
    assert capfd.readouterr().err == "a" * 100_000 + "\nno good\n"


def test_a_child_that_keeps_stderr_open_delays_nothing() -> None:
    overheard = TeeStderr()
    assert overheard.words() == ""
    overheard.close()
