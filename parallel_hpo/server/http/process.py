"""The server's process: certificate, address, announcement, and shutdown by a signal or its parent's end.

    parent ── {"api_key": …} ─▶ stdin ─▶ server ─▶ stdout: {"url", "api_key", "database"}
                 └ closes it, or dies ─▶ server exits          (no api_key when embedded)

The key is passed by that pipe or a file of mode 0600, as others can read a command line and an environment.
"""

from __future__ import annotations

import asyncio
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
from parallel_hpo.server.http.access import exit_at_end_of, key_from, trouble_reporter
from parallel_hpo.server.http.app import make_app
from parallel_hpo.server.http.connections import ConnectionLimiter, TimeoutProtocol, raise_open_files_limit
from parallel_hpo.server.http.executing import make_executor
from parallel_hpo.server.http.settings import WatchedClock, exclude_present_from_gc, make_threads_switch_often
from parallel_hpo.server.store.database import Database, shown

if TYPE_CHECKING:
    from parallel_hpo.server.graphql.execute import Executor


@dataclass(frozen=True, slots=True)
class Certificate:
    """The PEM files of a server that speaks HTTPS itself."""

    chain_file: str
    """The server's certificate and the intermediate ones."""
    key_file: str
    """The private key, without a password."""

    def check(self) -> None:
        """Raise UsageError if the certificate can't be used."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        try:
            # Otherwise OpenSSL would ask for a password on the terminal.
            context.load_cert_chain(self.chain_file, self.key_file, password=lambda: b"")
        except OSError as error:  # includes SSLError
            where = f"--tls-certificate {self.chain_file} with --tls-key {self.key_file}"
            raise UsageError(
                f"{where}: {error.strerror or error};"
                " needed: a certificate and its private key without a password, as PEM files"
            ) from None


def certificate_of(chain: str | None, key: str | None) -> Certificate | None:
    """Return the certificate that two options name, or None; UsageError if one of them is missing."""
    if chain is not None and key is not None:
        return Certificate(chain, key)
    if chain is None and key is None:
        return None
    raise UsageError("--tls-certificate and --tls-key go together: give both, or neither")


_ID_LETTERS: Final = "abcdefghijklmnopqrstuvwxyz0123456789"
_REQUESTS_END_S: Final = 0.3
"""Timeout of requests in progress at shutdown, in seconds."""
_FORCED_EXIT_S: Final = 3.0
"""Forced exit after a signal, in seconds; the database tolerates it."""
_BACKLOG: Final = 2048
"""Maximum number of connections that wait to be accepted."""


@dataclass(frozen=True, slots=True)
class ServerConfig:
    """The server's address, and the location of its state."""

    host: str = "127.0.0.1"
    port: int = 0
    """0: any free port."""
    database: str | None = None
    """A path or a SQLAlchemy URL; None: `server.db` in the user's data folder."""
    files: str | None = None
    """The folder of uploaded files, shared by all servers of the database; None: the default."""
    adopt_files: bool = False
    """Whether that folder becomes the database's, wherever its files were."""
    tls: Certificate | None = None
    """The certificate for HTTPS; None: plain HTTP."""

    @property
    def folder(self) -> Path:
        """The default folder of the key and of uploaded files."""
        return files_folder.folder_of(self.database)

    @property
    def database_or_default(self) -> str:
        """The database, with its default filled in."""
        return self.database or str(self.folder / "server.db")


def serve(config: ServerConfig, *, embedded: bool = False, stdin: IO[bytes], stdout: IO[str]) -> None:
    """Serve until SIGINT or SIGTERM; when embedded, until stdin ends, whatever signals arrive.

    Call it in the main thread of a process of its own. BackendError if the address, the database or its
    files can't be used; UsageError for a missing key of an embedded server, or an unusable certificate.
    """
    if config.tls is not None:
        config.tls.check()
    os.umask(0o077)  # no other user may read the database, the key and the files
    _make_folder(config)
    key = key_from(stdin) if embedded else None
    listener = _bind(config)
    database = Database.open(config.database_or_default)
    request = files_folder.folder_request(config.database_or_default, config.files, adopt=config.adopt_files)
    files = files_folder.open_folder(database, request, host=socket.gethostname())
    key = key or access.stored_key(config.folder if request.is_beside(files) else files, config.folder)
    app = _make_context(config, database, files, key)
    storage.clear_unfinished(app.files)
    url = _url_of(config, listener)
    try:
        server = _Server(
            _uvicorn_config(config, app),
            listener,
            announce=_announcer(config, listener, stdout, None if embedded else app.master_key),
            embedded=embedded,
        )
        if embedded:
            database.health.report = trouble_reporter(stdout)
            threading.Thread(target=exit_at_end_of, args=(stdin,), daemon=True).start()
        make_threads_switch_often()
        server.run_until_signal()
    finally:
        if not embedded:
            server_files.unregister(config.folder, url)
        database.close()
        listener.close()


class _Server(uvicorn.Server):
    """Uvicorn's server with an announcement at the start and a time limit at the end."""

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
        """Start to answer, then announce it."""
        await super().startup(sockets)
        self._listener.listen(_BACKLOG)
        self._announce()

    def run_until_signal(self) -> None:
        """Serve until a signal arrives or the parent has ended."""
        if self._embedded:
            for number in (signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2):
                signal.signal(number, signal.SIG_IGN)
        # Uvicorn raises a caught signal again after it has stopped: these handlers ignore it.
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: None)
        self.run(sockets=[self._listener])

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Shut down on a signal; an embedded server leaves signals of a batch system to its parent."""
        if not self._embedded:
            # Needs no Python thread, and prints each thread's stack.
            faulthandler.dump_traceback_later(_FORCED_EXIT_S, exit=True)
            super().handle_exit(sig, frame)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Wait a moment for requests in progress, then stop."""
        timer = asyncio.get_running_loop().call_later(_REQUESTS_END_S, self._force)
        await super().shutdown(sockets)
        timer.cancel()
        if self.force_exit:
            await self.lifespan.shutdown()  # uvicorn leaves it out; cancelled, it would print a traceback

    def _force(self) -> None:
        """End requests in progress; since Python 3.12, uvicorn waits for their connections to close."""
        self.force_exit = True
        for connection in list(self.server_state.connections):
            connection.transport.abort()


def _make_context(config: ServerConfig, database: Database, files: Path, master_key: str) -> AppContext:
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
        sweeps_in=config.folder,
    )


def _uvicorn_config(config: ServerConfig, app: AppContext) -> uvicorn.Config:
    max_connections = raise_open_files_limit()
    return uvicorn.Config(
        make_app(app, host=config.host, make_executor=_make_executor),
        lifespan="on",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        http=cast(Any, partial(TimeoutProtocol, limiter=ConnectionLimiter(max_connections))),
        # Also the number accepted at once, before excess ones are closed.
        backlog=min(_BACKLOG, max(1, max_connections // 4)),
        # wandb-core keeps its connections between heartbeats of 30 s.
        timeout_keep_alive=75,
        ssl_certfile=None if config.tls is None else config.tls.chain_file,
        ssl_keyfile=None if config.tls is None else config.tls.key_file,
    )


def _make_executor() -> Executor:
    executor = make_executor()
    exclude_present_from_gc()
    return executor


def _announcer(
    config: ServerConfig, listener: socket.socket, stdout: IO[str], key: str | None
) -> Callable[[], None]:
    line = {"url": _url_of(config, listener), "database": shown(config.database_or_default)}
    if key is not None:
        line["api_key"] = key

    def announce() -> None:
        if key is not None:
            server_files.register(config.folder, ServerFile(line["url"], ticket_key(key)))
        print(json.dumps(line), file=stdout, flush=True)

    return announce


def _url_of(config: ServerConfig, listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    name = f"[{host}]" if ":" in host else host
    return f"{'http' if config.tls is None else 'https'}://{name}:{port}"


def _bind(config: ServerConfig) -> socket.socket:
    family = socket.AF_INET6 if ":" in config.host else socket.AF_INET
    # With TCP named, asyncio turns off Nagle's algorithm, which costs 40 ms per answer.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((config.host, config.port))
        listener.listen(_BACKLOG)
    except OSError as error:
        listener.close()
        raise BackendError(
            f"the sweep server can't listen on {config.host}:{config.port}: {error.strerror}"
        ) from error
    return listener


def _make_folder(config: ServerConfig) -> None:
    """Create the folder of a SQLite database."""
    if not files_folder.is_sqlite(config.database_or_default):
        return
    try:
        config.folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BackendError(
            f"the sweep server can't create its folder {config.folder}: {error.strerror}; "
            "name another --database"
        ) from error
