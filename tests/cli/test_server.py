from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

Command = Callable[..., "subprocess.CompletedProcess[str]"]


def test_the_server_prints_its_address_and_ends_at_a_signal(
    tmp_path: Path, clean_env: dict[str, str]
) -> None:
    database = tmp_path / "server.db"
    server = subprocess.Popen(
        [sys.executable, "-m", "parallel_hpo", "server", "--database", str(database)],
        env=clean_env | {"PYTHONPATH": os.pathsep.join(sys.path)},
        stdout=subprocess.PIPE,
        text=True,
    )
    with server:
        assert server.stdout is not None
        said = json.loads(server.stdout.readline())
        server.send_signal(signal.SIGTERM)
        assert server.wait(timeout=10) == 0
        assert server.stdout.read() == ""
    assert said["url"].startswith("http://127.0.0.1:")
    assert said["database"] == str(database)
    assert len(said["api_key"]) >= 40


def test_a_used_port_is_an_error_of_one_line(command: Command) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        done = command("server", "--port", str(taken.getsockname()[1]))
    assert done.stderr.startswith("error: the sweep server can't listen on 127.0.0.1:")
    assert len(done.stderr.splitlines()) == 1
    assert (done.returncode, done.stdout) == (1, "")


def test_an_unwritable_folder_is_an_error_of_one_line(command: Command) -> None:
    done = command("server", "--database", "/proc/server.db")
    assert done.stderr.startswith("error: the sweep server can't open its database /proc/server.db: ")
    assert len(done.stderr.splitlines()) == 1
    assert (done.returncode, done.stdout) == (1, "")
