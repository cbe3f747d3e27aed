"""W&B's own engine at arm's length: in a child process, which may hang, crash or print what it likes.

The `sweeps` package is the extra `wandb-engine`; it is imported in that child alone.
"""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Final

from parallel_hpo.errors import ConfigError

START_LIMIT_S: Final = 120.0
"""The engine's libraries take 2 s to import on an idle machine, and much longer beside busy workers."""
ASK_LIMIT_S: Final = 5.0
"""An ask takes 0.03 to 0.2 s; agents and all other sweeps' asks wait for it."""
_CHILD: Final = Path(__file__).with_name("wandb_child.py")
_ONE_THREAD: Final = {f"{library}_NUM_THREADS": "1" for library in ("OMP", "MKL", "OPENBLAS")}
"""On matrices this small more threads only spin, and the workers need the cores."""

_CLOSED: Final = "it was closed"


class EngineFailedError(Exception):
    """W&B's engine gave no answer; says why."""


class EngineStartingError(Exception):
    """W&B's engine is still being imported: it is no failure, and nobody need wait for it."""


def require_wandb_engine() -> None:
    """Raise ConfigError unless the package of W&B's engine is installed here."""
    try:
        version("sweeps")
    except PackageNotFoundError:
        raise ConfigError(
            'engine "wandb" needs W&B\'s own package `sweeps`, which is not installed here:'
            " pip install 'parallel_hpo[wandb-engine]' (it needs numpy < 2), or use engine \"auto\""
        ) from None


class WandbProcess:
    """The child, started at the first use and again after each of its deaths, until it is closed.

    One thread asks; others may `prepare` and `close` it.
    """

    def __init__(
        self,
        command: Sequence[str] = (sys.executable, "-P", str(_CHILD)),
        *,
        start_limit_s: float = START_LIMIT_S,
        ask_limit_s: float = ASK_LIMIT_S,
    ) -> None:
        self._command = command
        self._start_limit_s = start_limit_s
        self._ask_limit_s = ask_limit_s
        self._process: subprocess.Popen[bytes] | None = None
        self._changing = threading.Lock()
        self._closed = False
        self._began = 0.0
        self._ready = False
        self._unread = b""

    def prepare(self) -> None:
        """Start the child, if there is none, and don't wait for it; OSError once it is closed."""
        with self._changing:
            if self._closed:
                raise OSError(_CLOSED)
            if self._process is None:
                self._start()

    def _start(self) -> None:
        environment = _ONE_THREAD | dict(os.environ)
        self._process = subprocess.Popen(
            self._command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environment,
        )
        self._began, self._ready, self._unread = time.monotonic(), False, b""

    def is_ready(self, *, within_s: float) -> bool:
        """Say whether the child has come up, waiting so long; OSError where it doesn't any more."""
        self.prepare()
        if self._ready:
            return True
        try:
            self._read(time.monotonic() + within_s)
        except TimeoutError:
            if time.monotonic() - self._began > self._start_limit_s:
                raise
            return False
        self._ready = True
        return True

    def ask(self, question: dict[str, Any]) -> list[float]:
        """Return the suggested point, within the time limit.

        EngineFailedError where none comes; EngineStartingError where it is not to be expected yet.
        """
        try:
            if not self.is_ready(within_s=self._ask_limit_s):
                raise EngineStartingError
            answer = self._exchange(question)
        except (OSError, ValueError) as error:
            self._end()
            raise EngineFailedError(str(error) or type(error).__name__) from None
        if "error" in answer:
            raise EngineFailedError(answer["error"])
        point: list[float] = answer["point"]
        return point

    def close(self) -> None:
        """End the child for good, and with it an ask that is under way."""
        with self._changing:
            self._closed = True
        self._end()

    def _child(self) -> subprocess.Popen[bytes]:
        process = self._process
        if process is None:
            raise OSError(_CLOSED)
        return process

    def _end(self) -> None:
        with self._changing:
            process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.communicate()

    def _exchange(self, question: dict[str, Any]) -> dict[str, Any]:
        questions = self._child().stdin
        assert questions is not None
        questions.write(json.dumps(question).encode() + b"\n")
        questions.flush()
        answer: dict[str, Any] = json.loads(self._read(time.monotonic() + self._ask_limit_s))
        return answer

    def _read(self, deadline: float) -> bytes:
        """Return the child's next line; OSError where it doesn't come in time, or the child is gone."""
        child = self._child()
        assert child.stdout is not None
        output = child.stdout.fileno()
        while b"\n" not in self._unread:
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([output], [], [], left)[0]:
                raise TimeoutError("it didn't answer in time")
            if not (piece := os.read(output, 65536)):
                raise OSError(f"its process ended with exit code {child.wait()}")
            self._unread += piece
        line, _, self._unread = self._unread.partition(b"\n")
        return line
