"""Mains of runs that leave something unsent, or that carry a secret."""

from __future__ import annotations

import os
import sqlite3
import time
from contextlib import closing
from pathlib import Path

import wandb

from tests.processes.mains import enter, journal

LINES = 2000
"""So many that the client has written most of them to its file, which it does in blocks."""
BLOCK_LINES = 200
"""At most so many does the client hold back for its file's next block."""
SENT_WITHIN_S = 30.0


def cut_short() -> None:
    """Log more than the client sends at once, and die.

    With SEND_FIRST only after the first part has arrived; with SPOIL_FILE so that the rest can't be sent.
    """
    run = enter()
    opened_at = time.time()
    for number in range(LINES):
        run.log({"loss": number, "attempt": int(os.environ["PARALLEL_HPO_ATTEMPT"]), "mark": mark_of(number)})
        if number == LINES // 2 and os.environ.get("SEND_FIRST"):
            wait_until_sent()
    file = Path(run.dir).parent / f"run-{run.id}.wandb"
    wait_until_written(file)
    if os.environ.get("SPOIL_FILE"):
        file.write_bytes(b"no file of wandb's")
    journal("logged")
    # The client names a run's folder by the second: the next attempt's is to be another one.
    time.sleep(max(0.0, int(opened_at) + 1.1 - time.time()))
    os._exit(3)


def wait_until_sent() -> None:
    """Wait until the embedded server has a line of ours."""
    database = Path.cwd() / "sweeps" / "server.db"
    deadline = time.monotonic() + SENT_WITHIN_S
    while time.monotonic() < deadline:
        with closing(sqlite3.connect(database, timeout=10)) as connection:
            if connection.execute("SELECT 1 FROM lines WHERE stream = 0").fetchone():
                return
        time.sleep(0.05)
    raise AssertionError("nothing was sent")


def wait_until_written(file: Path) -> None:
    """Wait until the client's file has all lines but those that may wait for its next block."""
    marks = [mark_of(number).encode() for number in range(LINES - BLOCK_LINES, LINES)]
    deadline = time.monotonic() + SENT_WITHIN_S
    while time.monotonic() < deadline:
        written = file.read_bytes()
        if any(mark in written for mark in marks):
            return
        time.sleep(0.1)
    raise AssertionError("the client has not written its lines")


def mark_of(number: int) -> str:
    """Return a text that is found in the client's file once it has the line of this number."""
    return f"line {number} of the run"


def with_a_login() -> None:
    """Log in with a key of the user's own, as scripts that were written for W&B do."""
    os.environ["WANDB_ENTITY"] = "team"
    wandb.login(key=os.environ["USERS_KEY"])
    run = enter()
    run.log({"loss": float(wandb.config["x"])})
