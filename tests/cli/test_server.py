"""`parallel-hpo server` and `open` as real processes, and the warning of `join` about plain HTTP."""

from __future__ import annotations

import json
import signal
import socket
import stat
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from parallel_hpo.cli import join
from parallel_hpo.cli.open import has_browser
from parallel_hpo.client.own_servers import LocalBackend
from parallel_hpo.core.errors import BackendError
from parallel_hpo.records.ledger import Ledger
from parallel_hpo.session.signals import CommandPipe
from tests.cli.conftest import Command
from tests.commands import Started, start_command
from tests.server.server_logic import Services, grid


def test_the_server_prints_its_address_and_ends_at_a_signal(
    tmp_path: Path, clean_env: dict[str, str]
) -> None:
    words = ("server", "--database", str(tmp_path / "server.db"))
    server = start_command(*words, folder=tmp_path, environment=clean_env)
    said = json.loads(server.stdout.readline())
    server.send_signal(signal.SIGTERM)
    assert (server.communicate(timeout=10)[0], server.returncode) == ("", 0)
    assert said["url"].startswith("http://127.0.0.1:")
    assert said["database"] == str(tmp_path / "server.db")
    assert len(said["api_key"]) >= 40


def test_a_used_port_or_an_unwritable_folder_is_a_one_line_error(command: Command) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        used = command("server", "--port", str(taken.getsockname()[1]))
    unwritable = command("server", "--database", "/proc/server.db")
    for done, why in ((used, "listen on 127.0.0.1:"), (unwritable, "open its database /proc/server.db: ")):
        assert done.stderr.startswith(f"error: the sweep server can't {why}")
        assert (len(done.stderr.splitlines()), done.returncode, done.stdout) == (1, 1, "")


HTML = {"Accept": "text/html"}


@pytest.fixture
def sweep(tmp_path: Path) -> str:
    """A performed sweep."""
    services = Services(tmp_path)
    sweep = services.sweep(grid(2))
    services.perform(sweep, services.agent(sweep))
    services.close()
    record(tmp_path, sweep, "http://127.0.0.1:9")
    return sweep


def record(folder: Path, sweep: str, url: str, backend: str = "local") -> None:
    facts = {"path": f"local/p/{sweep}", "url": f"{url}/local/p/sweeps/{sweep}", "backend": backend}
    with Ledger(folder / sweep / "ledger.db") as ledger:
        ledger.record_facts(facts)


@contextmanager
def opened(folder: Path, environment: dict[str, str], *words: str) -> Iterator[Started]:
    """Start `open`, which runs until a signal."""
    named = ("open", *words, "--directory", str(folder))
    process = start_command(*named, folder=folder, environment=environment)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def page(address: str) -> str:
    opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor())
    with opener.open(urllib.request.Request(address, headers=HTML)) as answer:
        return str(answer.read().decode())


@pytest.mark.parametrize(("number", "named"), [(signal.SIGINT, True), (signal.SIGTERM, False)])
def test_open_serves_an_ended_sweep_until_a_signal(
    sweep: str, tmp_path: Path, clean_env: dict[str, str], number: signal.Signals, named: bool
) -> None:
    before = set(tmp_path.iterdir())
    with opened(tmp_path, clean_env, *([sweep] if named else [])) as process:
        address = process.stdout.readline().strip()
        assert urlsplit(address).path == f"/local/p/sweeps/{sweep}"
        assert sweep in page(address)
        process.send_signal(number)
        rest, said = process.communicate(timeout=30)
    assert (process.returncode, rest) == (0, "")
    assert "Ctrl-C" in said
    with pytest.raises(urllib.error.URLError):
        page(address)
    left = {path.name for path in set(tmp_path.iterdir()) - before}
    assert {name for name in left if name.startswith("server-") and name.endswith(".door")} == set()


def test_open_shows_a_running_sweep_on_its_own_server(
    sweep: str, tmp_path: Path, clean_env: dict[str, str], command: Command
) -> None:
    backend = LocalBackend(tmp_path, clean_env)
    backend.open()
    try:
        backend.wait_until_up()
        url = backend.client_environment("supervisor")["WANDB_BASE_URL"]
        record(tmp_path, sweep, url)
        with CommandPipe(tmp_path / sweep):
            done = command("open", sweep, "--directory", str(tmp_path))
            assert done.returncode == 0
            assert done.stderr == ""
            assert done.stdout.startswith(f"{url}/local/p/sweeps/{sweep}?ticket=")
            assert sweep in page(done.stdout.strip())
    finally:
        backend.close()


def test_open_prints_the_wandb_address_of_a_sweep_on_wandb(tmp_path: Path, command: Command) -> None:
    record(tmp_path, "abc", "https://wandb.example", backend="wandb")
    done = command("open", "abc", "--directory", str(tmp_path))
    assert (done.returncode, done.stdout) == (0, "https://wandb.example/local/p/sweeps/abc\n")


def test_open_shows_a_sweep_on_its_standalone_server(
    sweep: str, tmp_path: Path, clean_env: dict[str, str], command: Command
) -> None:
    words = ("server", "--database", str(tmp_path / "server.db"))
    server = start_command(*words, folder=tmp_path, environment=clean_env)
    try:
        url = json.loads(server.stdout.readline())["url"]
        record(tmp_path, sweep, url, backend="wandb")
        done = command("open", sweep, "--directory", str(tmp_path))
        assert sweep in page(done.stdout.strip())
    finally:
        server.send_signal(signal.SIGTERM)
        server.communicate(timeout=30)
    assert list(tmp_path.glob("server-*.door")) == []


def test_open_passes_the_address_to_the_browser_and_hides_output(tmp_path: Path, command: Command) -> None:
    record(tmp_path, "abc", "https://wandb.example", backend="wandb")
    browser, told = tmp_path / "browser", tmp_path / "told"
    browser.write_text(f'#!/bin/sh\necho noise\necho "$1" > {told}.part && mv {told}.part {told}\n')
    browser.chmod(browser.stat().st_mode | stat.S_IXUSR)
    done = command("open", "abc", "--directory", str(tmp_path), BROWSER=str(browser))
    assert done.stdout == "https://wandb.example/local/p/sweeps/abc\n"
    while not told.exists():
        time.sleep(0.01)
    assert told.read_text() == done.stdout


def test_open_without_a_sweep_or_its_database_is_a_usage_error(tmp_path: Path, command: Command) -> None:
    for why in ("there is no sweep in", "no longer has the server's data"):
        done = command("open", "--directory", str(tmp_path))
        assert (done.returncode, done.stdout) == (2, "")
        assert why in done.stderr
        record(tmp_path, "abc", "http://127.0.0.1:9")
    assert not (tmp_path / "server.db").exists()


@pytest.mark.parametrize(
    ("environment", "platform", "there"),
    [
        ({}, "linux", False),
        ({"DISPLAY": ":0"}, "linux", True),
        ({"WAYLAND_DISPLAY": "w"}, "linux", True),
        ({"BROWSER": "firefox"}, "linux", True),
        ({}, "darwin", True),
        ({"SSH_CONNECTION": "x"}, "darwin", False),
    ],
)
def test_a_browser_needs_a_display_or_the_browser_variable(
    environment: dict[str, str], platform: str, there: bool
) -> None:
    assert has_browser(environment, platform) is there


@pytest.mark.parametrize(
    ("url", "warned"),
    [
        ("http://10.0.0.7:8080", True),
        ("HTTP://head.example:8080", True),
        ("http://localhost.example", True),
        ("https://head.example", False),
        ("http://127.0.0.1:8080", False),
        ("http://localhost:8080", False),
        ("http://[::1]:8080", False),
    ],
)
def test_plain_http_to_another_host_sends_the_key_in_clear(url: str, *, warned: bool) -> None:
    assert join.sends_key_in_clear(url) is warned


def test_join_warns_about_plain_http(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def unreachable(_: object) -> None:
        raise BackendError("unreachable")

    monkeypatch.setattr(join, "_read_facts", unreachable)
    environment = {"WANDB_BASE_URL": "http://10.0.0.7:8080", "WANDB_API_KEY": "k" * 40}
    with pytest.raises(BackendError, match="unreachable"):
        join._find_task("abc", None, environment)
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 1
    assert "warning: http://10.0.0.7:8080 is plain HTTP" in said[0]
