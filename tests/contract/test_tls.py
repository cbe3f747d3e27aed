"""A real client behind a proxy that ends TLS, as a server on the network has one; its streams are packed."""

from __future__ import annotations

import shutil
import ssl
import subprocess
import sys
from pathlib import Path

import pytest

from tests.contract.proxy import Harm, Message, proxying
from tests.contract.serving import Server

REQUEST = ("openssl", "req", "-x509", "-nodes", "-newkey", "rsa:2048", "-days", "2", "-subj", "/CN=localhost")


@pytest.mark.skipif(sys.platform == "darwin", reason="wandb-core takes certificates from the keychain there")
@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl makes the certificate")
def test_files_and_packed_streams_go_through_a_proxy_that_ends_tls(server: Server, tmp_path: Path) -> None:
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    names = ("-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(certificate))
    subprocess.run([*REQUEST, *names], check=True, capture_output=True)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificate, key)
    trusted = str(certificate)
    packed: set[str | None] = set()

    def note(message: Message) -> Harm:
        if message.path.endswith("/file_stream"):
            packed.add(message.headers.get("Content-Encoding"))
        return Harm.NONE

    with proxying(server.said["url"], tls) as proxy:
        proxy.choose = note
        got = server.client(
            "behind_tls.py",
            WANDB_BASE_URL=proxy.url,
            SSL_CERT_FILE=trusted,
            REQUESTS_CA_BUNDLE=trusted,
            WANDB_X_FILE_STREAM_NO_GZIP="false",
        )
        assert got["text"] == "sent"
        assert got["url"].startswith(f"{proxy.url}/downloads/")
    assert packed == {"gzip"}
