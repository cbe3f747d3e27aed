"""Whether a wandb-core was killed: real processes of its name, really killed."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from parallel_hpo.worker.tree import NAME, WandbCores


@pytest.fixture
def program(tmp_path: Path) -> Path:
    """A program with the name of the client's process, which does nothing."""
    sleep = shutil.which("sleep")
    assert sleep is not None
    return Path(shutil.copy(sleep, tmp_path / NAME))


@contextmanager
def killed(program: Path) -> Iterator[None]:
    """Yield a killed process that was not reaped."""
    with subprocess.Popen([str(program), "60"]) as process:
        process.kill()
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        yield


def test_a_core_killed_before_it_was_noted_counts_as_killed(program: Path) -> None:
    core = WandbCores()
    core.begin()
    assert not core.was_killed()
    with killed(program):
        assert core.was_killed()


def test_a_core_killed_between_two_runs_counts_for_the_next_run(program: Path) -> None:
    core = WandbCores()
    with killed(program):
        core.begin()
        assert core.was_killed()


def test_a_core_that_ended_by_itself_was_not_killed(program: Path) -> None:
    core = WandbCores()
    with subprocess.Popen([str(program), "0"]) as process:
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        core.begin()
        assert not core.was_killed()


def test_a_core_reaped_by_the_client_counts_as_killed_until_the_next_run() -> None:
    core = WandbCores()
    core.note_death()
    assert core.was_killed()
    core.begin()
    assert not core.was_killed()
