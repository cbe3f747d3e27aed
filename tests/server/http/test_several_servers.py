"""Servers on one database: agents may talk to any of them, and files and key are shared between machines."""

from __future__ import annotations

import base64
import http.client
import json
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from threading import Barrier
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
import yaml

from parallel_hpo.server.files.folder import ID_FILE
from tests.conftest import clean_env_in, make_clean_env
from tests.postgresql import PostgreSQL
from tests.server.application import BEAT, REGISTER
from tests.server.conftest import DATABASES
from tests.server.embedded import END_WITHIN_S, start_server
from tests.server.server_logic import grid

SERVERS = 4
AGENTS = 32
SWEEPS = [
    pytest.param(grid(96), 96, id="grid"),
    pytest.param(grid(2_000), 2_000, id="long grid", marks=pytest.mark.thorough),
    # Without results there is no model: this tests that the ask precedes the transaction.
    pytest.param(grid(48, method="bayes", run_cap=48), 48, id="bayes"),
]
CREATE = 'mutation C($c: String!) { upsertSweep(input: {config: $c, projectName: "p"}) { sweep { name } } }'
RUN = 'mutation R { upsertBucket(input: {name: "r", modelName: "p"}) { inserted } }'
SEND = """mutation C { createRunFiles(input: {
    entityName: "local", projectName: "p", runName: "r", files: ["a"]}) { files { uploadUrl } } }"""
FETCH = """query F { project(name: "p") { run(name: "r") { files { edges { node { directUrl } } } } } }"""


class Client:
    """A persistent connection to one of the servers, with requests like those of wandb's clients."""

    def __init__(self, said: dict[str, str]) -> None:
        self._connection = http.client.HTTPConnection(urlsplit(said["url"]).netloc, timeout=60)
        token = base64.b64encode(f"api:{said['api_key']}".encode()).decode()
        self._headers = {"Authorization": f"Basic {token}"}

    def close(self) -> None:
        self._connection.close()

    def post(self, path: str, body: Any) -> Any:
        self._connection.request("POST", path, json.dumps(body), self._headers)
        response = self._connection.getresponse()
        answer = response.read()
        assert response.status == 200, answer
        return json.loads(answer)

    def ask(self, query: str, **variables: Any) -> Any:
        """Send a GraphQL request, and return the only field of its answer."""
        data = self.post("/graphql", {"query": query, "variables": variables})["data"]
        return next(iter(data.values()))

    def points_of(self, sweep: str, all_joined: Barrier) -> Iterator[int]:
        """Join a sweep, finish each run at once, and yield the points of these runs.

        No agent begins before all have joined: an exhausted sweep refuses agents.
        """
        agent = self.ask(REGISTER, s=sweep)["agent"]["id"]
        all_joined.wait(60)
        while True:
            for command in json.loads(self.ask(BEAT, a=agent)["commands"]):
                if command["type"] == "exit":
                    return
                yield command["args"]["x"]["value"]
                # Start and end the run in one request, where W&B's client needs several.
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
def servers(database: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[dict[str, str]]]:
    """Processes that share a database, started at once, so that any of them may create its tables."""
    with clean_env_in(tmp_path_factory.mktemp("home")) as environment, ExitStack() as stack:
        processes = [start_server(environment, "--database", database) for _ in range(SERVERS)]
        for process in processes:
            stack.callback(process.communicate, timeout=END_WITHIN_S)
        for process in processes:  # signal all before waiting for any
            stack.callback(process.send_signal, signal.SIGTERM)
        yield [json.loads(process.stdout.readline()) for process in processes]


@pytest.mark.timeout(300)
@pytest.mark.parametrize(("configuration", "points"), SWEEPS)
def test_several_processes_issue_each_point_once(
    servers: list[dict[str, str]], configuration: dict[str, Any], points: int
) -> None:
    with closing(Client(servers[0])) as client:
        sweep = client.ask(CREATE, c=yaml.dump(configuration))["sweep"]["name"]
    all_joined = Barrier(AGENTS)

    def work_until_the_end(number: int) -> list[int]:
        with closing(Client(servers[number % SERVERS])) as agent:
            return list(agent.points_of(sweep, all_joined))

    with ThreadPoolExecutor(AGENTS) as threads:
        shares = list(threads.map(work_until_the_end, range(AGENTS)))
    assert sorted(point for share in shares for point in share) == list(range(points))


@contextmanager
def server_on_machine(home: Path, *options: str) -> Iterator[dict[str, str]]:
    """Run a server with this home folder, and yield what it prints."""
    server = start_server(make_clean_env(home), *options)
    try:
        yield json.loads(server.stdout.readline())
    finally:
        server.send_signal(signal.SIGTERM)
        server.communicate(timeout=END_WITHIN_S)


def test_a_file_sent_to_one_server_is_fetched_from_another(postgresql: PostgreSQL, tmp_path: Path) -> None:
    database = postgresql.fresh()
    mounted = tmp_path / "mounted"
    with ExitStack() as machines:
        one = machines.enter_context(server_on_machine(tmp_path / "a", "--database", database))
        (id_file,) = (tmp_path / "a").rglob(ID_FILE)
        mounted.symlink_to(id_file.parent)
        options = ("--database", database, "--files", str(mounted))
        other = machines.enter_context(server_on_machine(tmp_path / "b", *options))
        assert one["api_key"] == other["api_key"]
        client = machines.enter_context(closing(Client(one)))
        client.ask(RUN)
        (file,) = client.ask(SEND)["files"]
        # A balancer may send the address to either.
        address = file["uploadUrl"].replace(one["url"], other["url"])
        assert httpx.put(address, content=b"bytes", trust_env=False).status_code == 200
        (edge,) = client.ask(FETCH)["run"]["files"]["edges"]
        assert httpx.get(edge["node"]["directUrl"], trust_env=False).content == b"bytes"
    elsewhere = ("--database", database, "--files", str(tmp_path / "x"))
    apart = start_server(make_clean_env(tmp_path / "c"), *elsewhere)
    stdout, stderr = apart.communicate(timeout=END_WITHIN_S)
    assert (apart.wait(), stdout) == (1, "")
    assert f"should be in {id_file.parent} on " in stderr
