"""Four server processes on one database, and agents that talk to any of them."""

from __future__ import annotations

import base64
import http.client
import json
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from threading import Barrier
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml

from tests.commands import start_python
from tests.conftest import clean_env_in
from tests.postgresql import PostgreSQL
from tests.server.acting import grid
from tests.server.conftest import DATABASES

SERVERS = 4
AGENTS = 32
SWEEPS = [
    pytest.param(grid(96), 96, id="grid"),
    pytest.param(grid(2_000), 2_000, id="long grid", marks=pytest.mark.thorough),
    # Without results nothing is modelled: what is tried is that the ask lies before the transaction.
    pytest.param(grid(48, method="bayes", run_cap=48), 48, id="bayes"),
]


class Address:
    """One of the servers."""

    def __init__(self, said: dict[str, str]) -> None:
        self._host = urlsplit(said["url"]).netloc
        token = base64.b64encode(f"api:{said['api_key']}".encode()).decode()
        self._headers = {"Authorization": f"Basic {token}"}

    @contextmanager
    def client(self) -> Iterator[Client]:
        """Connect to the server."""
        with closing(http.client.HTTPConnection(self._host, timeout=60)) as connection:
            yield Client(connection, self._headers)

    def work_until_the_end(self, sweep: str, all_joined: Barrier) -> list[int]:
        """Be an agent that finishes each run at once, and return the points that it was given."""
        with self.client() as client:
            return list(client.points_of(sweep, all_joined))


class Client:
    """A connection that is kept, asking as wandb's clients ask."""

    def __init__(self, connection: http.client.HTTPConnection, headers: dict[str, str]) -> None:
        self._connection = connection
        self._headers = headers

    def post(self, path: str, body: Any) -> Any:
        self._connection.request("POST", path, json.dumps(body), self._headers)
        response = self._connection.getresponse()
        answer = response.read()
        assert response.status == 200, answer
        return json.loads(answer)

    def mutate(self, field: str, selection: str, kind: str, values: dict[str, Any]) -> Any:
        query = f"mutation M($input: {kind}!) {{ {field}(input: $input) {{ {selection} }} }}"
        return self.post("/graphql", {"query": query, "variables": {"input": values}})["data"][field]

    def points_of(self, sweep: str, all_joined: Barrier) -> Iterator[int]:
        """Join a sweep, finish each run at once, and yield the points that it was given.

        Nobody begins before all have joined: a sweep that is used up takes no agent any more.
        """
        joined = self.mutate("createAgent", "agent { id }", "CreateAgentInput", {"host": "h", "sweep": sweep})
        all_joined.wait(60)
        beat = {"id": joined["agent"]["id"], "runState": "{}"}
        while True:
            answer = self.mutate("agentHeartbeat", "commands", "AgentHeartbeatInput", beat)
            for command in json.loads(answer["commands"]):
                if command["type"] == "exit":
                    return
                yield command["args"]["x"]["value"]
                # The run's first word and its last one: W&B's client needs more requests.
                end = {"complete": True, "exitcode": 0}
                self.post(f"/files/local/p/{command['run_id']}/file_stream", end)


@pytest.fixture(scope="module", params=DATABASES)
def database(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> str:
    """An empty database that no server has opened yet."""
    if request.param == "sqlite":
        return str(tmp_path_factory.mktemp("shared") / "server.db")
    postgresql: PostgreSQL = request.getfixturevalue("postgresql")
    return postgresql.fresh()


@pytest.fixture(scope="module")
def servers(database: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Address]]:
    """Processes that share a database, started at once, so that each may be the one to make its tables."""
    words = ("-m", "parallel_hpo.server", "--database", database)
    home = tmp_path_factory.mktemp("home")
    with clean_env_in(home) as environment, ExitStack() as stack:
        processes = [start_python(*words, folder=home, environment=environment) for _ in range(SERVERS)]
        for process in processes:
            stack.callback(process.communicate, timeout=60)
        for process in processes:  # all are told to end before any end is waited for
            stack.callback(process.send_signal, signal.SIGTERM)
        yield [Address(json.loads(process.stdout.readline())) for process in processes]


@pytest.mark.timeout(300)
@pytest.mark.parametrize(("configuration", "points"), SWEEPS)
def test_several_processes_hand_out_each_point_once(
    servers: list[Address], configuration: dict[str, Any], points: int
) -> None:
    wishes = {"config": yaml.dump(configuration), "projectName": "p"}
    with servers[0].client() as client:
        answer = client.mutate("upsertSweep", "sweep { name }", "UpsertSweepInput", wishes)
    sweep = answer["sweep"]["name"]
    all_joined = Barrier(AGENTS)
    with ThreadPoolExecutor(AGENTS) as threads:
        agents = [servers[number % SERVERS] for number in range(AGENTS)]
        shares = list(threads.map(lambda server: server.work_until_the_end(sweep, all_joined), agents))
    assert sorted(point for share in shares for point in share) == list(range(points))
