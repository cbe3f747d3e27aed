"""The server as a process: what it says, what it keeps, and how it ends."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import urllib.request
from io import BytesIO
from pathlib import Path

import pytest

from parallel_hpo.errors import ExitCode, UsageError
from parallel_hpo.server.http.owner import key_from
from tests.commanding import CommandLine

KEY = "k" * 40
DEADLINE_S = 60.0
"""Far beyond what any of them takes to end, so that only a hang reaches it."""


def start(env: dict[str, str], *options: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "parallel_hpo.server", *options],
        env=env,
        cwd=Path(__file__).parents[3],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def said_by(server: subprocess.Popen[bytes]) -> dict[str, str]:
    assert server.stdout is not None
    words: dict[str, str] = json.loads(server.stdout.readline())
    return words


def is_healthy(url: str) -> bool:
    with urllib.request.urlopen(f"{url}/hpo/health") as response:
        return bool(response.status == 200)


def embedded(env: dict[str, str], database: Path) -> subprocess.Popen[bytes]:
    server = start(env, "--embedded", "--database", str(database))
    assert server.stdin is not None
    server.stdin.write(json.dumps({"api_key": KEY}).encode() + b"\n")
    server.stdin.flush()
    return server


def test_an_embedded_server_tells_its_address_but_no_key(clean_env: dict[str, str], tmp_path: Path) -> None:
    with embedded(clean_env, tmp_path / "server.db") as server:
        said = said_by(server)
        assert said == {"url": said["url"], "database": str(tmp_path / "server.db")}
        assert is_healthy(said["url"])
        server.communicate()
    assert not (tmp_path / "server.key").exists()


def test_an_embedded_server_ends_at_once_with_its_owner(clean_env: dict[str, str], tmp_path: Path) -> None:
    """It waits for no request, and not even closes its database, which would take the log of writes away."""
    with embedded(clean_env, tmp_path / "server.db") as server:
        said_by(server)
        _, errors = server.communicate(timeout=DEADLINE_S)
    assert (server.returncode, errors) == (0, b"")
    assert (tmp_path / "server.db-wal").exists()


def test_an_embedded_server_without_a_key_says_what_it_needs(
    clean_env: dict[str, str], tmp_path: Path
) -> None:
    with start(clean_env, "--embedded", "--database", str(tmp_path / "server.db")) as server:
        _, errors = server.communicate(b"", timeout=DEADLINE_S)
    assert server.returncode == ExitCode.USAGE
    assert b"on stdin" in errors


@pytest.mark.parametrize("line", [b"", b"\n", b"{}\n", b'{"api_key": "short"}\n', b"[]\n"])
def test_a_line_without_a_key_is_none(line: bytes) -> None:
    with pytest.raises(UsageError, match="on stdin"):
        key_from(BytesIO(line))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_server_leaves_at_a_signal(
    clean_env: dict[str, str], tmp_path: Path, number: signal.Signals
) -> None:
    with start(clean_env, "--database", str(tmp_path / "server.db")) as server:
        said_by(server)
        server.send_signal(number)
        out, errors = server.communicate(timeout=DEADLINE_S)
    assert (server.returncode, out, errors) == (0, b"", b"")


def test_an_embedded_server_leaves_signals_to_its_owner(clean_env: dict[str, str], tmp_path: Path) -> None:
    """A batch system sends them to every process of a job."""
    with embedded(clean_env, tmp_path / "server.db") as server:
        url = said_by(server)["url"]
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2):
            server.send_signal(number)
        assert is_healthy(url)
        _, errors = server.communicate(timeout=DEADLINE_S)
    assert (server.returncode, errors) == (0, b"")


def test_a_server_keeps_its_key_for_the_next_time_and_for_its_owners_eyes(
    clean_env: dict[str, str], commands: CommandLine, tmp_path: Path
) -> None:
    folder = tmp_path / "state"
    words = ("-m", "parallel_hpo.server", "--database", str(folder / "server.db"))
    keys = []
    for _ in range(2):
        server = commands.python(*words, folder=tmp_path, environment=clean_env)
        keys.append(json.loads(server.stdout.readline())["api_key"])
        server.send_signal(signal.SIGTERM)
        server.communicate(DEADLINE_S)
    assert keys[0] == keys[1]
    assert len(keys[0]) == 40
    assert {path.stat().st_mode & 0o077 for path in folder.iterdir()} == {0}


def test_a_taken_port_is_named(clean_env: dict[str, str], commands: CommandLine, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        words = ("-m", "parallel_hpo.server", "--database", str(tmp_path / "server.db"), "--port", str(port))
        server = commands.python(*words, folder=tmp_path, environment=clean_env)
        _, errors = server.communicate(DEADLINE_S)
    assert server.wait() == 1
    assert f"can't listen on 127.0.0.1:{port}" in errors
