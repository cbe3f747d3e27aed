"""The embedded sweep server: a process of its own, watched, restarted on the same port.

Its key is made here and handed over on its standard input, which stays open: when
this process is gone, the server ends. What it remembers is on the disk, and the
wandb client waits for it, so that its death costs a pause and nothing else.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from base64 import b64encode
from collections.abc import Mapping, Sequence
from http.client import HTTPException
from pathlib import Path
from typing import Any, Final

from parallel_hpo import keys
from parallel_hpo.backend.base import OpenedSweep, RunErrand, SweepOrder
from parallel_hpo.backend.calls import OVER
from parallel_hpo.errors import BackendError
from parallel_hpo.words import RunId, SweepPath

START_LIMIT_S: Final = 30.0
REQUEST_LIMIT_S: Final = 10.0
AWAY_LIMIT_S: Final = 60.0
"""So long is a server waited for that is being restarted."""
OPEN_LIMIT_S: Final = 60.0
RETRY_S: Final = 0.1
LOOPBACK: Final = "127.0.0.1"


class LocalBackend:
    """The embedded server over the database in `directory`; a Backend."""

    name = "local"
    keeps_login = True

    def __init__(self, directory: Path, environment: Mapping[str, str]) -> None:
        self._directory = directory
        self._environment = environment
        self._key = keys.new_master_key()
        self._url = ""
        self._port = 0
        self._answers = threading.Event()
        self._closing = False
        self._restarting = threading.Lock()
        """Keeps `close` from ending a server that is just being replaced."""
        self._error = ""

    def open(self) -> None:
        """Start the server and the thread that watches over it."""
        self._directory.mkdir(parents=True, exist_ok=True)
        self._process = self._start()
        self._watcher = threading.Thread(target=self._watch, name="parallel_hpo-server", daemon=True)
        self._watcher.start()

    def open_sweep(self, order: SweepOrder, run_errand: RunErrand) -> OpenedSweep:
        """Create or join a sweep once the server answers."""
        if not self._answers.wait(START_LIMIT_S) or self._error:
            why = self._error or f"no answer within {START_LIMIT_S:g} s"
            raise BackendError(f"the embedded sweep server did not start: {why}; its log is {self._log}")
        answer = run_errand(
            "parallel_hpo.backend.calls:open_sweep",
            (order,),
            self.client_environment("supervisor"),
            OPEN_LIMIT_S,
        )
        assert isinstance(answer, OpenedSweep)
        return answer

    def client_environment(self, label: str) -> Mapping[str, str]:
        """Return the server's address, the worker's own key, and what keeps other keys and proxies out."""
        return {
            "WANDB_BASE_URL": self._url,
            "WANDB_API_KEY": keys.worker_key(self._key, label),
            "WANDB_ERROR_REPORTING": "false",
            "NETRC": str(self._directory / "no-netrc"),
            "WANDB_CONFIG_DIR": str(self._directory / "wandb-config"),
            **_without_proxy(self._environment),
        }

    def why_over(self, path: SweepPath) -> str:
        """Return why the sweep gives no more runs; '' while it goes on."""
        state = str(self._ask("GET", path, "")["state"])
        if state == "FINISHED":
            return "the sweep is finished"
        return OVER.get(state, "")

    def give_back(self, path: SweepPath, label: str, keep: Sequence[RunId]) -> None:
        """Let others have the runs that a dead worker was issued and never started, all but `keep`."""
        self._ask("POST", path, "/release", {"label_prefix": label, "keep": list(keep)})

    def end_run(self, path: SweepPath, run_id: RunId, state: str) -> None:
        """Say that a run has ended whose process can't say so."""
        self._ask("POST", path, f"/runs/{run_id}/end", {"state": state})

    def finish_sweep(self, path: SweepPath) -> None:
        """Set the sweep to finished."""
        self._ask("POST", path, "/state", {"state": "FINISHED"})

    def close(self) -> None:
        """End the server: its standard input closes."""
        with self._restarting:
            self._closing = True
            process = self._process
        assert process.stdin is not None
        process.stdin.close()
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
        self._watcher.join()

    # --- the process ---------------------------------------------------------------

    @property
    def _log(self) -> Path:
        return self._directory / "server.log"

    def _start(self) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "parallel_hpo.server", "--embedded", "--port", str(self._port)]
        command += ["--host", LOOPBACK, "--database", str(self._directory / "server.db")]
        with self._log.open("ab") as log:
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
        """Wait for the server's words and its end, and start it again for as long as it is wanted."""
        while True:
            assert self._process.stdout is not None
            with self._process.stdout as words:
                if line := words.readline():
                    self._url = json.loads(line)["url"]
                    self._port = int(self._url.rpartition(":")[2])
                    self._answers.set()
                words.read()
            code = self._process.wait()
            with self._restarting:
                if self._closing:
                    return
                if not self._answers.is_set():
                    self._error = f"it ended with exit code {code}"
                    self._answers.set()
                    return
                assert self._process.stdin is not None
                self._process.stdin.close()
                self._process = self._start()

    def _ask(self, method: str, path: SweepPath, verb: str, body: Mapping[str, Any] | None = None) -> Any:
        """Ask the server's own door; a server that is away is waited for."""
        address = f"{self._url}/hpo/sweeps/{path}{verb}"
        token = b64encode(f"api:{self._key}".encode()).decode()
        request = urllib.request.Request(
            address,
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Authorization": f"Basic {token}", "Content-Type": "application/json"},
        )
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        deadline = time.monotonic() + AWAY_LIMIT_S
        while True:
            try:
                with opener.open(request, timeout=REQUEST_LIMIT_S) as response:
                    return json.load(response)
            except (OSError, HTTPException, json.JSONDecodeError) as error:
                final = isinstance(error, urllib.error.HTTPError) and error.code < 500
                if final or self._closing or time.monotonic() > deadline:
                    raise BackendError(f"{address}: {error}") from None
                time.sleep(RETRY_S)


def _without_proxy(environment: Mapping[str, str]) -> dict[str, str]:
    """Return `NO_PROXY` with loopback added, in both spellings that clients read."""
    known = environment.get("NO_PROXY") or environment.get("no_proxy") or ""
    value = ",".join(filter(None, [known, LOOPBACK, "localhost"]))
    return {"NO_PROXY": value, "no_proxy": value}
