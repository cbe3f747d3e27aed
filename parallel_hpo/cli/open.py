"""`parallel-hpo open`: prints the address of a sweep's page, and starts a server for it if none runs.

the sweep runs, on a parallel_hpo server ─▶ its address
it is on another server ─────────────▶ its address there
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
from typing import TYPE_CHECKING, Annotated
from urllib.parse import quote, urlsplit

import typer

from parallel_hpo.cli.finding import find_anywhere
from parallel_hpo.cli.options import Directory, directory_of
from parallel_hpo.cli.output import SIGNALS, print_for_machines, print_for_people
from parallel_hpo.core.errors import UsageError
from parallel_hpo.core.types import SweepPath

if TYPE_CHECKING:
    from parallel_hpo.client.credentials import Credentials
    from parallel_hpo.core.server_files import ServerFile
    from parallel_hpo.records.folders import KnownSweep


def open_page(
    sweep: Annotated[
        str | None, typer.Argument(help="The sweep's id (default: the newest sweep).", metavar="SWEEP")
    ] = None,
    directory: Directory = None,
) -> None:
    """Open a sweep's page in the browser.

    Prints the page's address. Starts a server if none runs.
    """
    from parallel_hpo.client.credentials import find_credentials
    from parallel_hpo.records.folders import newest_sweep

    folder = directory_of(directory)
    known = newest_sweep(folder) if sweep is None else find_anywhere(folder, sweep)
    is_local = known.facts.get("backend") == "local"
    server = _server_of_supervisor(folder, known) if is_local else _original_server(folder, known)
    if server is not None:
        _show(server.address(_page(known), time.time()))
        return
    if not is_local:
        _show(_with_ticket(str(known.facts.get("url", "")), find_credentials(os.environ)))
        return
    if not (folder / "server.db").exists():
        raise UsageError(f"{folder} no longer has the server's data of {known.sweep_id}")
    _serve(folder, known)


def _server_of_supervisor(directory: Path, known: KnownSweep) -> ServerFile | None:
    """Return the server of the sweep's supervisor; None if the sweep doesn't run, or no server answers."""
    if not known.supervised:
        return None if known.of_pool is None else _original_server(directory, known)
    return _original_server(directory, known) or next(_answering(directory), None)


def _original_server(directory: Path, known: KnownSweep) -> ServerFile | None:
    """Return the server on which the sweep was created; None if it isn't this directory's, or is silent."""
    address = urlsplit(str(known.facts.get("url", ""))).netloc
    return next((server for server in _answering(directory) if urlsplit(server.url).netloc == address), None)


def _with_ticket(url: str, login: Credentials) -> str:
    """Return a page's address, with a login ticket if the credentials have its server's master key."""
    from parallel_hpo.core import keys

    if not login.key or not url.startswith(f"{login.base_url}/") or not keys.may_be_master_key(login.key):
        return url
    return keys.with_ticket(url, keys.ticket_key(login.key), time.time())


def _answering(directory: Path) -> Iterator[ServerFile]:
    """Yield the directory's servers that answer, and remove the files of the others."""
    from parallel_hpo.core import server_files

    for server in server_files.registered(directory):
        if server.answers():
            yield server
        else:
            server_files.unregister(directory, server.url)


def _serve(directory: Path, known: KnownSweep) -> None:
    """Run a server over the directory's database until a signal."""
    from parallel_hpo.client.own_servers import LocalBackend

    end = _End()
    backend = LocalBackend(directory, os.environ)
    backend.open(on_lost=end.lose)
    with closing(backend):
        backend.wait_until_up()
        print_for_people("started a server for this address; Ctrl-C ends it")
        _show(backend.address_of(_page(known)))
        end.wait()


class _End:
    """The end of the command: a signal, or the end of its server."""

    def __init__(self) -> None:
        self._read, self._write = os.pipe()
        for number in SIGNALS:
            signal.signal(number, self._on_signal)

    def lose(self, why: str) -> None:
        """Report that the server is lost."""
        print_for_people(f"error: {why}")
        os.write(self._write, b"l")

    def wait(self) -> None:
        """Wait for the end."""
        os.read(self._read, 1)

    def _on_signal(self, _number: int, _frame: FrameType | None) -> None:
        os.write(self._write, b"s")


def _show(address: str) -> None:
    print_for_machines(address)
    if has_browser(os.environ, sys.platform):
        # In a separate process: some browsers print, others block until they are closed.
        words = [sys.executable, "-m", "webbrowser", address]
        nothing = subprocess.DEVNULL
        subprocess.Popen(words, stdin=nothing, stdout=nothing, stderr=nothing, start_new_session=True)


def has_browser(environment: Mapping[str, str], platform: str) -> bool:
    """Return whether there is a browser outside the terminal: $BROWSER, or a screen."""
    if environment.get("BROWSER"):
        return True
    if platform == "darwin":
        return "SSH_CONNECTION" not in environment
    return any(environment.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY"))


def _page(known: KnownSweep) -> str:
    path = SweepPath.parse(known.facts["path"])
    return f"/{quote(path.entity, safe='')}/{quote(path.project, safe='')}/sweeps/{path.sweep_id}"
