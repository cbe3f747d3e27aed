"""Where machines would meet their head: a port that listens where its server would, while they are asked.

No sweep's server is started for that: whoever asks the port gets an empty answer, with the time in its head.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from parallel_hpo.backend.choose import choose_backend
from parallel_hpo.backend.credentials import find_credentials
from parallel_hpo.config.hpo import BackendChoice
from parallel_hpo.doctor.questions import ServerToReach


@contextmanager
def meeting_places(
    wanted: BackendChoice, environment: Mapping[str, str], host: str
) -> Iterator[tuple[ServerToReach, ...]]:
    """Have what a sweep's nodes must reach, within the block: the sweep's server, and its pool's.

    Raises:
        OSError: nothing can listen on `host`.
        BackendError, ConfigError: there is no such backend here.
    """
    chosen = choose_backend(wanted, environment)
    url = find_credentials(environment).base_url
    if chosen.ours:
        yield (ServerToReach("the sweep's server", url),)
        return
    with _listening(host) as here:
        head = ServerToReach("the head", here)
        yield (head,) if chosen.name == "local" else (head, ServerToReach("W&B", url))


@contextmanager
def _listening(host: str) -> Iterator[str]:
    """Listen on any free port of an address of this machine; return where."""
    with ThreadingHTTPServer((host, 0), _Nothing) as server:
        thread = threading.Thread(target=server.serve_forever, name="parallel_hpo-meeting", daemon=True)
        thread.start()
        try:
            yield f"http://{host}:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()


class _Nothing(BaseHTTPRequestHandler):
    """Answers with nothing."""

    def do_GET(self) -> None:
        """Say that it was heard."""
        self.send_response(204)
        self.end_headers()

    def log_message(self, format: str, *_: object) -> None:
        """Nobody is to read of it."""
