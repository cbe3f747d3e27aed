"""An HTTP proxy between real clients and a real server that injects faults, or terminates TLS.

A function chooses the fault of each request, so that a test can be as random
or as deliberate as it likes. Refusals and lost messages are what a bad network or an
overloaded server does; copies are what retries do.
"""

from __future__ import annotations

import random
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import Enum, auto
from http.client import HTTPConnection, HTTPException
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final
from urllib.parse import urlsplit

from tests.threads import answering_in_a_thread

LATE_S: Final = 0.3
STREAMS_FACTOR: Final = 3
"""Streams are rarer, and all faults should occur within one short sweep."""
DELAY_S: Final = 0.2
NOT_PASSED_ON: Final = {"connection", "transfer-encoding", "keep-alive", "content-length", "date", "server"}


class Harm(Enum):
    """The fault of one request."""

    NONE = auto()
    LOSE_REQUEST = auto()
    """The connection closes, and the server gets nothing."""
    LOSE_REPLY = auto()
    """The server acts, and the client gets no reply."""
    REPEAT = auto()
    """The server gets it twice; the client gets the second answer."""
    LATE_COPY = auto()
    """The server gets it once more after a while."""
    DELAY = auto()
    FAIL_500 = auto()
    REFUSE_429 = auto()
    GONE_404 = auto()


STATUS: Final = {Harm.FAIL_500: 500, Harm.REFUSE_429: 429, Harm.GONE_404: 404}


@dataclass(frozen=True)
class Message:
    """A request that the proxy received."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes


Choose = Callable[[Message], Harm]


@dataclass
class Mischief:
    """Injects random faults, from the first agent's registration on, and none twice in a row;
    each fault is about equally frequent.

    Late copies only of streams: a late copy of an agent's last heartbeat draws a run that nobody gets,
    which a server that knows no supervisor gives to another agent only after minutes of silence.
    """

    seed: int
    rate: float
    """Share of messages with a fault; of streams, STREAMS_FACTOR times as many."""
    harms: tuple[Harm, ...] = (Harm.LOSE_REPLY, Harm.REPEAT, Harm.LATE_COPY, Harm.DELAY)
    done: list[Harm] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._random = random.Random(self.seed)
        self._lock = threading.Lock()
        self._awake = False
        self._harmed: set[tuple[str, bytes]] = set()

    def __call__(self, message: Message) -> Harm:
        with self._lock:
            self._awake = self._awake or b"CreateAgent" in message.body
            key = (message.path, message.body)
            rate = self.rate * (STREAMS_FACTOR if _is_stream(message) else 1)
            if key in self._harmed or not self._awake or self._random.random() > rate:
                self._harmed.discard(key)
                return Harm.NONE
            harm = self._next(message)
            self._harmed.add(key)
            self.done.append(harm)
            return harm

    def _next(self, message: Message) -> Harm:
        """Choose one of the least frequent faults, so that each occurs."""
        fit = [harm for harm in self.harms if harm is not Harm.LATE_COPY or _is_stream(message)]
        fewest = min(self.done.count(harm) for harm in fit)
        return self._random.choice([harm for harm in fit if self.done.count(harm) == fewest])


def _is_stream(message: Message) -> bool:
    return message.path.endswith("/file_stream")


class Proxy(ThreadingHTTPServer):
    """The proxy; `choose` may be replaced at any time."""

    daemon_threads = True

    def __init__(self, target: str, tls: ssl.SSLContext | None = None) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.scheme = "http" if tls is None else "https"
        if tls is not None:
            self.socket = tls.wrap_socket(self.socket, server_side=True)
        self.choose: Choose = lambda message: Harm.NONE
        self.target = urlsplit(target).netloc

    @property
    def url(self) -> str:
        return f"{self.scheme}://127.0.0.1:{self.server_address[1]}"

    def forward(self, message: Message) -> tuple[int, list[tuple[str, str]], bytes]:
        """Forward the message, and return the server's status, headers and body."""
        connection = HTTPConnection(self.target, timeout=30)
        try:
            headers = message.headers | {"X-Forwarded-Proto": self.scheme}
            connection.request(message.method, message.path, message.body, headers)
            response = connection.getresponse()
            return response.status, response.getheaders(), response.read()
        finally:
            connection.close()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Log nothing: clients may disconnect at any time."""


class _Handler(BaseHTTPRequestHandler):
    server: Proxy
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1

    def do_POST(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        message = Message(self.command, self.path, dict(self.headers), self.rfile.read(length))
        harm = self.server.choose(message)
        try:
            self._pass_on(message, harm)
        except (OSError, HTTPException):
            self.close_connection = True

    do_GET = do_PUT = do_POST

    def _pass_on(self, message: Message, harm: Harm) -> None:
        if harm is Harm.LOSE_REQUEST:
            self.close_connection = True
            return
        if harm in STATUS:
            self._answer(STATUS[harm], [("Content-Type", "application/json")], b'{"errors": []}')
            return
        if harm is Harm.DELAY:
            threading.Event().wait(DELAY_S)
        answer = self.server.forward(message)
        if harm is Harm.REPEAT:
            answer = self.server.forward(message)
        if harm is Harm.LOSE_REPLY:
            self.close_connection = True
            return
        self._answer(*answer)
        if harm is Harm.LATE_COPY:
            threading.Event().wait(LATE_S)
            self.server.forward(message)

    def _answer(self, status: int, headers: list[tuple[str, str]], body: bytes) -> None:
        self.send_response_only(status)
        for name, value in headers:
            if name.lower() not in NOT_PASSED_ON:
                self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
        self.wfile.flush()

    def log_message(self, format: str, *args: Any) -> None:
        """Log nothing."""


@contextmanager
def proxying(target: str, tls: ssl.SSLContext | None = None) -> Iterator[Proxy]:
    """Run a proxy in front of the server at `target`, with TLS if `tls` is given."""
    with answering_in_a_thread(Proxy(target, tls)) as proxy:
        yield proxy
