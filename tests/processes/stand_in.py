"""A server that stands in for W&B's: one of ours behind a front that hides that it is one."""

from __future__ import annotations

import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Final

HIDDEN: Final = "/hpo/"
PER_HOP: Final = ("connection", "transfer-encoding", "content-length")
LIMIT_S: Final = 30.0


@contextmanager
def stand_in(url: str) -> Iterator[str]:
    """Yield the address of a front of the server at `url`, at which nothing of our own is to be had."""
    front = ThreadingHTTPServer(("127.0.0.1", 0), _handler_of(url))
    front.daemon_threads = True
    thread = threading.Thread(target=front.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{front.server_address[1]}"
    finally:
        front.shutdown()
        thread.join()
        front.server_close()


def _handler_of(url: str) -> type[BaseHTTPRequestHandler]:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    class Front(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path.startswith(HIDDEN):
                self.send_error(404)
                return
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            request = urllib.request.Request(f"{url}{self.path}", data=body or None, method=self.command)
            for name, value in self.headers.items():
                if name.lower() not in PER_HOP:
                    request.add_header(name, value)
            try:
                with opener.open(request, timeout=LIMIT_S) as answer:
                    self._pass_on(answer.status, answer.headers.items(), answer.read())
            except urllib.error.HTTPError as error:
                self._pass_on(error.code, error.headers.items(), error.read())

        do_POST = do_PUT = do_HEAD = do_GET

        def log_message(self, format: str, *arguments: object) -> None:
            """Say nothing."""

        def _pass_on(self, status: int, headers: object, body: bytes) -> None:
            self.send_response(status)
            for name, value in headers:  # type: ignore[attr-defined]
                if name.lower() not in PER_HOP:
                    self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    return Front
