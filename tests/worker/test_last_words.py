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


def test_an_exception_is_told_with_all_lines_of_its_message() -> None:
    assert last_words(ASSERT, ignored="wandb: ") == (
        "RuntimeError: CUDA error: device-side assert triggered CUDA kernel errors might be asynchronously"
        " reported at some other API call. For debugging consider passing CUDA_LAUNCH_BLOCKING=1"
    )


def test_of_chained_exceptions_the_last_is_told() -> None:
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
def test_without_an_exception_the_last_line_is_told(text: str, words: str) -> None:
    assert last_words(text, ignored="wandb: ") == words


def test_without_ignored_lines_the_last_line_counts() -> None:
    assert last_words("one\n  two\nwandb: ERROR\n\n") == "wandb: ERROR"


def test_the_words_are_bounded() -> None:
    assert len(last_words("x" * 10 * WORDS_CHARS)) == WORDS_CHARS


def test_all_that_is_overheard_goes_on_to_stderr(capfd: pytest.CaptureFixture[str]) -> None:
    overheard = TeeStderr()
    code = "import sys; sys.stderr.write('a' * 100_000 + '\\n'); sys.exit('no good')"
    process = subprocess.Popen([sys.executable, "-c", code], stderr=overheard.writer)
    overheard.close()
    process.wait()
    assert overheard.words() == "no good"
    assert capfd.readouterr().err == "a" * 100_000 + "\nno good\n"


def test_a_child_that_keeps_the_stderr_open_is_not_waited_for() -> None:
    overheard = TeeStderr()
    assert overheard.words() == ""
    overheard.close()
