"""A sweep against a server of ours that somebody else has started: it hears what only a supervisor knows."""

from __future__ import annotations

import signal
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from parallel_hpo.core.errors import ExitCode
from tests.commanding import CommandLine
from tests.conftest import make_clean_env
from tests.contract.serving import Server, serving
from tests.processes.conftest import RealSweep, outcomes


@pytest.fixture
def server(tmp_path: Path, commands: CommandLine) -> Iterator[Server]:
    folder = tmp_path / "server"
    folder.mkdir()
    with serving(folder, make_clean_env(folder / "home"), commands=commands) as server:
        yield server


def test_a_crashed_run_is_crashed_there_at_once(sweep: RealSweep, server: Server) -> None:
    """By W&B's protocol alone the server would call it so after minutes of silence."""
    sweep.env |= {name: server.client_env[name] for name in ("WANDB_BASE_URL", "WANDB_API_KEY")}
    del sweep.env["PARALLEL_HPO_BACKEND"]
    ended = sweep.start("dying_once", count=1, workers=1, retries=0).finish()
    assert (ended.code, outcomes(ended.summary)) == (ExitCode.NO_RUN_FINISHED, ["crashed"]), ended.stderr
    assert "backend wandb: a parallel_hpo server" in ended.stderr
    with closing(sqlite3.connect(server.folder / "server.db")) as database:
        assert database.execute("SELECT state FROM runs").fetchall() == [("crashed",)]
        assert database.execute("SELECT state FROM sweeps").fetchall() == [("FINISHED",)]


def test_a_paused_sweep_says_so_and_status_asks_its_server(sweep: RealSweep, server: Server) -> None:
    sweep.env |= {name: server.client_env[name] for name in ("WANDB_BASE_URL", "WANDB_API_KEY")}
    del sweep.env["PARALLEL_HPO_BACKEND"]
    sweep.start("sleeper", count=2, workers=1).wait_for(1)
    sweep.signal(signal.SIGUSR2)
    assert sweep.finish().code == ExitCode.RESUMABLE
    (name,) = (ledger.parent.name for ledger in sweep.directory.glob("*/ledger.db"))
    sweep.ask("pause", name)
    sweep.start("quick", count=2, workers=1, arguments=("--resume", name))
    sweep.read_until(f"sweep {name} is paused: no new run starts until `parallel-hpo resume {name} ")
    assert sweep.ask_json("status", name)["paused"] is True
    sweep.ask("resume", name)
    ended = sweep.finish()
    assert (ended.code, outcomes(ended.summary)) == (0, ["finished"] * 2)
