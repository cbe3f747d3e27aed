"""Backends for parallel_hpo servers: the embedded one, which is started and watched here, and others.

W&B's protocol can't express some requests, such as that a worker has died. A parallel_hpo server has its
own endpoints for them (`ServerClient`).
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from parallel_hpo.client.base import (
    LOOPBACK,
    OpenedSweep,
    RunCall,
    SweepRequest,
    client_variables,
)
from parallel_hpo.client.calls import GONE, OVER, SEND_LIMIT_S
from parallel_hpo.client.server_client import AWAY_LIMIT_S, PoolClient, ServerClient, create_on_own_server
from parallel_hpo.config.sweep_types import SEED
from parallel_hpo.core import keys, server_files
from parallel_hpo.core.errors import BackendError, ConfigError
from parallel_hpo.core.messages import Progress
from parallel_hpo.core.server_files import ServerFile
from parallel_hpo.core.types import RunId, Slot, SweepPath
from parallel_hpo.core.values import last_words


class OwnServerBackend(ABC):
    """A parallel_hpo server; subclasses add to this Backend how to start and end it."""

    keeps_login = True

    def __init__(self, client: ServerClient, directory: Path, environment: Mapping[str, str]) -> None:
        """`directory` is for its clients' settings, apart from the user's."""
        self._client = client
        self._directory = directory
        self._environment = environment
        self._sweep: str | None = None
        self._ticket_key = ""
        """Signs login tokens of browsers; '' if our key may not."""

    @abstractmethod
    def _key_of(self, label: str, sweep: str | None) -> str:
        """Return the key of the worker `label`, for a sweep if given."""

    def open_sweep(self, order: SweepRequest, run_call: RunCall) -> OpenedSweep:
        """Create or join a sweep."""
        if order.configuration is not None and order.seed is not None:
            order = replace(order, configuration={**order.configuration, SEED: order.seed})
        environment = {**self._environment, **self.client_environment(keys.SUPERVISOR)}
        answer = create_on_own_server(self._client, order, environment)
        self.use_for(answer.path, run_call)
        return answer

    def use_for(self, path: SweepPath, run_call: RunCall) -> None:
        """Give clients keys for this sweep from now on."""
        self._run_call = run_call
        self._sweep = path.sweep_id

    def address_for_people(self, url: str) -> str:
        """Return a page's URL with a one-time login token, valid for minutes."""
        return keys.with_ticket(url, self._ticket_key, time.time()) if self._ticket_key else url

    def client_environment(self, label: str) -> Mapping[str, str]:
        """Return variables for the server's address and the worker's own key, against other keys and proxies.

        The key is valid for the opened sweep only.
        """
        key = self._key_of(label, self._sweep)
        return client_variables(self._client.url, key, self._directory, self._environment)

    def end_reason(self, path: SweepPath) -> str | None:
        """Return why the sweep gives no more runs; None while it does."""
        progress = self._client.ask("GET", path, "")
        return GONE if progress is None else OVER.get(str(progress["state"]))

    def requeue_runs(self, path: SweepPath, label: str, keep: Sequence[RunId]) -> None:
        """Requeue the runs issued to a dead worker and never started, all but `keep`."""
        self._client.ask("POST", path, "/release", {"label_prefix": label, "keep": list(keep)})

    def end_run(self, path: SweepPath, run_id: RunId, state: str) -> None:
        """Set the final state of a run whose process can't do it."""
        self._client.ask("POST", path, f"/runs/{run_id}/end", {"state": state})

    def unconfirmed_runs(self, path: SweepPath) -> Mapping[RunId, str]:
        """Return the states of the runs that have not confirmed their end."""
        return self._client.ask("GET", path, "/without-own-word") or {}

    def steps(self, path: SweepPath) -> Sequence[tuple[Slot, Progress]]:
        """Return how far the runs under way are, with the slots in their workers' labels."""
        told: Mapping[str, Any] = self._client.ask("GET", path, "/steps") or {}
        steps = []
        for name, each in told.items():
            slot = keys.slot_of(each["label"])
            if slot is not None:
                progress = Progress(
                    RunId(name), each["step"], None, None, each["metric"] or "", each["value"]
                )
                steps.append((Slot(slot), progress))
        return steps

    def send_rest(self, folder: Path) -> None:
        """Send the unsent data in a dead run's folder."""
        environment = {**self.client_environment(keys.SUPERVISOR), "WANDB_DIR": str(folder.parent.parent)}
        self._run_call("parallel_hpo.client.calls:send_rest", (str(folder),), environment, SEND_LIMIT_S)

    def phantoms(self, path: SweepPath, known: Collection[RunId]) -> Sequence[str]:
        """Return nothing: this server learns of each dead worker, and requeues its runs."""
        return ()

    def finish_sweep(self, path: SweepPath) -> None:
        """Set the sweep to finished, unless it has ended."""
        if self.end_reason(path) is None:
            self.set_state(path, "FINISHED")

    def set_state(self, path: SweepPath, state: str) -> None:
        """Set the sweep to one of W&B's states."""
        self._client.ask("POST", path, "/state", {"state": state})


START_LIMIT_S: Final = 30.0
"""Timeout for the server's start, in seconds."""
CLOSE_LIMIT_S: Final = 1.0
"""Timeout for its end in seconds; it ends milliseconds after its stdin, and its database tolerates a kill."""
RESTART_BACKOFF_S: Final = (0.0, 0.1, 0.5, 1.0, 2.0, 5.0, 5.0, 5.0)
"""Waits before restarts, in seconds, by the number of deaths since its last answer. After them it is lost: a
cause such as a broken database or a used port would end it each time."""
_SCHEDULED: Final = (
    "hpo.sweep_configuration.scheduler: the runs of such a sweep come from a `wandb sweep-scheduler`, which"
    " can't reach a server that starts and ends with this command. Leave it out;"
    " or start `parallel-hpo server`, create the sweep there by `wandb sweep`, start"
    " `wandb sweep-scheduler`, and join the sweep by hpo.sweep_id"
)


class LocalBackend(OwnServerBackend):
    """The embedded server with the database in `directory`; a Backend.

    It is a child process, restarted on the same port when it dies; clients wait for it meanwhile. It gets its
    key on stdin, and ends when stdin ends, also by this process's death.
    """

    name = title = "local"

    def __init__(
        self,
        directory: Path,
        environment: Mapping[str, str],
        *,
        host: str = LOOPBACK,
        restart_backoff_s: Sequence[float] = RESTART_BACKOFF_S,
        away_limit_s: float = AWAY_LIMIT_S,
    ) -> None:
        self._host = host
        self._restart_backoff_s = restart_backoff_s
        self._key = keys.new_master_key()
        self._url = ""
        self._port = 0
        self._answers = threading.Event()
        self._closing = threading.Event()
        self._restarting = threading.Lock()
        """Held while a server is replaced, so that `close` does not end the wrong one."""
        self._error = ""
        client = ServerClient(self._key, self._closing, lambda: self._error, away_limit_s=away_limit_s)
        super().__init__(client, directory, environment)
        self._ticket_key = keys.ticket_key(self._key)
        self._log_offset = 0
        """Size of the server's log at its last start, in bytes."""

    def open(
        self,
        on_lost: Callable[[str], None] = lambda reason: None,
        on_trouble: Callable[[str], None] = lambda reason: None,
    ) -> None:
        """Start the server and the thread that watches it."""
        self._on_lost = on_lost
        self._on_trouble = on_trouble
        self._directory.mkdir(parents=True, exist_ok=True)
        self._process = self._start()
        self._watcher = threading.Thread(target=self._watch, name="parallel_hpo-server", daemon=True)
        self._watcher.start()

    def open_sweep(self, order: SweepRequest, run_call: RunCall) -> OpenedSweep:
        """Create or join a sweep once the server answers; ConfigError for one with a scheduler."""
        if order.sweep_id is None and (order.configuration or {}).get("scheduler") is not None:
            raise ConfigError(_SCHEDULED)
        self.wait_until_up()
        return super().open_sweep(order, run_call)

    def wait_until_up(self) -> None:
        """Wait until the server answers; raises BackendError if it does not start."""
        if not self._answers.wait(START_LIMIT_S) or self._error:
            reason = self._error or f"no answer within {START_LIMIT_S:g} s"
            raise BackendError(f"the embedded sweep server did not start: {reason}; its log is {self._log}")

    def address_of(self, page: str) -> str:
        """Return the URL of a page by its path, once the server answers."""
        return self.address_for_people(self._url + page)

    def _key_of(self, label: str, sweep: str | None) -> str:
        return keys.worker_key(self._key, label, sweep)

    def close(self) -> None:
        """End the server by closing its stdin."""
        with self._restarting:
            self._closing.set()
            process = self._process
        _close_stdin(process)
        self._watcher.join(CLOSE_LIMIT_S)
        if self._watcher.is_alive():
            process.kill()
            self._watcher.join(CLOSE_LIMIT_S)  # its own children may hold its stdout
        if self._url:
            server_files.unregister(self._directory, self._url)

    # --- the process ---------------------------------------------------------------

    @property
    def _log(self) -> Path:
        return self._directory / "server.log"

    def _start(self) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "parallel_hpo.server", "--embedded", "--port", str(self._port)]
        command += ["--host", self._host, "--database", str(self._directory / "server.db")]
        with self._log.open("ab") as log:
            self._log_offset = log.tell()
            process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env=dict(self._environment),
                start_new_session=True,
            )
        assert process.stdin is not None
        try:
            process.stdin.write(json.dumps({"api_key": self._key}).encode() + b"\n")
            process.stdin.flush()
        except BrokenPipeError:
            pass  # it ended at once, which the watcher handles
        return process

    def _watch(self) -> None:
        """Restart the server whenever it ends, until it is closed or fails too often."""
        deaths, started = 0, True
        while True:
            deaths = 1 if started and self._read_output() else deaths + 1
            code = self._process.wait()
            if not self._answers.is_set():
                self._error = f"it ended with exit code {code}{self._last_words()}"
                self._answers.set()
                return
            if deaths > len(self._restart_backoff_s):
                self._give_up(code)
                return
            self._closing.wait(self._restart_backoff_s[deaths - 1])
            with self._restarting:
                if self._closing.is_set():
                    return
                _close_stdin(self._process)
                started = self._start_again()

    def _start_again(self) -> bool:
        """Restart the server; return False if the system has no process or descriptor for it now."""
        try:
            self._process = self._start()
        except OSError:
            return False
        return True

    def _read_output(self) -> bool:
        """Read the server's stdout until its end; return whether it ever answered."""
        assert self._process.stdout is not None
        with self._process.stdout as lines:
            answered = lines.readline()
            if answered:
                self._url = self._client.url = json.loads(answered)["url"]
                self._port = int(self._url.rpartition(":")[2])
                server_files.register(self._directory, ServerFile(self._url, self._ticket_key))
                self._answers.set()
            for line in lines:
                with suppress(ValueError, KeyError, TypeError):  # output of some library
                    self._take_trouble(json.loads(line))
        return bool(answered)

    def _take_trouble(self, message: Mapping[str, Any]) -> None:
        """Pass on the server's report on its database; permanent trouble means the loss of the server."""
        if self._closing.is_set():
            return
        if message["for_good"]:
            self._error = f"the embedded sweep server's database {message['trouble']}"
            self._on_lost(self._error)
        else:
            self._on_trouble(message["trouble"])

    def _last_words(self) -> str:
        """Return the last words in the server's log since its last start, after a colon, or ''."""
        with suppress(OSError), self._log.open("rb") as log:
            log.seek(self._log_offset)
            words = last_words(log.read().decode(errors="replace"))
            return f": {words}" if words else ""
        return ""

    def _give_up(self, code: int) -> None:
        """Report the loss of the server, unless it is being closed."""
        if self._closing.is_set():
            return
        self._error = (
            f"the embedded sweep server ended {len(self._restart_backoff_s)} times in a row when it was"
            f" started again (exit code {code}){self._last_words()}; its log is {self._log}"
        )
        self._on_lost(self._error)


def _close_stdin(process: subprocess.Popen[bytes]) -> None:
    """End a server; one that has ended may never have read its stdin."""
    assert process.stdin is not None
    with suppress(BrokenPipeError):
        process.stdin.close()


class RemoteBackend(OwnServerBackend):
    """A parallel_hpo server started by somebody else; a Backend.

    With a master key each worker gets a key of its own, and with a node's key one that is valid as long as
    the node's epoch. Other keys are shared by all workers.
    """

    name = "wandb"
    """As in the configuration: the server that the client is logged in to."""
    title = "parallel-hpo server"

    def __init__(self, url: str, key: str, directory: Path, environment: Mapping[str, str]) -> None:
        self._key = key
        self._closing = threading.Event()
        client = ServerClient(key, self._closing, lambda: None, url=url)
        super().__init__(client, directory, environment)
        if keys.may_be_master_key(key):
            self._ticket_key = keys.ticket_key(key)

    def open(
        self,
        on_lost: Callable[[str], None] = lambda reason: None,
        on_trouble: Callable[[str], None] = lambda reason: None,
    ) -> None:
        """Do nothing: the server runs already, and requests wait for it."""

    def close(self) -> None:
        """End waiting requests."""
        self._closing.set()

    def pool_of(self, path: SweepPath) -> PoolClient:
        """Return the client of a sweep's pool there."""
        return PoolClient(self._client.url, self._key, path.sweep_id)

    def _key_of(self, label: str, sweep: str | None) -> str:
        return keys.key_below(self._key, label, sweep)
