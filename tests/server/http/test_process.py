"""The server as a process: what it says, what it keeps, and how it ends."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path

import pytest

from parallel_hpo.core.errors import ExitCode, UsageError
from parallel_hpo.server.http.access import key_from
from tests.commands import start_python
from tests.server.embedded import END_WITHIN_S, KEY, Embedded


def is_healthy(url: str) -> bool:
    with urllib.request.urlopen(f"{url}/hpo/health") as response:
        return bool(response.status == 200)


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


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_server_leaves_at_a_signal(
    clean_env: dict[str, str], tmp_path: Path, number: signal.Signals
) -> None:
    words = [sys.executable, "-m", "parallel_hpo.server", "--database", str(tmp_path / "server.db")]
    pipe, root = subprocess.PIPE, Path(__file__).parents[3]
    with subprocess.Popen(words, env=clean_env, cwd=root, stdin=pipe, stdout=pipe, stderr=pipe) as server:
        assert server.stdout is not None
        assert server.stdout.readline()
        server.send_signal(number)
        out, errors = server.communicate(timeout=END_WITHIN_S)
    assert (server.returncode, out, errors) == (0, b"", b"")


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
    words = ("-m", "parallel_hpo.server", "--database", str(folder / "server.db"))
    keys = []
    for _ in range(2):
        server = start_python(*words, folder=tmp_path, environment=clean_env)
        keys.append(json.loads(server.stdout.readline())["api_key"])
        server.send_signal(signal.SIGTERM)
        server.communicate(timeout=END_WITHIN_S)
    assert keys[0] == keys[1]
    assert len(keys[0]) == 40
    assert {path.stat().st_mode & 0o077 for path in folder.iterdir()} == {0}


def test_a_taken_port_is_named(clean_env: dict[str, str], tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        words = ("-m", "parallel_hpo.server", "--database", str(tmp_path / "server.db"), "--port", str(port))
        server = start_python(*words, folder=tmp_path, environment=clean_env)
        _, errors = server.communicate(timeout=END_WITHIN_S)
    assert server.wait() == 1
    assert f"can't listen on 127.0.0.1:{port}" in errors
