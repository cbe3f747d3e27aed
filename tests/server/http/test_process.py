"""The server as a process: what it says, what it keeps, and how it ends."""

from __future__ import annotations

import json
import signal
import socket
import urllib.request
from base64 import b64encode
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from parallel_hpo.core.errors import ExitCode, UsageError
from parallel_hpo.core.server_files import registered
from parallel_hpo.server.http.access import key_from
from tests.commands import Started, start_python
from tests.server.embedded import END_WITHIN_S, KEY, Embedded


def is_healthy(url: str) -> bool:
    with urllib.request.urlopen(f"{url}/hpo/health") as response:
        return bool(response.status == 200)


def serve(env: dict[str, str], folder: Path, *options: str) -> Started:
    """Start a server that keeps its data in this folder."""
    words = ("-m", "parallel_hpo.server", "--database", str(folder / "server.db"), *options)
    return start_python(*words, folder=Path(env["HOME"]), environment=env)


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


def test_an_embedded_server_tells_its_address_but_no_key(embed: Embed, tmp_path: Path) -> None:
    server = embed()
    said = server.said()
    assert said == {"url": said["url"], "database": str(tmp_path / "server.db")}
    assert is_healthy(said["url"])
    server.end()
    assert not (tmp_path / "server.key").exists()


def test_an_embedded_server_ends_at_once_with_its_owner(embed: Embed, tmp_path: Path) -> None:
    """It waits for no request, and not even closes its database, which would take the log of writes away."""
    server = embed()
    server.said()
    assert server.end() == (0, "")
    assert (tmp_path / "server.db-wal").exists()


def test_an_embedded_server_without_a_key_says_what_it_needs(embed: Embed) -> None:
    code, errors = embed(key=None).end()
    assert code == ExitCode.USAGE
    assert "on stdin" in errors


@pytest.mark.parametrize("line", [b"", b"\n", b"{}\n", b'{"api_key": "short"}\n', b"[]\n"])
def test_a_line_without_a_key_is_none(line: bytes) -> None:
    with pytest.raises(UsageError, match="on stdin"):
        key_from(BytesIO(line))


def begin_request(url: str, key: str) -> socket.socket:
    """Send the head of a request, and return once the server waits for its body."""
    place = urlsplit(url)
    client = socket.create_connection((place.hostname, place.port))
    login = b64encode(f"api:{key}".encode()).decode()
    head = ("POST /graphql HTTP/1.1", f"Host: {place.netloc}", f"Authorization: Basic {login}")
    client.sendall("\r\n".join([*head, "Content-Length: 9", "Expect: 100-continue", "", ""]).encode())
    assert b"100 Continue" in client.recv(1000)
    return client


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_server_leaves_at_a_signal(
    clean_env: dict[str, str], tmp_path: Path, number: signal.Signals
) -> None:
    server = serve(clean_env, tmp_path)
    said = json.loads(server.stdout.readline())
    assert [each.url for each in registered(tmp_path)] == [said["url"]]
    server.send_signal(number)
    assert server.communicate(timeout=END_WITHIN_S) == ("", "")
    assert (server.wait(), list(registered(tmp_path))) == (0, [])


def test_a_server_leaves_at_a_signal_amid_a_request(clean_env: dict[str, str], tmp_path: Path) -> None:
    server = serve(clean_env, tmp_path)
    said = json.loads(server.stdout.readline())
    with begin_request(said["url"], said["api_key"]):
        server.send_signal(signal.SIGTERM)
        assert server.communicate(timeout=END_WITHIN_S) == ("", "")
    assert server.wait() == 0


def test_an_embedded_server_leaves_signals_to_its_owner(embed: Embed) -> None:
    """A batch system sends them to every process of a job."""
    server = embed()
    url = server.said()["url"]
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2):
        server.process.send_signal(number)
    assert is_healthy(url)
    assert server.end() == (0, "")


def test_a_server_keeps_its_key_for_the_next_time_and_for_its_owners_eyes(
    clean_env: dict[str, str], tmp_path: Path
) -> None:
    folder = tmp_path / "state"
    keys = []
    for _ in range(2):
        server = serve(clean_env, folder)
        keys.append(json.loads(server.stdout.readline())["api_key"])
        server.send_signal(signal.SIGTERM)
        server.communicate(timeout=END_WITHIN_S)
    assert keys[0] == keys[1]
    assert len(keys[0]) == 40
    assert {path.stat().st_mode & 0o077 for path in folder.iterdir()} == {0}


def test_a_taken_port_is_named(clean_env: dict[str, str], tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        server = serve(clean_env, tmp_path, "--port", str(port))
        _, errors = server.communicate(timeout=END_WITHIN_S)
    assert server.wait() == 1
    assert f"can't listen on 127.0.0.1:{port}" in errors
