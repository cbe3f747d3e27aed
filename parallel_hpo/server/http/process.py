"""The certificate by which a server speaks HTTPS itself, without a proxy before it.

The server as a process: binds its address, says where it is, and stays until a signal or its owner's end.

    parent ── {"api_key": …} ─▶ stdin ─▶ server ─▶ stdout: {"url", "api_key", "database"}
                 └ closes it, or dies ─▶ server exits          (no api_key when embedded)

The key travels by that pipe or a file of mode 0600: a command line and an
environment can be read by others.
"""

from __future__ import annotations

import faulthandler
import json
import os
import secrets
import signal
import socket
import ssl
import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import FrameType
from typing import IO, TYPE_CHECKING, Any, Final, cast

import uvicorn

from parallel_hpo.core import server_files
from parallel_hpo.core.errors import BackendError, UsageError
from parallel_hpo.core.keys import ticket_key
from parallel_hpo.core.server_files import ServerFile
from parallel_hpo.server.context import AppContext
from parallel_hpo.server.files import folder as files_folder
from parallel_hpo.server.files import storage
from parallel_hpo.server.http import access
from parallel_hpo.server.http.access import exit_at_end_of, key_from, teller
from parallel_hpo.server.http.app import make_app
from parallel_hpo.server.http.connections import ConnectionLimiter, TimeoutProtocol, make_room_for_connections
from parallel_hpo.server.http.executing import make_executor
from parallel_hpo.server.http.settings import (
    WatchedClock,
    let_threads_take_turns,
    never_look_through_what_is_there,
)
from parallel_hpo.server.store.database import Database, shown

if TYPE_CHECKING:
    from parallel_hpo.server.graphql.execute import Executor


@dataclass(frozen=True, slots=True)
class Certificate:
    """Two files in PEM, as web servers take them."""

    chain_file: str
    """The server's certificate, and those between it and the root that its clients trust."""
    key_file: str
    """Its private key, without a password."""

    def check(self) -> None:
        """Raise UsageError where the server could not speak by it."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        try:
            # A password would be asked for on a terminal, where there is one.
            context.load_cert_chain(self.chain_file, self.key_file, password=lambda: b"")
        except OSError as error:  # SSLError is one too
            where = f"--tls-certificate {self.chain_file} with --tls-key {self.key_file}"
            raise UsageError(
                f"{where}: {error.strerror or error};"
                " needed: a certificate and its private key without a password, each a file in PEM"
            ) from None


def certificate_of(chain: str | None, key: str | None) -> Certificate | None:
    """Return what two options name, where they do; UsageError: one of them is missing."""
    if chain is not None and key is not None:
        return Certificate(chain, key)
    if chain is None and key is None:
        return None
    raise UsageError("--tls-certificate and --tls-key go together: give both, or neither")


_ID_LETTERS: Final = "abcdefghijklmnopqrstuvwxyz0123456789"
_PATIENCE_AT_THE_END_S: Final = 0.3
_END_LIMIT_S: Final = 3.0
"""So long after a signal the process is gone, whatever it is doing; the database bears it."""
_BACKLOG: Final = 2048
"""How many connections may wait to be accepted."""


@dataclass(frozen=True, slots=True)
class ServerConfig:
    """Where the server is to be reached, and where its state is."""

    host: str = "127.0.0.1"
    port: int = 0
    """0: any free one."""
    database: str | None = None
    """A path or a SQLAlchemy URL; None: `server.db` in the user's data folder."""
    files: str | None = None
    """The folder of uploaded files, which all servers of the database share; None: where it is by default."""
    adopt_files: bool = False
    """Whether that folder is the database's from now on, wherever its files were."""
    tls: Certificate | None = None
    """By which it speaks HTTPS; None: plain HTTP."""

    @property
    def folder(self) -> Path:
        """The folder of the key and of uploaded files by default."""
        return files_folder.folder_of(self.database)

    @property
    def database_or_default(self) -> str:
        """The database, with its default filled in."""
        return self.database or str(self.folder / "server.db")


def serve(place: ServerConfig, *, embedded: bool = False, stdin: IO[bytes], stdout: IO[str]) -> None:
    """Serve until SIGINT or SIGTERM, or, when embedded, until stdin ends, whatever signals come.

    Call it in the main thread of a process of its own. BackendError where the address,
    the database or its files can't be had; UsageError where an embedded server's key is missing, or the
    certificate can't be used.
    """
    if place.tls is not None:
        place.tls.check()
    os.umask(0o077)  # nobody else may read the database, the key, the files
    _make_folder(place)
    key = key_from(stdin) if embedded else None
    listener = _bind(place)
    database = Database.open(place.database_or_default)
    wish = files_folder.wish_for(place.database_or_default, place.files, adopt=place.adopt_files)
    files = files_folder.settle(database, wish, host=socket.gethostname())
    key = key or access.kept_key(place.folder if wish.is_beside(files) else files, place.folder)
    world = _world(place, database, files, key)
    storage.clear_unfinished(world.files)
    url = _url_of(place, listener)
    try:
        server = _Server(
            _config(place, world),
            listener,
            announce=_announcer(place, listener, stdout, None if embedded else world.master_key),
            embedded=embedded,
        )
        if embedded:
            database.health.tell = teller(stdout)
            threading.Thread(target=exit_at_end_of, args=(stdin,), daemon=True).start()
        let_threads_take_turns()
        server.run_until_signal()
    finally:
        if not embedded:
            server_files.take_down(place.folder, url)
        database.close()
        listener.close()


class _Server(uvicorn.Server):
    """Uvicorn's server, which says when it answers, and ends in time whatever its clients do."""

    def __init__(
        self,
        config: uvicorn.Config,
        listener: socket.socket,
        *,
        announce: Callable[[], None],
        embedded: bool,
    ) -> None:
        super().__init__(config)
        self._listener = listener
        self._announce = announce
        self._embedded = embedded

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start to answer, then say so."""
        await super().startup(sockets)
        self._listener.listen(_BACKLOG)
        self._announce()

    def run_until_signal(self) -> None:
        """Serve until a signal comes or the owner is gone."""
        if self._embedded:
            for number in (signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2):
                signal.signal(number, signal.SIG_IGN)
        # Uvicorn raises a caught signal again once it has stopped: it then finds these, and nothing happens.
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: None)
        self.run(sockets=[self._listener])

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Take a signal; what a batch system sends to all of a job's processes is the owner's to decide."""
        if not self._embedded:
            # Needs no thread of ours, and says what each was doing.
            faulthandler.dump_traceback_later(_END_LIMIT_S, exit=True)
            super().handle_exit(sig, frame)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Let requests in flight end, for a moment."""
        timer = threading.Timer(_PATIENCE_AT_THE_END_S, self._force)
        timer.daemon = True
        timer.start()
        await super().shutdown(sockets)
        timer.cancel()

    def _force(self) -> None:
        self.force_exit = True


def _world(place: ServerConfig, database: Database, files: Path, master_key: str) -> AppContext:
    clock = WatchedClock()
    return AppContext(
        database=database,
        files=files,
        master_key=master_key,
        clock=clock,
        clock_set_at=clock.set_at,
        up_since=clock(),
        new_id=lambda: "".join(secrets.choice(_ID_LETTERS) for _ in range(8)),
        new_seed=lambda: secrets.randbits(32),
        sweeps_in=place.folder,
    )


def _config(place: ServerConfig, world: AppContext) -> uvicorn.Config:
    most = make_room_for_connections()
    return uvicorn.Config(
        make_app(world, host=place.host, make_executor=_make_executor),
        lifespan="on",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        http=cast(Any, partial(TimeoutProtocol, lobby=ConnectionLimiter(most))),
        # How many are accepted at one go, before any of those that are too many is closed.
        backlog=min(_BACKLOG, max(1, most // 4)),
        # wandb-core keeps its connections between heartbeats of 30 s.
        timeout_keep_alive=75,
        ssl_certfile=None if place.tls is None else place.tls.chain_file,
        ssl_keyfile=None if place.tls is None else place.tls.key_file,
    )


def _make_executor() -> Executor:
    executor = make_executor()
    never_look_through_what_is_there()
    return executor


def _announcer(
    place: ServerConfig, listener: socket.socket, stdout: IO[str], key: str | None
) -> Callable[[], None]:
    line = {"url": _url_of(place, listener), "database": shown(place.database_or_default)}
    if key is not None:
        line["api_key"] = key

    def announce() -> None:
        if key is not None:
            server_files.put_up(place.folder, ServerFile(line["url"], ticket_key(key)))
        print(json.dumps(line), file=stdout, flush=True)

    return announce


def _url_of(place: ServerConfig, listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    name = f"[{host}]" if ":" in host else host
    return f"{'http' if place.tls is None else 'https'}://{name}:{port}"


def _bind(place: ServerConfig) -> socket.socket:
    family = socket.AF_INET6 if ":" in place.host else socket.AF_INET
    # Asyncio turns Nagle's algorithm off, which costs 40 ms per answer, only where TCP is named.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((place.host, place.port))
        listener.listen(_BACKLOG)
    except OSError as error:
        listener.close()
        raise BackendError(
            f"the sweep server can't listen on {place.host}:{place.port}: {error.strerror}"
        ) from error
    return listener


def _make_folder(place: ServerConfig) -> None:
    """Make the folder of the database, where it is a file."""
    if not files_folder.is_sqlite(place.database_or_default):
        return
    try:
        place.folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BackendError(
            f"the sweep server can't have its folder {place.folder}: {error.strerror}; "
            "name another --database"
        ) from error
