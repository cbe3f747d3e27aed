"""Pages through a real `ssh -L`, on another port than the server's own: login, live updates, actions."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import BrowserContext, expect

from tests.chromium import looking
from tests.pages.scenes import Scenes
from tests.pages.serving import SPACE, Served
from tests.slurm import free_port

SSHD = shutil.which("sshd", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
ON = ("-o", "StrictModes=no", "-o", "UsePAM=no", "-o", "PermitRootLogin=yes", "-o", "ListenAddress=127.0.0.1")

Forward = Callable[[str], int]


def why_not() -> str | None:
    """Return why a tunnel can't be tested here, or None."""
    if SSHD is None or shutil.which("ssh") is None:
        return "no sshd is installed (Debian: apt-get install openssh-server openssh-client)"
    if os.getuid() == 0 and not Path("/run/sshd").is_dir():
        return "sshd has no /run/sshd here"
    return None


@contextmanager
def ssh_server(folder: Path) -> Iterator[int]:
    """Run an sshd as this user; yield its port."""
    for name in ("host", "user"):
        key = ("-q", "-t", "ed25519", "-N", "", "-f", str(folder / name))
        subprocess.run(["ssh-keygen", *key], check=True)
    port = free_port()
    files = ("-f", "/dev/null", "-h", str(folder / "host"), "-o", f"AuthorizedKeysFile={folder}/user.pub")
    command = [str(SSHD), "-D", "-e", "-p", str(port), "-o", f"PidFile={folder}/pid", *files, *ON]
    server = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert server.stderr is not None
    try:
        said = server.stderr.readline()
        assert "listening" in said, said
        yield port
    finally:
        server.terminate()
        server.wait(10)
        server.stderr.close()


@pytest.fixture
def forward(tmp_path: Path) -> Iterator[Forward]:
    """Forward a port of this machine to a server's address, as `ssh -L` does; return the port."""
    reason = why_not()
    if reason is not None:
        pytest.skip(reason)
    folder = tmp_path / "ssh"
    folder.mkdir(mode=0o700)
    with ssh_server(folder) as at:
        ssh = f"ssh -q -F none -p {at} -i {folder / 'user'} -S {folder / 's'}".split()
        ssh += ["-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null"]

        def forward(url: str) -> int:
            port, there = free_port(), urlsplit(url).netloc
            tunnel = f"-M -f -N -o ExitOnForwardFailure=yes -L {port}:{there} 127.0.0.1".split()
            quiet = subprocess.DEVNULL
            subprocess.run([*ssh, *tunnel], check=True, stdin=quiet, stdout=quiet, stderr=quiet, timeout=30)
            return port

        yield forward
        subprocess.run([*ssh, "-O", "exit", "127.0.0.1"], check=True, timeout=30)


@pytest.mark.parametrize("name", ["127.0.0.1", "localhost"])
def test_a_page_works_through_a_tunnel_on_another_port(
    window: BrowserContext, site: Served, forward: Forward, name: str
) -> None:
    sweep = Scenes(site.services).sweep(SPACE, 3, state="RUNNING")
    near = f"http://{name}:{forward(site.url)}"
    with looking(window) as sight:
        page = sight.page
        page.goto(site.address(f"/local/p/sweeps/{sweep}").replace(site.url, near))
        expect(page.locator("#live")).to_have_text("live")
        expect(page.locator("#rail-list li")).to_have_count(3)
        page.click("#actions button:has-text('Pause')")
        expect(page.locator("#state")).to_have_text("paused")
        assert sight.complaints() == []
