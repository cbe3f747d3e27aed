"""What a run's client had not sent when its process died, sent afterwards from the run's folder."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any, Final

import pytest

from tests.processes.conftest import RealSweep, outcomes
from tests.processes.fiery import BLOCK_LINES, LINES

FIERY: Final = Path(__file__).with_name("fiery.py")


def history(sweep: RealSweep) -> list[dict[str, Any]]:
    """Return the rows that the server has of the sweep's only run, in their order."""
    with closing(sqlite3.connect(sweep.directory / "server.db", timeout=10)) as database:
        query = "SELECT text FROM lines WHERE stream = 0 ORDER BY number"
        return [json.loads(text) for (text,) in database.execute(query)]


def expect_lines_in_order(rows: list[dict[str, Any]]) -> None:
    """Expect the first of all logged lines without a gap or a repetition, and nearly all of them."""
    assert [row["loss"] for row in rows] == list(range(len(rows)))
    assert LINES - BLOCK_LINES < len(rows) <= LINES


@pytest.mark.leans_on_wandb
def test_a_crashed_runs_unsent_lines_are_on_the_server_afterwards(sweep: RealSweep) -> None:
    ended = sweep.start("cut_short", mains=FIERY, count=1, workers=1, retries=0).finish()
    assert outcomes(ended.summary) == ["crashed"], ended.stderr
    expect_lines_in_order(history(sweep))
    assert [run.state for run in sweep.runs_on_the_server().values()] == ["crashed"]


def test_lines_that_were_sent_before_the_crash_are_not_there_twice(sweep: RealSweep) -> None:
    sweep.env |= {"WANDB_X_FILE_STREAM_TRANSMIT_INTERVAL": "1", "SEND_FIRST": "1"}
    ended = sweep.start("cut_short", mains=FIERY, count=1, workers=1, retries=0).finish()
    assert outcomes(ended.summary) == ["crashed"], ended.stderr
    expect_lines_in_order(history(sweep))


def test_of_a_run_that_is_run_again_only_the_last_attempt_is_sent(sweep: RealSweep) -> None:
    ended = sweep.start("cut_short", mains=FIERY, count=1, workers=1, retries=1).finish()
    assert outcomes(ended.summary) == ["crashed"], ended.stderr
    rows = history(sweep)
    expect_lines_in_order([row for row in rows if row["attempt"] == 2])
    assert len({row["_step"] for row in rows}) == len(rows)


def test_data_that_can_not_be_sent_is_named_with_its_folder_and_the_command(sweep: RealSweep) -> None:
    sweep.env["SPOIL_FILE"] = "1"
    ended = sweep.start("cut_short", mains=FIERY, count=1, workers=1, retries=0).finish()
    (folder,) = sweep.directory.glob("*/worker-0/wandb/run-*-*")
    assert f"send it by: wandb sync --include-online {folder}" in ended.stderr


@pytest.mark.leans_on_wandb
def test_what_a_run_wrote_offline_is_on_the_server_afterwards(sweep: RealSweep) -> None:
    grid = {"method": "grid", "metric": {"name": "loss"}, "parameters": {"death": {"values": ["offline"]}}}
    ended = sweep.start("use", mains=FIERY.with_name("usages.py"), sweep=grid, workers=1).finish()
    assert outcomes(ended.summary) == ["finished"], ended.stderr
    assert [row["loss"] for row in history(sweep)] == [1.0]
    assert [run.state for run in sweep.runs_on_the_server().values()] == ["finished"]
