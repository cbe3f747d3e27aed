"""`parallel-hpo open`, as a real process: during a sweep and after it."""

from __future__ import annotations

import json
import signal
import stat
import subprocess
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from parallel_hpo.cli.open import has_browser
from parallel_hpo.client.own_servers import LocalBackend
from parallel_hpo.records.ledger import Ledger
from parallel_hpo.session.signals import CommandPipe
from tests.commands import Started, start_command
from tests.server.acting import Services, grid

Command = Callable[..., "subprocess.CompletedProcess[str]"]
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
    """The command, which runs until a signal."""
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


@pytest.mark.parametrize(
    ("number", "named"), [(signal.SIGINT, True), (signal.SIGTERM, False), (signal.SIGHUP, True)]
)
def test_an_ended_sweep_is_served_until_a_signal(
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


def test_a_sweep_that_runs_is_shown_by_its_own_server(
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


def test_wandbs_own_sweep_is_shown_by_wandb(tmp_path: Path, command: Command) -> None:
    record(tmp_path, "abc", "https://wandb.example", backend="wandb")
    done = command("open", "abc", "--directory", str(tmp_path))
    assert (done.returncode, done.stdout) == (0, "https://wandb.example/local/p/sweeps/abc\n")


def test_a_sweep_on_a_server_that_runs_by_itself_is_shown_there(
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


def test_a_browser_gets_the_address_and_prints_nothing(tmp_path: Path, command: Command) -> None:
    record(tmp_path, "abc", "https://wandb.example", backend="wandb")
    browser, told = tmp_path / "browser", tmp_path / "told"
    browser.write_text(f'#!/bin/sh\necho noise\necho "$1" > {told}.part && mv {told}.part {told}\n')
    browser.chmod(browser.stat().st_mode | stat.S_IXUSR)
    done = command("open", "abc", "--directory", str(tmp_path), BROWSER=str(browser))
    assert done.stdout == "https://wandb.example/local/p/sweeps/abc\n"
    while not told.exists():
        pass
    assert told.read_text() == done.stdout


@pytest.mark.parametrize(
    ("words", "why"), [(["none"], "there is no sweep none"), ([], "there is no sweep in")]
)
def test_an_unknown_sweep_is_named(tmp_path: Path, command: Command, words: list[str], why: str) -> None:
    done = command("open", *words, "--directory", str(tmp_path))
    assert (done.returncode, done.stdout) == (2, "")
    assert why in done.stderr


def test_a_sweep_without_its_database_is_named(tmp_path: Path, command: Command) -> None:
    record(tmp_path, "abc", "http://127.0.0.1:9")
    done = command("open", "abc", "--directory", str(tmp_path))
    assert (done.returncode, done.stdout) == (2, "")
    assert "no longer has the server's data" in done.stderr
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
def test_a_browser_needs_a_screen_or_a_variable(
    environment: dict[str, str], platform: str, there: bool
) -> None:
    assert has_browser(environment, platform) is there
