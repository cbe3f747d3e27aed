"""`parallel-hpo open`: the address of a sweep's page, and a server behind it for as long as it is looked at.

the sweep runs, on a server of ours ─▶ its address, and the end
it is on another server ─────────────▶ its address there, and the end
else ─▶ a server over the database in the sweep's folder, until a signal
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path
from types import FrameType
from typing import Final
from urllib.parse import quote, urlsplit

from parallel_hpo.cli.finding import find_anywhere
from parallel_hpo.cli.output import print_for_machines, print_for_people
from parallel_hpo.client.credentials import Credentials, find_credentials
from parallel_hpo.client.own_servers import LocalBackend
from parallel_hpo.core import keys, server_files
from parallel_hpo.core.errors import UsageError
from parallel_hpo.core.server_files import ServerFile
from parallel_hpo.core.types import SweepPath
from parallel_hpo.records.folders import KnownSweep, newest_sweep

_ENDS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def perform_open(directory: Path, sweep: str | None) -> None:
    """Print a sweep's address, open it in a browser where there is one, and serve it where nobody does.

    UsageError where there is no such sweep; BackendError where the server doesn't start.
    """
    known = newest_sweep(directory) if sweep is None else find_anywhere(directory, sweep)
    is_local = known.facts.get("backend") == "local"
    plate = _of_its_supervisor(directory, known) if is_local else _at(directory, known)
    if plate is not None:
        _show(plate.address(_page(known), time.time()))
        return
    if not is_local:
        _show(_let_in(str(known.facts.get("url", "")), find_credentials(os.environ)))
        return
    if not (directory / "server.db").exists():
        raise UsageError(f"what the server had of {known.sweep_id} is not in {directory} any more")
    _serve(directory, known)


def _of_its_supervisor(directory: Path, known: KnownSweep) -> ServerFile | None:
    """Return the server of whoever performs the sweep now; None: nobody does, or it doesn't answer."""
    if not known.supervised:
        return None if known.of_pool is None else _at(directory, known)
    return _at(directory, known) or next(_answering(directory), None)


def _at(directory: Path, known: KnownSweep) -> ServerFile | None:
    """Return the server at which a sweep was begun; None: it is none of this directory, or doesn't answer."""
    at = urlsplit(str(known.facts.get("url", ""))).netloc
    return next((plate for plate in _answering(directory) if urlsplit(plate.url).netloc == at), None)


def _let_in(url: str, login: Credentials) -> str:
    """Return a page's address, with a ticket where the login has the master key of its server."""
    if not login.key or not url.startswith(f"{login.base_url}/") or not keys.may_be_master_key(login.key):
        return url
    return keys.with_ticket(url, keys.ticket_key(login.key), time.time())


def _answering(directory: Path) -> Iterator[ServerFile]:
    """Yield the servers that are there, and take the others' plates down."""
    for plate in server_files.all_in(directory):
        if plate.answers():
            yield plate
        else:
            server_files.take_down(directory, plate.url)


def _serve(directory: Path, known: KnownSweep) -> None:
    """Serve until a signal."""
    ending = _Ending()
    backend = LocalBackend(directory, os.environ)
    backend.open(on_lost=ending.lose)
    with closing(backend):
        backend.wait_until_up()
        print_for_people("a server was started for this address; Ctrl-C ends it")
        _show(backend.address_of(_page(known)))
        ending.wait()


class _Ending:
    """What ends the command: a signal, or its server's own end."""

    def __init__(self) -> None:
        self._read, self._write = os.pipe()
        for number in _ENDS:
            signal.signal(number, self._on_signal)

    def lose(self, why: str) -> None:
        """Take note that the server will not be back."""
        print_for_people(f"error: {why}")
        os.write(self._write, b"l")

    def wait(self) -> None:
        """Wait for it."""
        os.read(self._read, 1)

    def _on_signal(self, _number: int, _frame: FrameType | None) -> None:
        os.write(self._write, b"s")


def _show(address: str) -> None:
    print_for_machines(address)
    if has_browser(os.environ, sys.platform):
        # In a process of its own: some browsers print, others let wait until they are closed.
        words = [sys.executable, "-m", "webbrowser", address]
        nothing = subprocess.DEVNULL
        subprocess.Popen(words, stdin=nothing, stdout=nothing, stderr=nothing, start_new_session=True)


def has_browser(environment: Mapping[str, str], platform: str) -> bool:
    """Say whether there is a browser that needs no terminal: one that is named, or a screen for one."""
    if environment.get("BROWSER"):
        return True
    if platform == "darwin":
        return "SSH_CONNECTION" not in environment
    return any(environment.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY"))


def _page(known: KnownSweep) -> str:
    path = SweepPath.parse(known.facts["path"])
    return f"/{quote(path.entity, safe='')}/{quote(path.project, safe='')}/sweeps/{path.sweep_id}"
