"""A server among many who don't want to be served, and one whose end nothing holds up."""

from __future__ import annotations

import json
import resource
import signal
import socket
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import ExitStack, closing, suppress
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from tests.commands import start_python

FEW_FILES = 128
"""Half of them may be connections."""
VIEWER = {"query": "{ viewer { username } }"}
REGISTER = 'mutation { createAgent(input: {host: "h", sweep: "none"}) { agent { id } } }'
END_WITHIN_S = 8.0
"""Less than the 10 s for which a server waits for a locked database."""


class Served:
    """A server of its own that may open few files."""

    def __init__(self, env: dict[str, str], folder: Path) -> None:
        self.database = folder / "server.db"
        words = ("-m", "parallel_hpo.server", "--database", str(self.database))
        limited = partial(resource.setrlimit, resource.RLIMIT_NOFILE, (FEW_FILES, FEW_FILES))
        self.process = start_python(*words, folder=folder, environment=env, before=limited)
        said = json.loads(self.process.stdout.readline())
        self.url, self.key = said["url"], said["api_key"]

    def connect(self) -> socket.socket:
        where = urlsplit(self.url)
        return socket.create_connection((where.hostname, where.port), timeout=10)

    def end(self) -> str:
        """Ask it to end, and return what it has logged."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.communicate(timeout=END_WITHIN_S)[1]


@pytest.fixture
def served(clean_env: dict[str, str], tmp_path: Path) -> Iterator[Served]:
    made = Served(clean_env, tmp_path)
    yield made
    if made.process.poll() is None:
        made.process.kill()
        made.process.communicate()


def test_silent_connections_keep_nobody_out_who_has_a_key_and_fill_no_log(served: Served) -> None:
    with ExitStack() as open_ones, httpx.Client(auth=("api", served.key), trust_env=False) as client:
        for _ in range(4 * FEW_FILES):
            open_ones.enter_context(served.connect())
        for _ in range(3):
            answer = client.post(f"{served.url}/graphql", json=VIEWER)
            assert answer.json()["data"]["viewer"]["username"] == "local"
    assert len(served.end().splitlines()) < 100


def test_requests_that_are_refused_fill_no_log(served: Served) -> None:
    with httpx.Client(trust_env=False) as stranger:
        for _ in range(100):
            assert stranger.post(f"{served.url}/graphql", json=VIEWER).status_code == 401
    logged = served.end().splitlines()
    assert len(logged) == 10
    assert "more like this are left out" in logged[-1]


def test_a_signal_ends_a_server_whatever_its_database_waits_for(served: Served) -> None:
    def ask(query: str, timeout_s: float) -> None:
        httpx.post(
            f"{served.url}/graphql",
            json={"query": query},
            auth=("api", served.key),
            timeout=timeout_s,
            trust_env=False,
        )

    def register() -> None:
        with suppress(httpx.HTTPError):
            ask(REGISTER, 60)

    with closing(sqlite3.connect(served.database)) as other:
        other.execute("BEGIN IMMEDIATE")
        asking = threading.Thread(target=register)
        asking.start()
        with pytest.raises(httpx.ReadTimeout):  # the one thread that writes waits for the lock
            ask(REGISTER, 1)
        ask(VIEWER["query"], 10)  # and what is only read waits for nothing
        said = served.end()
        asking.join(10)
    assert "store/database.py" in said  # the stacks say what it was doing
    assert served.process.returncode != -signal.SIGKILL
