"""Sweeps created on a server are either divided into shares, or run by machines that join: never both."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from parallel_hpo.client.server_client import PoolClient
from parallel_hpo.core.errors import ExitCode
from parallel_hpo.core.pool_messages import Join
from parallel_hpo.session.membership import versions_here
from parallel_hpo.session.setup import DIVIDED
from tests.cli.conftest import Command
from tests.conftest import QUIET
from tests.server.embedded import KEY, Embedded

MAIN: Final = """
import time, wandb
def quick():
    with wandb.init() as run:
        run.log({"loss": run.config["x"]})
def endless():
    with wandb.init():
        time.sleep(600)
"""
CONFIG: Final = {
    "count": 2,
    "workers": 1,
    "sweep_configuration": {
        "method": "grid",
        "metric": {"name": "loss", "goal": "minimize"},
        "parameters": {"x": {"values": [0, 1]}},
    },
}


class CreatedSweep:
    """A sweep of two runs, with its pool."""

    def __init__(self, url: str, command: Command) -> None:
        self._url = url
        self._command = command
        self._variables = QUIET | {"WANDB_BASE_URL": url, "WANDB_API_KEY": KEY}
        self.create("quick")

    def create(self, main: str, *options: str) -> None:
        created = self("run", "hpo.json", f"main.py:{main}", "--create", *options)
        assert created.returncode == 0, created.stderr
        self.id = created.stdout.strip()
        self.pool = PoolClient(self._url, KEY, self.id)

    def __call__(self, *words: str) -> subprocess.CompletedProcess[str]:
        return self._command(*words, **self._variables)

    def share(self, share: str) -> subprocess.CompletedProcess[str]:
        return self("run", "hpo.json", "main.py:quick", "--sweep-id", self.id, "--share", share)


@pytest.fixture
def sweep(command: Command, clean_env: dict[str, str], tmp_path: Path) -> Iterator[CreatedSweep]:
    (tmp_path / "main.py").write_text(MAIN)
    (tmp_path / "hpo.json").write_text(json.dumps({"hpo": CONFIG}))
    server = Embedded(clean_env, tmp_path / "server.db")
    try:
        yield CreatedSweep(server.said()["url"], command)
    finally:
        server.end()


def test_a_share_of_a_sweep_that_machines_have_joined_is_refused(sweep: CreatedSweep) -> None:
    sweep.pool.join(Join("gpu1", versions_here(), workers=1))
    refused = sweep.share("1/2")
    assert refused.returncode == ExitCode.USAGE
    assert f"use `parallel-hpo join {sweep.id}` on this machine too" in refused.stderr
    assert sweep.pool.events(0).ends is None


def test_machines_can_not_join_a_sweep_whose_first_share_has_started(sweep: CreatedSweep) -> None:
    for share in ("1/2", "2/2"):
        done = sweep.share(share)
        assert (done.returncode, "1 runs" in done.stderr) == (ExitCode.COMPLETE, True), done.stderr
    refused = sweep("join", sweep.id)
    assert refused.returncode == ExitCode.USAGE
    assert DIVIDED in refused.stderr
    assert [event.kind for event in sweep.pool.events(0).events] == ["opened", "stopped"]


def test_each_machine_ends_at_its_own_deadline_and_the_sweep_goes_on(sweep: CreatedSweep) -> None:
    sweep.create("endless", "--deadline", "6s")
    ended = sweep("join", sweep.id)
    assert ended.returncode == ExitCode.SWEEP_TIMEOUT, ended.stderr
    assert "ended: deadline of this machine" in ended.stderr
    news = sweep.pool.events(0)
    assert ([event.kind for event in news.events][-2:], news.ends) == (["handed_on", "left"], None)
