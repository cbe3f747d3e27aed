"""A real server process, and real wandb clients in their own processes."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

CLIENTS = Path(__file__).with_name("clients")
ROOT = Path(__file__).parents[2]
DEADLINE_S = 90.0
"""Far more than a client needs, so that only a hang reaches it."""

AT_ONCE = {"WANDB_X_FILE_STREAM_TRANSMIT_INTERVAL": "1"}


@dataclass
class Server:
    """A server that can be killed and started again with the same folder."""

    folder: Path
    env: dict[str, str]
    database: str | None = None
    """A URL; None: SQLite in the folder."""
    port: str = "0"
    options: tuple[str, ...] = ()
    """Further command-line options."""
    said: dict[str, str] = field(default_factory=dict)
    """The JSON that it printed at its start."""
    process: subprocess.Popen[str] | None = None

    def start(self) -> None:
        words = ["-m", "parallel_hpo.server", "--port", self.port, *self.options]
        words += ["--database", self.database or str(self.folder / "server.db")]
        self.process = subprocess.Popen(
            [sys.executable, *words], env=self.env, cwd=ROOT, stdout=subprocess.PIPE, text=True
        )
        assert self.process.stdout is not None
        self.said = json.loads(self.process.stdout.readline())
        self.port = str(urlsplit(self.said["url"]).port)

    def kill(self) -> None:
        """Kill the server without cleanup."""
        assert self.process is not None
        self.process.kill()
        self.process.communicate()

    def stop(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        self.process.communicate(timeout=10)

    @property
    def client_env(self) -> dict[str, str]:
        """The environment of a client of this server."""
        own = {"WANDB_BASE_URL": self.said["url"], "WANDB_API_KEY": self.said["api_key"]}
        # The command line agent starts programs as `/usr/bin/env python`.
        path = f"{Path(sys.executable).parent}:{self.env.get('PATH', '')}"
        modules = f"{ROOT}:{self.env.get('PYTHONPATH', '')}".strip(":")
        return self.env | AT_ONCE | own | {"PATH": path, "PYTHONPATH": modules}

    def client(
        self,
        script: str,
        *words: str,
        python: Path | None = None,
        deadline_s: float = DEADLINE_S,
        **env: str,
    ) -> Any:
        """Run a client script, with another interpreter if given; return its JSON output."""
        interpreter = python or Path(sys.executable)
        path = {"PATH": f"{interpreter.parent}:{self.env.get('PATH', '')}"}
        done = subprocess.run(
            [str(interpreter), str(CLIENTS / script), *words],
            env=self.client_env | path | env,
            cwd=self.env["HOME"],
            capture_output=True,
            text=True,
            timeout=deadline_s,
            check=False,
        )
        assert done.returncode == 0, done.stderr[-4000:]
        return answers_in(done.stdout)


def answers_in(output: str) -> Any:
    """Return the JSON object that a client printed; wandb may print something after it."""
    return json.loads([line for line in output.splitlines() if line.startswith("{")][-1])


@contextmanager
def serving(
    folder: Path, env: dict[str, str], database: str | None = None, *, options: tuple[str, ...] = ()
) -> Iterator[Server]:
    """Run a server on SQLite or on the database with this URL."""
    server = Server(folder, env, database, options=options)
    server.start()
    try:
        yield server
    finally:
        server.stop()
