"""A sweep on a server that runs by itself: it knows at once what a session reports of its runs."""

from __future__ import annotations

import signal

import pytest

from parallel_hpo.core.errors import ExitCode
from tests.processes.conftest import RealSweep, outcomes, rows


@pytest.fixture
def elsewhere(sweep: RealSweep, standalone: dict[str, str]) -> RealSweep:
    """The sweep, whose runs go to that server."""
    sweep.env |= standalone
    del sweep.env["PARALLEL_HPO_BACKEND"]
    return sweep


def test_a_crashed_run_is_crashed_there_at_once(elsewhere: RealSweep) -> None:
    """By W&B's protocol alone the server would call it so after minutes of silence."""
    ended = elsewhere.start("dying_once", count=1, workers=1, retries=0).finish()
    assert (ended.code, outcomes(ended.summary)) == (ExitCode.NO_RUN_FINISHED, ["crashed"]), ended.stderr
    assert "backend wandb: a parallel_hpo server" in ended.stderr
    database = elsewhere.folder / "server" / "server.db"
    assert rows(database, "SELECT state FROM runs") == [("crashed",)]
    assert rows(database, "SELECT state FROM sweeps") == [("FINISHED",)]


def test_a_paused_sweep_says_so_and_status_asks_its_server(elsewhere: RealSweep) -> None:
    elsewhere.start("sleeper", count=2, workers=1).wait_for(1)
    elsewhere.signal(signal.SIGUSR2)
    assert elsewhere.finish().code == ExitCode.RESUMABLE
    name = elsewhere.sweep_id
    elsewhere.ask("pause", name)
    elsewhere.start("quick", count=2, workers=1, arguments=("--resume", name))
    elsewhere.read_until(f"sweep {name} is paused: no new run starts until `parallel-hpo resume {name} ")
    assert elsewhere.ask_json("status", name)["paused"] is True
    elsewhere.ask("resume", name)
    ended = elsewhere.finish()
    assert (ended.code, outcomes(ended.summary)) == (0, ["finished"] * 2)
