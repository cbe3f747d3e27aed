"""A real client of a server behind a TLS-terminating proxy, or with its own certificate."""

from __future__ import annotations

import json
import shutil
import ssl
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

import pytest

from parallel_hpo.client.server_client import ServerConnection
from parallel_hpo.core.errors import ExitCode, ServerAwayError
from tests.commands import call_command, start_command
from tests.conftest import make_clean_env
from tests.contract.proxy import Harm, Message, proxying
from tests.contract.serving import Server, serving

REQUEST = ("openssl", "req", "-x509", "-nodes", "-newkey", "rsa:2048", "-days", "2", "-subj", "/CN=localhost")
RANDOM: Final = {"method": "random", "parameters": {"x": {"min": 0.0, "max": 1.0}}}
MAIN: Final = """
import wandb

def main():
    with wandb.init() as run:
        run.log({"x": 1})
"""


pytestmark = [
    pytest.mark.skipif(
        sys.platform == "darwin", reason="wandb-core takes certificates from the keychain there"
    ),
    pytest.mark.skipif(
        shutil.which("openssl") is None, reason="openssl is not installed (Debian: apt-get install openssl)"
    ),
]


class Files:
    """A server's key and its self-signed certificate."""

    def __init__(self, folder: Path) -> None:
        self.key, self.certificate = folder / "key.pem", folder / "certificate.pem"
        names = ("-addext", "subjectAltName=IP:127.0.0.1", "-keyout", self.key, "-out", self.certificate)
        subprocess.run([*REQUEST, *names], check=True, capture_output=True)

    @property
    def trusted(self) -> dict[str, Any]:
        """Variables to trust it: wandb-core and we read the first, wandb's Python the second."""
        return dict.fromkeys(("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE"), str(self.certificate))


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    return Files(tmp_path_factory.mktemp("files"))


def test_files_and_compressed_streams_pass_a_tls_terminating_proxy(server: Server, files: Files) -> None:
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(files.certificate, files.key)
    packed: set[str | None] = set()

    def note(message: Message) -> Harm:
        if message.path.endswith("/file_stream"):
            packed.add(message.headers.get("Content-Encoding"))
        return Harm.NONE

    with proxying(server.said["url"], tls) as proxy:
        proxy.choose = note
        got = server.client(
            "behind_tls.py", WANDB_BASE_URL=proxy.url, WANDB_X_FILE_STREAM_NO_GZIP="false", **files.trusted
        )
        assert got["text"] == "sent"
        assert got["url"].startswith(f"{proxy.url}/downloads/")
    assert packed == {"gzip"}


def test_a_server_with_a_certificate_serves_https_to_clients_and_machines(
    files: Files, tmp_path: Path
) -> None:
    """A client that does not trust the certificate fails; one that does sends and fetches, as does a
    machine that joins a sweep and runs it.
    """
    options = ("--tls-certificate", str(files.certificate), "--tls-key", str(files.key))
    env = make_clean_env(tmp_path / "home")
    with serving(tmp_path, env, options=options) as server:
        assert server.said["url"].startswith("https://127.0.0.1:")
        with pytest.raises(ServerAwayError, match="CERTIFICATE_VERIFY_FAILED"):
            ServerConnection(server.said["url"], "").ask("GET", "/hpo/health")
        got = server.client("behind_tls.py", **files.trusted)
        assert (got["text"], got["url"].partition("/downloads/")[0]) == ("sent", server.said["url"])

        environment = server.client_env | files.trusted
        section = {"count": 1, "workers": 1, "sweep_configuration": RANDOM, "directory": str(tmp_path / "d")}
        config = tmp_path / "config.json"
        config.write_text(json.dumps({"hpo": section}))
        target = f"{tmp_path / 'main.py'}:main"
        (tmp_path / "main.py").write_text(MAIN)
        create = ("run", str(config), target, "--create")
        sweep = start_command(*create, folder=tmp_path, environment=environment).communicate()[0].strip()
        machine = start_command("join", sweep, folder=tmp_path, environment=environment)
        said = machine.communicate()[1]
        assert machine.returncode == 0, said
        assert "finished" in said


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--tls-key", "key.pem"], "go together"),
        (["--tls-certificate", "no.pem", "--tls-key", "key.pem"], "No such file"),
        (["--tls-certificate", "key.pem", "--tls-key", "key.pem"], "without a password, as PEM files"),
        (["--tls-certificate", "certificate.pem", "--tls-key", "locked.pem"], "without a password"),
    ],
)
def test_an_invalid_certificate_or_key_is_refused_with_a_usage_error(
    options: list[str], said: str, files: Files, tmp_path: Path
) -> None:
    lock = ("openssl", "rsa", "-aes128", "-passout", "pass:x", "-in", files.key)
    subprocess.run([*lock, "-out", tmp_path / "locked.pem"], check=True, capture_output=True)
    shutil.copy(files.key, tmp_path)
    shutil.copy(files.certificate, tmp_path)
    words = ("server", "--database", str(tmp_path / "server.db"), *options)
    done = call_command(*words, folder=tmp_path, environment=make_clean_env(tmp_path / "home"))
    assert (done.returncode, done.stderr.count("\n")) == (ExitCode.USAGE, 1)
    assert said in done.stderr
    assert not (tmp_path / "server.db").exists()
