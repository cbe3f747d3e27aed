"""The server as a process: its output and end, many connections, and several servers on one database."""

from __future__ import annotations

import json
import resource
import signal
import socket
import sqlite3
import threading
from base64 import b64encode
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager, suppress
from functools import partial
from io import BytesIO
from pathlib import Path
from threading import Barrier
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
import yaml

from parallel_hpo.core.errors import ExitCode, UsageError
from parallel_hpo.core.server_files import registered
from parallel_hpo.server.files.folder import ID_FILE
from parallel_hpo.server.http.access import key_from
from tests.conftest import clean_env_in, make_clean_env
from tests.postgresql import PostgreSQL
from tests.server.application import BEAT, REGISTER
from tests.server.conftest import DATABASES
from tests.server.embedded import END_WITHIN_S, KEY, Embedded, start_server
from tests.server.server_logic import grid

VIEWER = {"query": "{ viewer { username } }"}
FEW_FILES = 128
"""Half of them may be connections."""
SOON_S = 8.0
"""Less than the 10 s for which a server waits for a locked database."""


def is_healthy(url: str) -> bool:
    return httpx.get(f"{url}/hpo/health", trust_env=False).status_code == 200


Embed = Callable[..., Embedded]


@pytest.fixture
def embed(clean_env: dict[str, str], tmp_path: Path) -> Iterator[Embed]:
    """Start an embedded server, which ends with its test at the latest."""
    started: list[Embedded] = []

    def embed(key: str | None = KEY) -> Embedded:
        started.append(Embedded(clean_env, tmp_path / "server.db", key=key))
        return started[-1]

    yield embed
    for server in started:
        server.end()


def test_an_embedded_server_prints_no_key_and_ends_with_its_owner(embed: Embed, tmp_path: Path) -> None:
    """It waits for no request, and does not close its database, which would remove the write-ahead log."""
    server = embed()
    said = server.said()
    assert said == {"url": said["url"], "database": str(tmp_path / "server.db")}
    assert is_healthy(said["url"])
    assert server.end() == (0, "")
    assert (tmp_path / "server.db-wal").exists()
    assert not (tmp_path / "server.key").exists()


def test_an_embedded_server_ignores_signals(embed: Embed) -> None:
    """A batch system sends them to every process of a job."""
    server = embed()
    url = server.said()["url"]
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2):
        server.process.send_signal(number)
    assert is_healthy(url)
    assert server.end() == (0, "")


def test_an_embedded_server_without_a_key_exits_with_a_usage_error(embed: Embed) -> None:
    code, errors = embed(key=None).end()
    assert code == ExitCode.USAGE
    assert "on stdin" in errors


@pytest.mark.parametrize("line", [b"", b"\n", b"{}\n", b'{"api_key": "short"}\n', b"[]\n"])
def test_a_line_without_a_valid_key_is_refused(line: bytes) -> None:
    with pytest.raises(UsageError, match="on stdin"):
        key_from(BytesIO(line))


def client_of(said: dict[str, str], timeout_s: float = 60) -> httpx.Client:
    """Return a client of the server that prints this."""
    login = ("api", said["api_key"])
    return httpx.Client(base_url=said["url"], auth=login, trust_env=False, timeout=timeout_s)


class Served:
    """A server that may open few files."""

    def __init__(self, env: dict[str, str], database: Path, *options: str) -> None:
        self.database = database
        limited = partial(resource.setrlimit, resource.RLIMIT_NOFILE, (FEW_FILES, FEW_FILES))
        self.process = start_server(env, "--database", str(database), *options, before=limited)
        self.said = json.loads(self.process.stdout.readline())
        self.url, self.key = self.said["url"], self.said["api_key"]

    def client(self, timeout_s: float = 10) -> httpx.Client:
        return client_of(self.said, timeout_s)

    def connect(self) -> socket.socket:
        where = urlsplit(self.url)
        return socket.create_connection((where.hostname, where.port), timeout=10)

    def end(self, number: signal.Signals = signal.SIGTERM, within_s: float = END_WITHIN_S) -> tuple[str, str]:
        """Send a signal, and return the rest of the server's output and log."""
        self.process.send_signal(number)
        return self.process.communicate(timeout=within_s)


@pytest.fixture
def served(clean_env: dict[str, str], tmp_path: Path) -> Iterator[Served]:
    made = Served(clean_env, tmp_path / "state" / "server.db")
    yield made
    if made.process.poll() is None:
        made.process.kill()
        made.process.communicate()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_server_exits_at_a_signal_and_keeps_its_key_private_for_the_next_start(
    clean_env: dict[str, str], served: Served, number: signal.Signals
) -> None:
    folder = served.database.parent
    assert [each.url for each in registered(folder)] == [served.url]
    assert served.end(number) == ("", "")
    assert (served.process.wait(), list(registered(folder))) == (0, [])
    again = Served(clean_env, served.database)
    assert again.end() == ("", "")
    assert (len(again.key), again.key) == (40, served.key)
    assert {path.stat().st_mode & 0o077 for path in folder.iterdir()} == {0}


def test_a_server_exits_at_a_signal_during_a_request(served: Served) -> None:
    login = b64encode(f"api:{served.key}".encode()).decode()
    host = urlsplit(served.url).netloc
    head = ("POST /graphql HTTP/1.1", f"Host: {host}", f"Authorization: Basic {login}")
    with served.connect() as client:
        client.sendall("\r\n".join([*head, "Content-Length: 9", "Expect: 100-continue", "", ""]).encode())
        assert b"100 Continue" in client.recv(1000)  # it waits for the body
        assert served.end() == ("", "")
    assert served.process.wait() == 0


def test_a_port_in_use_is_reported(clean_env: dict[str, str], tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        server = start_server(clean_env, "--database", str(tmp_path / "server.db"), "--port", str(port))
        _, errors = server.communicate(timeout=END_WITHIN_S)
    assert server.wait() == 1
    assert f"can't listen on 127.0.0.1:{port}" in errors


def test_idle_connections_do_not_block_authenticated_clients_or_flood_the_log(served: Served) -> None:
    with ExitStack() as open_ones, served.client() as client:
        for _ in range(4 * FEW_FILES):
            open_ones.enter_context(served.connect())
        for _ in range(3):
            answer = client.post("/graphql", json=VIEWER)
            assert answer.json()["data"]["viewer"]["username"] == "local"
    assert len(served.end()[1].splitlines()) < 100


def test_refused_requests_do_not_flood_the_log(served: Served) -> None:
    with served.client() as stranger:
        for _ in range(100):
            assert stranger.post("/graphql", json=VIEWER, auth=("api", "x")).status_code == 401
    logged = served.end()[1].splitlines()
    assert len(logged) == 10
    assert "more like this are left out" in logged[-1]


def test_a_signal_ends_a_server_that_waits_for_a_locked_database(served: Served) -> None:
    register = {"query": REGISTER, "variables": {"s": "none"}}

    def wait_for_the_lock() -> None:
        with suppress(httpx.HTTPError), served.client(60) as client:
            client.post("/graphql", json=register)

    with closing(sqlite3.connect(served.database)) as other, served.client(1) as client:
        other.execute("BEGIN IMMEDIATE")
        asking = threading.Thread(target=wait_for_the_lock)
        asking.start()
        with pytest.raises(httpx.ReadTimeout):  # the one thread that writes waits for the lock
            client.post("/graphql", json=register)
        client.post("/graphql", json=VIEWER, timeout=10)  # and a read does not wait
        said = served.end(within_s=SOON_S)[1]
        asking.join(10)
    assert "store/database.py" in said  # the stacks show what it was doing
    assert served.process.returncode != -signal.SIGKILL


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


def ask(client: httpx.Client, query: str, **variables: Any) -> Any:
    """Send a GraphQL request, and return the only field of its answer."""
    answer = client.post("/graphql", json={"query": query, "variables": variables}).raise_for_status()
    (field,) = answer.json()["data"].values()
    return field


def points_of(client: httpx.Client, sweep: str, all_joined: Barrier) -> Iterator[int]:
    """Join a sweep, finish each run at once, and yield the points of these runs.

    No agent begins before all have joined: an exhausted sweep refuses agents.
    """
    agent = ask(client, REGISTER, s=sweep)["agent"]["id"]
    all_joined.wait(60)
    while True:
        for command in json.loads(ask(client, BEAT, a=agent)["commands"]):
            if command["type"] == "exit":
                return
            yield command["args"]["x"]["value"]
            # Start and end the run in one request, where W&B's client needs several.
            end = {"complete": True, "exitcode": 0}
            client.post(f"/files/local/p/{command['run_id']}/file_stream", json=end).raise_for_status()


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
    with client_of(servers[0]) as client:
        sweep = ask(client, CREATE, c=yaml.dump(configuration))["sweep"]["name"]
    all_joined = Barrier(AGENTS)

    def work_until_the_end(number: int) -> list[int]:
        with client_of(servers[number % SERVERS]) as agent:
            return list(points_of(agent, sweep, all_joined))

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
        client = machines.enter_context(client_of(one))
        ask(client, RUN)
        (file,) = ask(client, SEND)["files"]
        # A balancer may send the address to either.
        address = file["uploadUrl"].replace(one["url"], other["url"])
        assert httpx.put(address, content=b"bytes", trust_env=False).status_code == 200
        (edge,) = ask(client, FETCH)["run"]["files"]["edges"]
        assert httpx.get(edge["node"]["directUrl"], trust_env=False).content == b"bytes"
    elsewhere = ("--database", database, "--files", str(tmp_path / "x"))
    apart = start_server(make_clean_env(tmp_path / "c"), *elsewhere)
    stdout, stderr = apart.communicate(timeout=END_WITHIN_S)
    assert (apart.wait(), stdout) == (1, "")
    assert f"should be in {id_file.parent} on " in stderr
