"""An embedded server that can't be restarted, and one that is unreachable for a while."""

from __future__ import annotations

import queue
import sqlite3
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import psutil
import pytest

from parallel_hpo.client.own_servers import LocalBackend
from parallel_hpo.client.server_client import ServerClient
from parallel_hpo.core.errors import BackendError
from parallel_hpo.core.types import RunId, SweepId, SweepPath
from tests.process_pool.pooling import DEADLINE_S, marked
from tests.threads import answering_in_a_thread


def spoil(database: Path) -> None:
    """Make the database one that the server refuses to open."""
    with sqlite3.connect(database, timeout=DEADLINE_S) as connection:
        connection.execute("UPDATE alembic_version SET version_num = 'future'")
    connection.close()


def test_a_server_that_fails_at_each_restart_is_lost_after_some_attempts(
    tmp_path: Path, clean_env: dict[str, str]
) -> None:
    lost: queue.SimpleQueue[str] = queue.SimpleQueue()
    backend = LocalBackend(tmp_path, marked(clean_env), restart_backoff_s=(0.0, 0.01))
    backend.open(lost.put)
    try:
        backend.wait_until_up()
        spoil(tmp_path / "server.db")
        (server,) = [c for c in psutil.Process().children() if "parallel_hpo.server" in c.cmdline()]
        server.kill()
        why = lost.get(timeout=DEADLINE_S)
    finally:
        backend.close()
    assert why.startswith("the embedded sweep server ended 2 times in a row when it was started again")
    assert why.endswith(f"its log is {tmp_path / 'server.log'}")
    assert "revision is future" in (tmp_path / "server.log").read_text()


def test_requests_share_one_timeout_for_a_killed_server(tmp_path: Path, clean_env: dict[str, str]) -> None:
    backend = LocalBackend(tmp_path, marked(clean_env), restart_backoff_s=(600.0,), away_limit_s=1.0)
    backend.open()
    try:
        backend.wait_until_up()
        (server,) = [c for c in psutil.Process().children() if "parallel_hpo.server" in c.cmdline()]
        server.kill()
        began = time.monotonic()
        for _ in range(20):
            with pytest.raises(BackendError):
                backend.end_run(SweepPath("me", "p", SweepId("s")), RunId("r"), "crashed")
        assert time.monotonic() - began < 10
    finally:
        backend.close()


class Unsteady(BaseHTTPRequestHandler):
    """Answers every other request with 503, beginning with the first."""

    asked = 0

    def do_GET(self) -> None:
        type(self).asked += 1
        self.send_response(503 if self.asked % 2 else 200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    def log_message(self, format: str, *args: object) -> None:
        """Log nothing."""


def test_separate_outages_of_a_server_do_not_add_up() -> None:
    path = SweepPath("me", "p", SweepId("s"))
    with answering_in_a_thread(ThreadingHTTPServer(("127.0.0.1", 0), Unsteady)) as server:
        url = f"http://127.0.0.1:{server.server_port}"
        client = ServerClient("k", threading.Event(), lambda: None, away_limit_s=0.2, url=url)
        for _ in range(2):
            assert client.ask("GET", path, "") == {}
            time.sleep(0.3)  # longer than the timeout for an unreachable server
