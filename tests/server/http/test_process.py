"""The server as a process: its output and files, its end, and its behaviour under many connections."""

from __future__ import annotations

import json
import resource
import signal
import socket
import sqlite3
import threading
from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, suppress
from functools import partial
from io import BytesIO
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from parallel_hpo.core.errors import ExitCode, UsageError
from parallel_hpo.core.server_files import registered
from parallel_hpo.server.http.access import key_from
from tests.server.application import REGISTER
from tests.server.embedded import END_WITHIN_S, KEY, Embedded, start_server

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


class Served:
    """A server that may open few files."""

    def __init__(self, env: dict[str, str], database: Path, *options: str) -> None:
        self.database = database
        limited = partial(resource.setrlimit, resource.RLIMIT_NOFILE, (FEW_FILES, FEW_FILES))
        self.process = start_server(env, "--database", str(database), *options, before=limited)
        said = json.loads(self.process.stdout.readline())
        self.url, self.key = said["url"], said["api_key"]

    def client(self, timeout_s: float = 10) -> httpx.Client:
        return httpx.Client(base_url=self.url, auth=("api", self.key), trust_env=False, timeout=timeout_s)

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
