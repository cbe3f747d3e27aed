"""Recognition of parallel_hpo servers, with real HTTP servers."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from parallel_hpo.client.server_client import OUR_NAME, is_ours


@contextmanager
def answering(status: int, body: bytes) -> Iterator[str]:
    """Serve one answer; yield the address."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            """Log nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


def test_a_parallel_hpo_server_identifies_itself() -> None:
    with answering(200, json.dumps({"status": "ok", "server": OUR_NAME}).encode()) as url:
        assert is_ours(url)


@pytest.mark.parametrize(
    ("status", "body"), [(200, b"<html>"), (200, b"[]"), (200, b'{"status": "ok"}'), (404, b"no")]
)
def test_any_other_answer_is_from_another_server(status: int, body: bytes) -> None:
    with answering(status, body) as url:
        assert not is_ours(url)


def test_a_silent_address_is_another_server() -> None:
    with answering(200, b"") as url:
        pass
    assert not is_ours(url)
    assert not is_ours("https://api.wandb.ai")
