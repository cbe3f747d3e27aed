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
    """Something that goes by the client's process's name and does nothing."""
    sleep = shutil.which("sleep")
    assert sleep is not None
    return Path(shutil.copy(sleep, tmp_path / NAME))


@contextmanager
def killed(program: Path) -> Iterator[None]:
    """Yield one that was killed and that nobody has waited for."""
    with subprocess.Popen([str(program), "60"]) as process:
        process.kill()
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        yield


def test_one_that_is_killed_before_anybody_has_noted_it_is_known_to_have_been(program: Path) -> None:
    core = WandbCores()
    core.begin()
    assert not core.was_killed()
    with killed(program):
        assert core.was_killed()


def test_one_that_was_killed_between_two_runs_is_the_next_ones(program: Path) -> None:
    core = WandbCores()
    with killed(program):
        core.begin()
        assert core.was_killed()


def test_one_that_has_ended_by_itself_was_not_killed(program: Path) -> None:
    core = WandbCores()
    with subprocess.Popen([str(program), "0"]) as process:
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        core.begin()
        assert not core.was_killed()


def test_one_that_the_client_has_found_dead_was_killed_until_the_next_run() -> None:
    core = WandbCores()
    core.note_death()
    assert core.was_killed()
    core.begin()
    assert not core.was_killed()
