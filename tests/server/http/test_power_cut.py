"""Answered requests survive a power cut at the moment of the answer."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from parallel_hpo.core.pool_messages import as_json
from parallel_hpo.server.rules.runs import RunState
from parallel_hpo.server.store import lines, pool, runs, sweeps
from parallel_hpo.server.store.database import Database, Transaction
from parallel_hpo.server.store.lines import Stream
from parallel_hpo.server.store.runs import RunPath
from tests.power import Disk, disk, why_no_disk
from tests.server.application import BEAT, REGISTER
from tests.server.embedded import KEY, Embedded
from tests.server.pool_requests import machine as joining
from tests.server.pool_requests import new_pool, start, told

pytestmark = pytest.mark.thorough

CREATE = """mutation C($config: String) {
    upsertSweep(input: {projectName: "p", config: $config}) { sweep { name } } }"""
START = """mutation S($name: String, $sweep: String) {
    upsertBucket(input: {name: $name, sweep: $sweep, modelName: "p"}) { bucket { id } } }"""
FILES = """mutation F($run: String!) { createRunFiles(input: {
    entityName: "local", projectName: "p", runName: $run, files: ["config.yaml"]}) {
        files { uploadUrl } } }"""


class Machine:
    """A server on its own disk, until a power cut."""

    def __init__(self, disk: Disk, env: dict[str, str]) -> None:
        self._disk = disk
        self._server = Embedded(env, disk.folder / "server.db")
        self.http = httpx.Client(base_url=self._server.said()["url"], auth=("api", KEY), trust_env=False)

    def post(self, path: str, body: Any) -> Any:
        return self.http.post(path, json=body).raise_for_status().json()

    def ask(self, query: str, **variables: Any) -> Any:
        """Send a GraphQL request and return the only field of its answer."""
        answer = self.post("/graphql", {"query": query, "variables": variables})
        assert "errors" not in answer, answer
        (field,) = answer["data"].values()
        return field

    def create_sweep(self) -> str:
        config = json.dumps({"method": "random", "parameters": {"x": {"min": 0, "max": 1}}})
        name: str = self.ask(CREATE, config=config)["sweep"]["name"]
        return name

    def issue(self, sweep: str) -> str:
        """Let a new agent draw a run, and return the run's name."""
        agent = self.ask(REGISTER, s=sweep)["agent"]["id"]
        (command,) = json.loads(self.ask(BEAT, a=agent)["commands"])
        name: str = command["run_id"]
        return name

    @contextmanager
    def after_a_power_cut(self) -> Iterator[Transaction]:
        """Cut the power, and read the database as the disk has it afterwards."""
        self._disk.cut_power()
        self.end()
        self._disk.restore()
        database = Database.open(str(self._disk.folder / "server.db"))
        with database.read() as transaction:
            yield transaction
        database.close()

    def end(self) -> None:
        self.http.close()
        if self._server.process.poll() is None:
            self._server.process.kill()
            self._server.end()


@pytest.fixture
def machine(tmp_path: Path, clean_env: dict[str, str]) -> Iterator[Machine]:
    reason = why_no_disk()
    if reason is not None:
        pytest.skip(reason)
    with disk(tmp_path) as made:
        machine = Machine(made, clean_env)
        yield machine
        machine.end()


def test_a_created_sweep_survives_a_power_cut(machine: Machine) -> None:
    sweep = machine.create_sweep()
    with machine.after_a_power_cut() as transaction:
        assert sweeps.find(transaction, sweep) is not None


def test_an_issued_run_survives_a_power_cut(machine: Machine) -> None:
    run = machine.issue(machine.create_sweep())
    with machine.after_a_power_cut() as transaction:
        assert runs.at(transaction, RunPath("local", "p", run)) is not None


def test_a_pools_machine_and_its_started_run_survive_a_power_cut(machine: Machine) -> None:
    machine.post("/hpo/pools/s", as_json(new_pool()))
    epoch = machine.post("/hpo/pools/s/join", as_json(joining()))["epoch"]
    for exchange in (told(epoch, 1, wants=1), told(epoch, 2, starts=(start("r"),))):
        machine.post("/hpo/pools/s/exchange", as_json(exchange))
    with machine.after_a_power_cut() as transaction:
        assert pool.is_alive(transaction, "s", epoch)
        assert pool.started_among(transaction, "s", ["r"]) == {"r"}


def test_an_ended_run_survives_a_power_cut_with_its_lines_and_files(machine: Machine, tmp_path: Path) -> None:
    sweep = machine.create_sweep()
    run = machine.issue(sweep)
    machine.ask(START, name=run, sweep=sweep)
    (file,) = machine.ask(FILES, run=run)["files"]
    machine.http.put(file["uploadUrl"], content=b"x: 1\n").raise_for_status()
    row = '{"_step": 0, "loss": 1}'
    history = {"wandb-history.jsonl": {"offset": 0, "content": [row]}}
    for chunk in ({"files": history}, {"complete": True, "exitcode": 0}):
        machine.post(f"/files/local/p/{run}/file_stream", chunk)
    with machine.after_a_power_cut() as transaction:
        found = runs.at(transaction, RunPath("local", "p", run))
        assert found is not None and found.state is RunState.FINISHED
        assert lines.last(transaction, found.id, Stream.HISTORY) == row
    assert (tmp_path / f"disk/server-files/{found.id}/config.yaml").read_bytes() == b"x: 1\n"
