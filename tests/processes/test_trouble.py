"""Trouble with a sweep's files in the midst of it: said while it lasts, with an exit code that fits."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing

import pytest

from tests.processes.conftest import RealSweep, outcomes

pytestmark = pytest.mark.thorough


def test_a_directory_that_is_removed_ends_the_sweep_with_an_error(sweep: RealSweep) -> None:
    sweep.start("held", count=4, workers=2, grace_period_s=3)
    sweep.wait_for(2)
    shutil.rmtree(sweep.directory)
    (sweep.folder / "go").touch()
    ended = sweep.finish()
    assert ended.code == 1, ended.stderr
    assert "was removed or replaced" in ended.stderr
    assert "Traceback" not in ended.stderr
    assert not list(sweep.directory.glob("*/ledger.db")), "another ledger took its place"


def test_a_database_that_somebody_locks_is_said_to_be_so_and_when_it_is_over(sweep: RealSweep) -> None:
    sweep.start("held", count=2, workers=1)
    sweep.wait_for(1)
    said = []
    with closing(sqlite3.connect(sweep.directory / "server.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        (sweep.folder / "go").touch()
        assert sweep.process is not None
        assert sweep.process.stderr is not None
        for line in sweep.process.stderr:
            said.append(line)
            if "can't be written now: database is locked" in line:
                break
        other.rollback()
    ended = sweep.finish()
    assert said[-1].startswith("warning: the sweep server is blocked: "), said
    assert ended.stderr.count("the sweep server can write again: the sweep goes on") == 1
    assert (ended.code, outcomes(ended.summary)) == (0, ["finished"] * 2)
