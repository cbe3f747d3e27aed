"""What a supervisor asks of a server of ours, wherever it runs and whoever has started it.

Some things W&B's protocol has no word for: that a worker is dead, and what became of its runs. A server
of ours is asked for them at addresses of its own (`door`), with a key that says what its holder may do.

The embedded sweep server: a process of its own, watched, restarted on the same port.

Its key is made here and handed over on its standard input, which stays open: when
this process is gone, the server ends. What it remembers is on the disk, and the
wandb client waits for it, so that its death costs a pause and nothing else.

A server of ours that somebody else has started, reached with the key that we were given.

master key   a worker gets one of its own, as from the embedded server
node's key   the same, good for as long as the node's epoch is
other keys   workers share it
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
    AwaitedRun,
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
from parallel_hpo.core.server_files import ServerFile
from parallel_hpo.core.types import RunId, SweepPath
from parallel_hpo.core.values import last_words


class OwnServerBackend(ABC):
    """A server of ours that answers; what is left of a Backend is to start and to end it."""

    keeps_login = True

    def __init__(self, door: ServerClient, directory: Path, environment: Mapping[str, str]) -> None:
        """`directory` is where its clients find no settings of the user's."""
        self._door = door
        self._directory = directory
        self._environment = environment
        self._sweep: str | None = None
        self._ticket_key = ""
        """By which a browser is let in; '' where our key is too small for that."""

    @abstractmethod
    def _key_of(self, label: str, sweep: str | None) -> str:
        """Return the key of the worker `label`; for a sweep, once there is one."""

    def open_sweep(self, order: SweepRequest, run_call: RunCall) -> OpenedSweep:
        """Create or join a sweep."""
        if order.configuration is not None and order.seed is not None:
            order = replace(order, configuration={**order.configuration, SEED: order.seed})
        environment = {**self._environment, **self.client_environment(keys.SUPERVISOR)}
        answer = create_on_own_server(self._door, order, environment)
        self.use_for(answer.path, run_call)
        return answer

    def use_for(self, path: SweepPath, run_call: RunCall) -> None:
        """From now on it is this sweep that clients are given keys for."""
        self._run_call = run_call
        self._sweep = path.sweep_id

    def address_for_people(self, url: str) -> str:
        """Return a page's address with a ticket in it, good for one browser within minutes."""
        return keys.with_ticket(url, self._ticket_key, time.time()) if self._ticket_key else url

    def client_environment(self, label: str) -> Mapping[str, str]:
        """Return the server's address, the worker's own key, and what keeps other keys and proxies out.

        The key is good for the sweep that was opened, and no other one.
        """
        key = self._key_of(label, self._sweep)
        return client_variables(self._door.url, key, self._directory, self._environment)

    def why_over(self, path: SweepPath) -> str:
        """Return why the sweep gives no more runs; '' while it goes on."""
        progress = self._door.ask("GET", path, "")
        return GONE if progress is None else OVER.get(str(progress["state"]), "")

    def give_back(self, path: SweepPath, label: str, keep: Sequence[RunId]) -> None:
        """Let others have the runs that a dead worker was issued and never started, all but `keep`."""
        self._door.ask("POST", path, "/release", {"label_prefix": label, "keep": list(keep)})

    def end_run(self, path: SweepPath, run_id: RunId, state: str) -> None:
        """Say that a run has ended whose process can't say so."""
        self._door.ask("POST", path, f"/runs/{run_id}/end", {"state": state})

    def without_own_word(self, path: SweepPath) -> Mapping[RunId, str]:
        """Return the state of each run that has not told its end itself."""
        return self._door.ask("GET", path, "/without-own-word") or {}

    def awaited(self, path: SweepPath) -> Sequence[AwaitedRun]:
        """Return the runs for whose sake agents wait once there is no other."""
        answer = self._door.ask("GET", path, "/awaited") or {"runs": []}
        return [AwaitedRun(RunId(run["run"]), run["label"], run["host"]) for run in answer["runs"]]

    def send_rest(self, folder: Path) -> None:
        """Send what a dead run's client left unsent in the run's folder."""
        environment = {**self.client_environment(keys.SUPERVISOR), "WANDB_DIR": str(folder.parent.parent)}
        self._run_call("parallel_hpo.client.calls:send_rest", (str(folder),), environment, SEND_LIMIT_S)

    def phantoms(self, path: SweepPath, known: Collection[RunId]) -> Sequence[str]:
        """There are none: this server is told of each dead worker, and takes its runs back."""
        return ()

    def finish_sweep(self, path: SweepPath) -> None:
        """Set the sweep to finished, unless it is over already."""
        if not self.why_over(path):
            self.set_state(path, "FINISHED")

    def set_state(self, path: SweepPath, state: str) -> None:
        """Set the sweep to one of W&B's states."""
        self._door.ask("POST", path, "/state", {"state": state})


START_LIMIT_S: Final = 30.0
CLOSE_LIMIT_S: Final = 1.0
"""A server ends at the end of its standard input, in milliseconds, and its database bears any end."""
RESTART_BACKOFF_S: Final = (0.0, 0.1, 0.5, 1.0, 2.0, 5.0, 5.0, 5.0)
"""Waits before a dead server is started again, by the deaths since it last answered; after them it is lost:
what ends it at each start (a broken database, a port that is taken) would go on to do so."""
_SCHEDULED: Final = (
    "hpo.sweep_configuration.scheduler: the runs of such a sweep come from a `wandb sweep-scheduler`, which"
    " can't reach a server that starts and ends with this command. Leave it out;"
    " or start `parallel-hpo server`, create the sweep there by `wandb sweep`, start"
    " `wandb sweep-scheduler`, and join the sweep by hpo.sweep_id"
)


class LocalBackend(OwnServerBackend):
    """The embedded server over the database in `directory`; a Backend."""

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
        """Keeps `close` from ending a server that is just being replaced."""
        self._error = ""
        door = ServerClient(self._key, self._closing, lambda: self._error, away_limit_s=away_limit_s)
        super().__init__(door, directory, environment)
        self._ticket_key = keys.ticket_key(self._key)
        self._said_before = 0
        """Bytes that were in the server's log when it was started last."""

    def open(
        self,
        on_lost: Callable[[str], None] = lambda why: None,
        on_trouble: Callable[[str], None] = lambda why: None,
    ) -> None:
        """Start the server and the thread that watches over it."""
        self._on_lost = on_lost
        self._on_trouble = on_trouble
        self._directory.mkdir(parents=True, exist_ok=True)
        self._process = self._start()
        self._watcher = threading.Thread(target=self._watch, name="parallel_hpo-server", daemon=True)
        self._watcher.start()

    def open_sweep(self, order: SweepRequest, run_call: RunCall) -> OpenedSweep:
        """Create or join a sweep once the server answers; ConfigError for one that nobody would feed."""
        if order.sweep_id is None and (order.configuration or {}).get("scheduler") is not None:
            raise ConfigError(_SCHEDULED)
        self.wait_until_up()
        return super().open_sweep(order, run_call)

    def wait_until_up(self) -> None:
        """Wait until the server answers; raises BackendError where it does not start."""
        if not self._answers.wait(START_LIMIT_S) or self._error:
            why = self._error or f"no answer within {START_LIMIT_S:g} s"
            raise BackendError(f"the embedded sweep server did not start: {why}; its log is {self._log}")

    def address_of(self, page: str) -> str:
        """Return the same of a page by its path, once the server answers."""
        return self.address_for_people(self._url + page)

    def _key_of(self, label: str, sweep: str | None) -> str:
        return keys.worker_key(self._key, label, sweep)

    def close(self) -> None:
        """End the server: its standard input closes."""
        with self._restarting:
            self._closing.set()
            process = self._process
        _close_stdin(process)
        self._watcher.join(CLOSE_LIMIT_S)
        if self._watcher.is_alive():
            process.kill()
            self._watcher.join(CLOSE_LIMIT_S)  # what it left may hold its standard output
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
            self._said_before = log.tell()
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
            pass  # it ended at once; the watcher reads its end
        return process

    def _watch(self) -> None:
        """Wait for the server's end, and start it again for as long as it is wanted and comes up."""
        deaths, started = 0, True
        while True:
            deaths = 1 if started and self._hear_out() else deaths + 1
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
        """Start the server anew; False: the system has no process or descriptor for it now."""
        try:
            self._process = self._start()
        except OSError:
            return False
        return True

    def _hear_out(self) -> bool:
        """Wait until the server has said its last word; return whether it ever answered."""
        assert self._process.stdout is not None
        with self._process.stdout as words:
            answered = words.readline()
            if answered:
                self._url = self._door.url = json.loads(answered)["url"]
                self._port = int(self._url.rpartition(":")[2])
                server_files.register(self._directory, ServerFile(self._url, self._ticket_key))
                self._answers.set()
            for line in words:
                with suppress(ValueError, KeyError, TypeError):  # some library's own words
                    self._hear_trouble(json.loads(line))
        return bool(answered)

    def _hear_trouble(self, said: Mapping[str, Any]) -> None:
        """Pass on what the server says of its database; one that stays so is the server's loss."""
        if self._closing.is_set():
            return
        if said["for_good"]:
            self._error = f"the embedded sweep server's database {said['trouble']}"
            self._on_lost(self._error)
        else:
            self._on_trouble(said["trouble"])

    def _last_words(self) -> str:
        """Return what the server said since it was started last, in one line and after a colon."""
        with suppress(OSError), self._log.open("rb") as log:
            log.seek(self._said_before)
            said = last_words(log.read().decode(errors="replace"))
            return f": {said}" if said else ""
        return ""

    def _give_up(self, code: int) -> None:
        """Say that there will be no server any more, unless none is wanted."""
        if self._closing.is_set():
            return
        self._error = (
            f"the embedded sweep server ended {len(self._restart_backoff_s)} times in a row when it was"
            f" started again (exit code {code}){self._last_words()}; its log is {self._log}"
        )
        self._on_lost(self._error)


def _close_stdin(process: subprocess.Popen[bytes]) -> None:
    """End a server, or let go of one that has ended: it may never have read what was written for it."""
    assert process.stdin is not None
    with suppress(BrokenPipeError):
        process.stdin.close()


class RemoteBackend(OwnServerBackend):
    """A server of ours, elsewhere; a Backend."""

    name = "wandb"
    """As in the configuration: the server that the client is logged in to."""
    title = "parallel-hpo server"

    def __init__(
        self,
        url: str,
        key: str,
        directory: Path,
        environment: Mapping[str, str],
        *,
        away_limit_s: float = AWAY_LIMIT_S,
    ) -> None:
        self._key = key
        self._closing = threading.Event()
        door = ServerClient(key, self._closing, lambda: "", away_limit_s=away_limit_s, url=url)
        super().__init__(door, directory, environment)
        if keys.may_be_master_key(key):
            self._ticket_key = keys.ticket_key(key)

    def open(
        self,
        on_lost: Callable[[str], None] = lambda why: None,
        on_trouble: Callable[[str], None] = lambda why: None,
    ) -> None:
        """Nothing is to be started; a server that is away is waited for."""

    def close(self) -> None:
        """Nothing was started; what still waits for an answer ends."""
        self._closing.set()

    def pool_of(self, path: SweepPath) -> PoolClient:
        """Return the door of a sweep's pool there."""
        return PoolClient(self._door.url, self._key, path.sweep_id)

    def _key_of(self, label: str, sweep: str | None) -> str:
        return keys.key_below(self._key, label, sweep)
