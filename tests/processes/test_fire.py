"""Sweeps whose server is behind a bad network, away, gone, or without room on its disk."""

from __future__ import annotations

import base64
import json
import resource
import signal
import sqlite3
import time
import urllib.request
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import pytest

from tests.contract.proxy import Harm, Message, Mischief, Proxy, proxying
from tests.contract.serving import Server, serving
from tests.processes.conftest import RealSweep, outcomes

pytestmark = pytest.mark.thorough

POINTS: Final = 20
AWAY_S: Final = 4.0
PAUSE_S: Final = 3.0
"""Far longer than a worker needs from one quick run to the next."""
GRID: Final = {
    "method": "grid",
    "metric": {"name": "loss"},
    "parameters": {"x": {"values": list(range(POINTS))}},
}


@pytest.fixture
def remote(tmp_path: Path, clean_env: dict[str, str]) -> Iterator[Server]:
    """A server that was started apart from any sweep."""
    folder = tmp_path / "remote"
    folder.mkdir()
    with serving(folder, clean_env) as server:
        yield server


@pytest.fixture
def proxy(remote: Server, sweep: RealSweep) -> Iterator[Proxy]:
    """A proxy in front of it, through which the sweep goes, as to a W&B server of the user's."""
    with proxying(remote.said["url"]) as proxy:
        own = {"WANDB_BASE_URL": proxy.url, "WANDB_API_KEY": remote.said["api_key"]}
        sweep.env |= remote.client_env | own | {"PARALLEL_HPO_BACKEND": "wandb"}
        yield proxy


def rows(database: Path, query: str) -> list[Any]:
    with closing(sqlite3.connect(database, timeout=10)) as connection:
        return connection.execute(query).fetchall()


def histories(database: Path) -> dict[str, list[dict[str, Any]]]:
    """Return each run's history as the server has it."""
    found: dict[str, list[dict[str, Any]]] = {name: [] for (name,) in rows(database, "SELECT name FROM runs")}
    query = (
        "SELECT name, text FROM lines JOIN runs ON runs.id = run_id WHERE stream = 0 ORDER BY name, number"
    )
    for name, text in rows(database, query):
        found[name].append(json.loads(text))
    return found


def expect_exact(sweep: RealSweep, summary: Any, database: Path) -> None:
    """Expect each point of the grid to be one run, performed once, with exactly the lines that it logged."""
    assert summary["lost"] == 0
    assert outcomes(summary) == ["finished"] * POINTS
    entries = sweep.entries()
    assert sorted(entry.facts["parameters"]["x"] for entry in entries) == list(range(POINTS))
    known = {entry.run_id: entry.facts["parameters"]["x"] for entry in entries}
    assert len(known) == len(entries) == POINTS
    logged = {run: [row["loss"] for row in history] for run, history in histories(database).items()}
    assert logged == {run: [x, x + 1, x + 2] for run, x in known.items()}
    assert set(rows(database, "SELECT state FROM runs")) == {("finished",)}


@pytest.mark.parametrize("seed", [1])
def test_lost_replies_repeated_requests_and_late_copies_are_harmless(
    sweep: RealSweep, proxy: Proxy, remote: Server, seed: int
) -> None:
    mischief = proxy.choose = Mischief(seed, rate=0.07)
    ended = sweep.start("quick", sweep=GRID, count=POINTS).finish()
    assert ended.code == 0, ended.stderr
    assert {Harm.LOSE_REPLY, Harm.REPEAT, Harm.LATE_COPY} <= set(mischief.done), mischief.done
    expect_exact(sweep, ended.summary, remote.folder / "server.db")
    assert ended.summary["phantoms"] == []


@dataclass
class Weather:
    """What comes over all messages from now on: harms, each for so many seconds; then all is well."""

    spells: tuple[tuple[float, Harm], ...]
    began: float = field(default_factory=time.monotonic)
    messages: int = 0

    def __call__(self, message: Message) -> Harm:
        left_s = time.monotonic() - self.began
        for seconds, harm in self.spells:
            left_s -= seconds
            if left_s < 0:
                self.messages += 1
                return harm
        return Harm.NONE


def test_bursts_of_errors_and_a_network_that_is_away_cost_a_pause_and_no_run(
    sweep: RealSweep, proxy: Proxy, remote: Server
) -> None:
    sweep.start("quick", sweep=GRID, count=POINTS)
    sweep.wait_for(4)
    weather = proxy.choose = Weather(((1, Harm.FAIL_500), (1, Harm.REFUSE_429), (AWAY_S, Harm.LOSE_REQUEST)))
    ended = sweep.finish()
    assert ended.code == 0, ended.stderr
    assert weather.messages > 0
    expect_exact(sweep, ended.summary, remote.folder / "server.db")


def delete_sweep(database: Path) -> None:
    """Delete the sweep with its runs, as W&B's pages can."""
    with closing(sqlite3.connect(database, timeout=10)) as connection, connection:
        for table in ("lines", "runs", "agents", "sweeps"):
            connection.execute(f"DELETE FROM {table}")


def test_a_sweep_that_was_deleted_from_its_server_ends_and_says_so(
    sweep: RealSweep, proxy: Proxy, remote: Server
) -> None:
    sweep.start("quick", count=1000)
    sweep.wait_for(4)
    delete_sweep(remote.folder / "server.db")
    ended = sweep.finish()
    assert ended.code == 0, ended.stderr
    assert ended.summary["stop_reason"] == "the sweep was deleted from its server"
    assert ended.summary["lost"] == 0
    assert "finished" in outcomes(ended.summary)


def ask(server: Server, query: str, **variables: Any) -> Any:
    """Ask the server as an agent does that has nothing to do with the sweep's workers."""
    token = base64.b64encode(f"api:{server.said['api_key']}".encode()).decode()
    body = json.dumps({"query": query, "variables": variables}).encode()
    headers = {"Authorization": f"Basic {token}"}
    request = urllib.request.Request(server.said["url"] + "/graphql", data=body, headers=headers)
    with urllib.request.urlopen(request, timeout=10) as response:
        return json.load(response)["data"]


REGISTER: Final = """mutation CreateAgent($sweep: String!) {
  createAgent(input: {host: "h", projectName: "p", entityName: "local", sweep: $sweep}) { agent { id } }
}"""
BEAT: Final = """mutation Heartbeat($id: ID!) {
  agentHeartbeat(input: {id: $id, metrics: "{}", runState: "{}"}) { agent { id } commands }
}"""


def test_a_run_that_the_server_issued_and_nobody_started_is_named(
    sweep: RealSweep, proxy: Proxy, remote: Server
) -> None:
    """By W&B's, that is: without a door of ours, by which a server is told to take such runs back."""
    proxy.choose = lambda message: Harm.GONE_404 if message.path.startswith("/hpo/") else Harm.NONE
    sweep.start("brief", count=6)
    sweep.wait_for(1)
    ((name,),) = rows(remote.folder / "server.db", "SELECT id FROM sweeps")
    agent = ask(remote, REGISTER, sweep=name)["createAgent"]["agent"]["id"]
    (command,) = json.loads(ask(remote, BEAT, id=agent)["agentHeartbeat"]["commands"])
    ended = sweep.finish()
    assert (ended.code, outcomes(ended.summary)) == (0, ["finished"] * 6)
    assert ended.summary["phantoms"] == [command["run_id"]]
    words = f"the server lists runs of the sweep that no worker started: {command['run_id']}"
    assert words in ended.stderr


def no_more_than(pid: int, size: int) -> None:
    """Let the process's files grow no further than so many bytes, as on a full disk."""
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))


def test_a_server_without_room_pauses_the_sweep_and_loses_nothing(sweep: RealSweep) -> None:
    sweep.start("quick", sweep=GRID, count=POINTS)
    sweep.wait_for(4)
    server = sweep.process_named("parallel_hpo.server").pid
    no_more_than(server, 4096)
    log = sweep.directory / "server.log"
    sweep.wait_until(lambda: "can't answer now" in log.read_text(), "the server's refusal")
    no_more_than(server, resource.RLIM_INFINITY)
    ended = sweep.finish()
    assert ended.code == 0, ended.stderr
    expect_exact(sweep, ended.summary, sweep.directory / "server.db")


def fill_ledgers_disk(sweep: RealSweep) -> int:
    """Leave the supervisor's ledger no room to grow; return the supervisor's pid."""
    assert sweep.process is not None
    (ledger,) = sweep.directory.glob("*/ledger.db-wal")
    no_more_than(sweep.process.pid, ledger.stat().st_size)
    return sweep.process.pid


def stopped_starting(sweep: RealSweep) -> bool:
    """Whether no run was started for a while."""
    return time.time() - sweep.journal.stat().st_mtime > PAUSE_S


def test_a_ledger_without_room_pauses_the_sweep_with_one_line_and_loses_nothing(sweep: RealSweep) -> None:
    sweep.start("quick", sweep=GRID, count=POINTS)
    sweep.wait_for(4)
    pid = fill_ledgers_disk(sweep)
    before = len(sweep.entries())
    sweep.wait_until(lambda: stopped_starting(sweep), "a pause")
    no_more_than(pid, resource.RLIM_INFINITY)
    ended = sweep.finish()
    assert ended.code == 0, ended.stderr
    assert len(sweep.entries()) > before
    assert ended.stderr.count("the ledger can't be written: ") == 1
    assert "The sweep waits until it can be written" in ended.stderr
    assert "the ledger can be written again: the sweep goes on" in ended.stderr
    expect_exact(sweep, ended.summary, sweep.directory / "server.db")


def test_a_stop_ends_a_sweep_that_waits_for_room(sweep: RealSweep) -> None:
    sweep.start("quick", count=1000)
    sweep.wait_for(4)
    fill_ledgers_disk(sweep)
    sweep.wait_until(lambda: stopped_starting(sweep), "a pause")
    sweep.signal(signal.SIGINT)
    ended = sweep.finish()
    assert ended.code == 130
    assert "the ledger can't be written" in ended.stderr
    assert ended.summary["lost"] == 0
