"""The backend for W&B's server, its check of proxies and certificates, and recognition of our own servers."""

from __future__ import annotations

import json
import os
import shutil
import socket
import ssl
import subprocess
from base64 import b64encode
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from socketserver import BaseRequestHandler, StreamRequestHandler, TCPServer
from typing import Any

import pytest

from parallel_hpo.client.base import OpenedSweep, SweepRequest
from parallel_hpo.client.calls import connection_problem, trusted
from parallel_hpo.client.choose import WandbBackend
from parallel_hpo.client.credentials import Credentials
from parallel_hpo.client.server_client import OUR_NAME, is_ours
from parallel_hpo.core.errors import BackendError
from parallel_hpo.core.types import SweepId, SweepPath
from tests.commands import start_python
from tests.threads import answering_in_a_thread

ORDER = SweepRequest({"method": "random"}, "project", "entity", None)
OPENED = OpenedSweep(SweepPath("entity", "project", SweepId("abc")), "http://w/abc", {})


class Server(ThreadingHTTPServer):
    """Answers every request with `status` and `body`, and keeps their Authorization headers."""

    def __init__(self, status: int, body: bytes) -> None:
        super().__init__(("127.0.0.1", 0), Answering)
        self.status = status
        self.body = body
        self.authorizations: list[str | None] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class Answering(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"] or 0))
        self.server.authorizations.append(self.headers["Authorization"])
        self.send_response(self.server.status)
        self.send_header("Content-Length", str(len(self.server.body)))
        self.end_headers()
        self.wfile.write(self.server.body)

    do_POST = do_GET

    def log_message(self, format: str, *args: Any) -> None:
        """Log nothing."""


class SshGreeting(StreamRequestHandler):
    def handle(self) -> None:
        self.wfile.write(b"SSH-2.0-OpenSSH_9.6\r\n")


CHECK = "parallel_hpo.client.calls:connection_problem"


class CallsSent:
    """Runs only the check, in this process; records calls and gives one answer."""

    def __init__(self, answer: object = OPENED, error: str = "") -> None:
        self.answer = answer
        self.error = error
        self.sent: list[tuple[str, tuple[Any, ...], dict[str, str]]] = []

    def __call__(
        self, function: str, arguments: tuple[Any, ...], environment: Mapping[str, str], limit_s: float
    ) -> object:
        if function == CHECK:
            return connection_problem(*arguments)
        self.sent.append((function, arguments, dict(environment)))
        if self.error:
            raise BackendError(self.error)
        return self.answer


@contextmanager
def answering(status: int = 200, body: bytes = b"{}") -> Iterator[Server]:
    with answering_in_a_thread(Server(status, body)) as server:
        yield server


def backend_at(url: str) -> WandbBackend:
    return WandbBackend(Credentials(url, "WANDB_API_KEY", "secret"))


def basic(key: str) -> str:
    return f"Basic {b64encode(f'api:{key}'.encode()).decode()}"


def refusal(url: str) -> str:
    calls = CallsSent()
    with pytest.raises(BackendError) as refused:
        backend_at(url).open_sweep(ORDER, calls)
    assert calls.sent == [], "a server that refuses us was asked again by the client"
    assert "secret" not in str(refused.value)
    return str(refused.value)


@pytest.mark.parametrize("status", [401, 403])
def test_a_refused_key_is_reported_with_the_servers_answer(status: int) -> None:
    with answering(status, b'{"error": "user is not\\n logged in"}') as server:
        words = refusal(server.url)
    assert words.startswith(f"{server.url} refuses the API key: HTTP {status} ")
    assert "user is not" in words
    assert words.endswith("(credentials from WANDB_API_KEY)")


def test_a_server_error_is_reported_with_its_answer_cut_to_a_line() -> None:
    with answering(500, b"<h1>out of order</h1>" + b"x" * 100_000) as server:
        words = refusal(server.url)
    assert words.startswith(f"{server.url} answers: HTTP 500 Internal Server Error: <h1>out of order</h1>")
    assert len(words) < 500


def closed_url() -> str:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        return f"http://127.0.0.1:{closed.getsockname()[1]}"


def test_an_unreachable_server_is_reported_with_advice() -> None:
    url = closed_url()
    words = refusal(url)
    assert words.startswith(f"{url} can't be reached: ")
    assert "refused" in words
    assert 'check WANDB_BASE_URL and the network, or use backend "local"' in words


def test_an_invalid_address_or_a_server_without_http_is_reported() -> None:
    for url in ("http://no such host", "http://127.0.0.1:port", "nonsense"):
        assert refusal(url).startswith(f"{url} can't be reached: ")
    for handler in (SshGreeting, BaseRequestHandler):
        with answering_in_a_thread(TCPServer(("127.0.0.1", 0), handler)) as server:
            url = f"http://127.0.0.1:{server.server_address[1]}"
            assert refusal(url).startswith(f"{url} can't be reached: ")


def test_a_sweep_is_opened_through_the_client() -> None:
    calls = CallsSent()
    with answering() as server:
        assert backend_at(server.url).open_sweep(ORDER, calls) == OPENED
    assert calls.sent == [("parallel_hpo.client.calls:open_sweep", (ORDER,), {"WANDB_BASE_URL": server.url})]
    assert server.authorizations == [basic("secret")]


def test_without_a_key_no_authorization_is_sent() -> None:
    with answering() as server:
        WandbBackend(Credentials(server.url, "WANDB_IDENTITY_TOKEN_FILE")).open_sweep(ORDER, CallsSent())
    assert server.authorizations == [None]


def test_the_clients_error_is_reported_with_the_address() -> None:
    calls = CallsSent(error="CommError: no such project")
    with answering() as server, pytest.raises(BackendError) as refused:
        backend_at(server.url).open_sweep(ORDER, calls)
    assert str(refused.value) == f"{server.url}: CommError: no such project"


def test_the_sweeps_state_is_read_and_set_through_the_client() -> None:
    calls = CallsSent()
    with answering() as server:
        backend = backend_at(server.url)
        backend.open_sweep(ORDER, calls)
        calls.answer = "the sweep is finished"
        backend.end_reason(OPENED.path)
        backend.finish_sweep(OPENED.path)
    assert calls.sent[1:] == [
        (f"parallel_hpo.client.calls:{function}", (OPENED.path,), {"WANDB_BASE_URL": server.url})
        for function in ("end_reason", "finish_sweep")
    ]


@pytest.mark.parametrize(
    ("status", "body", "ours"),
    [
        (200, json.dumps({"status": "ok", "server": OUR_NAME}).encode(), True),
        *((200, body, False) for body in (b"<html>", b"[]", b'{"status": "ok"}')),
        (404, b"no", False),
    ],
)
def test_a_parallel_hpo_server_is_recognized_by_its_answer(status: int, body: bytes, ours: bool) -> None:
    with answering(status, body) as server:
        assert is_ours(server.url) is ours
    assert not is_ours(server.url), "a silent address is another server's"
    assert not is_ours("https://api.wandb.ai")


def test_workers_get_the_address_and_find_the_key_themselves() -> None:
    assert backend_at("http://w").client_environment("worker_1") == {"WANDB_BASE_URL": "http://w"}


ASK = """
import os
from parallel_hpo.client.credentials import find_credentials
from parallel_hpo.client.calls import connection_problem
print(connection_problem(find_credentials(os.environ)) or "")
"""

Ask = Callable[..., str]
HEEDED = ("PROXY", "CA_BUNDLE", "SSL_CERT", "WANDB_", "NETRC")


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file with a key and a self-signed certificate of 127.0.0.1."""
    if not shutil.which("openssl"):
        pytest.skip("openssl is not installed (Debian: apt-get install openssl)")
    folder = tmp_path_factory.mktemp("tls")
    words = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=here"
    files = ["-keyout", str(folder / "key"), "-out", str(folder / "certificate")]
    alternative = ["-addext", "subjectAltName=IP:127.0.0.1"]
    subprocess.run(["openssl", *words.split(), *files, *alternative], check=True, capture_output=True)
    both = folder / "both.pem"
    both.write_text((folder / "key").read_text() + (folder / "certificate").read_text())
    return both


@pytest.fixture
def ask(tmp_path: Path) -> Ask:
    """Return a function that checks the server at a URL in a process with these variables and a key."""
    (tmp_path / "ask.py").write_text(ASK)
    clean = {name: value for name, value in os.environ.items() if not any(w in name.upper() for w in HEEDED)}

    def call(url: str, **environment: str) -> str:
        own = {"WANDB_BASE_URL": url, "WANDB_API_KEY": "k" * 40, **environment}
        asked = start_python("ask.py", folder=tmp_path, environment=clean | own)
        stdout, stderr = asked.communicate(timeout=60)
        assert asked.wait() == 0, stderr
        return stdout.strip()

    return call


def test_a_certificate_is_accepted_only_if_the_environment_trusts_it(ask: Ask, certificate: Path) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    with answering() as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        url = server.url.replace("http:", "https:")
        for variable in ("REQUESTS_CA_BUNDLE", "SSL_CERT_FILE"):
            assert ask(url, **{variable: str(certificate)}) == ""
        words = ask(url)
    assert words.startswith(f"{url} can't be reached: ")
    assert "certificate verify failed" in words


def test_a_server_is_reached_through_a_proxy_unless_it_is_in_no_proxy(ask: Ask) -> None:
    nobody = {"HTTP_PROXY": closed_url(), "http_proxy": closed_url()}
    with answering() as server:
        assert ask("http://beyond.invalid", HTTP_PROXY=server.url, http_proxy=server.url) == ""
        assert "can't be reached" in ask(server.url, **nobody)
        assert ask(server.url, NO_PROXY="127.0.0.0/8", **nobody) == ""


def test_the_key_of_a_netrc_file_is_sent(ask: Ask, tmp_path: Path) -> None:
    with answering() as server:
        machine = server.url.removeprefix("http://")
        (tmp_path / "netrc").write_text(f"machine {machine} login user password {'n' * 40}\n")
        assert ask(server.url, WANDB_API_KEY="", NETRC=str(tmp_path / "netrc")) == ""
    assert server.authorizations == [basic("n" * 40)]


def test_ssl_cert_file_is_used_unless_requests_ca_bundle_is_set(tmp_path: Path) -> None:
    here = str(tmp_path)
    assert trusted({}) is True
    assert trusted({"SSL_CERT_FILE": here}) == here
    assert trusted({"SSL_CERT_FILE": here, "REQUESTS_CA_BUNDLE": "other"}) is True
    assert trusted({"SSL_CERT_FILE": f"{here}/nothing"}) is True
