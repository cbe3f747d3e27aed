"""Certificates and proxies in the environment, in the check of a W&B server."""

from __future__ import annotations

import os
import shutil
import socket
import ssl
import subprocess
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from parallel_hpo.client.calls import trusted
from tests.commands import start_python
from tests.threads import answering_in_a_thread

ASK = """
import os
from parallel_hpo.client.credentials import find_credentials
from parallel_hpo.client.calls import connection_problem
print(connection_problem(find_credentials(os.environ)) or "")
"""

Ask = Callable[..., str]
HEEDED = ("PROXY", "CA_BUNDLE", "SSL_CERT", "WANDB_", "NETRC")


class Welcoming(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200 if self.headers["Authorization"] else 401)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    def log_message(self, format: str, *args: Any) -> None:
        """Log nothing."""


@pytest.fixture
def server() -> Iterator[ThreadingHTTPServer]:
    """A server or proxy that accepts any key."""
    with answering_in_a_thread(ThreadingHTTPServer(("127.0.0.1", 0), Welcoming)) as server:
        yield server


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


def url_of(server: ThreadingHTTPServer, scheme: str = "http") -> str:
    return f"{scheme}://127.0.0.1:{server.server_address[1]}"


def speak_tls(server: ThreadingHTTPServer, certificate: Path) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    server.socket = context.wrap_socket(server.socket, server_side=True)


def test_a_certificate_is_accepted_only_if_the_environment_trusts_it(
    ask: Ask, server: ThreadingHTTPServer, certificate: Path
) -> None:
    speak_tls(server, certificate)
    for variable in ("REQUESTS_CA_BUNDLE", "SSL_CERT_FILE"):
        assert ask(url_of(server, "https"), **{variable: str(certificate)}) == ""
    words = ask(url_of(server, "https"))
    assert words.startswith(f"{url_of(server, 'https')} can't be reached: ")
    assert "certificate verify failed" in words


def test_a_server_is_reached_through_a_proxy_unless_it_is_in_no_proxy(
    ask: Ask, server: ThreadingHTTPServer
) -> None:
    assert ask("http://beyond.invalid", HTTP_PROXY=url_of(server), http_proxy=url_of(server)) == ""
    with socket.create_server(("127.0.0.1", 0)) as closed:
        nobody = f"http://127.0.0.1:{closed.getsockname()[1]}"
    proxies = {"HTTP_PROXY": nobody, "http_proxy": nobody}
    assert "can't be reached" in ask(url_of(server), **proxies)
    assert ask(url_of(server), NO_PROXY="127.0.0.0/8", **proxies) == ""


def test_the_key_of_a_netrc_file_is_sent(ask: Ask, server: ThreadingHTTPServer, tmp_path: Path) -> None:
    machine = url_of(server).removeprefix("http://")
    (tmp_path / "netrc").write_text(f"machine {machine} login user password {'k' * 40}\n")
    assert ask(url_of(server), WANDB_API_KEY="", NETRC=str(tmp_path / "netrc")) == ""


def test_ssl_cert_file_is_used_unless_requests_ca_bundle_is_set(tmp_path: Path) -> None:
    here = str(tmp_path)
    assert trusted({}) is True
    assert trusted({"SSL_CERT_FILE": here}) == here
    assert trusted({"SSL_CERT_FILE": here, "REQUESTS_CA_BUNDLE": "other"}) is True
    assert trusted({"SSL_CERT_FILE": f"{here}/nothing"}) is True
