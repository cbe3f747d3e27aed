"""Signals after the sweep's end."""

from __future__ import annotations

import signal
import subprocess
import sys
from typing import Final

import pytest

COMMAND: Final = """
import atexit, os, signal, sys
from parallel_hpo.cli.output import LateSignals
from parallel_hpo.core.notices import SweepOver

def hear(times=1):
    for _ in range(times):
        os.kill(os.getpid(), signal.Signals[sys.argv[1]])

class Last:
    def __del__(self):
        hear()

atexit.register(hear)
with LateSignals() as late:
    if "before" in sys.argv:
        hear()
    late.watching(lambda notice: print("over", notice.exit_code, flush=True))(SweepOver(5))
    hear(2 if "twice" in sys.argv else 1)
    print("printed", flush=True)
hear()
sys.last = Last()
sys.exit(5)
"""
NUMBERS: Final = ("SIGINT", "SIGTERM", "SIGHUP")


def run(*words: str) -> tuple[int, list[str]]:
    command = [sys.executable, "-c", COMMAND, *words]
    ended = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, check=False)
    return ended.returncode, ended.stdout.splitlines()


@pytest.mark.parametrize("number", NUMBERS)
def test_no_signal_changes_the_exit_code_of_an_ended_sweep(number: str) -> None:
    assert run(number) == (5, ["over 5", "printed"])


def test_a_second_signal_does_not_wait_for_output() -> None:
    assert run("SIGINT", "twice") == (5, ["over 5"])


@pytest.mark.parametrize("number", NUMBERS)
def test_a_signal_before_the_sweep_has_its_usual_effect(number: str) -> None:
    code, printed = run(number, "before")
    assert (code, printed) == (-signal.Signals[number], [])
