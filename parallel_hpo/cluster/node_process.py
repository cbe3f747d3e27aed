"""A node as whoever starts it has it: its guard's process, which ends with this one, or when it is told to.

Used in an engine's worker on the machine itself (Ray, Dask), and around a program that reaches there
(Slurm's `srun`). Imports no engine. How a node's task ended has the one form that all engines give it.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import IO, Any, Final

from parallel_hpo.cluster.base import ClusterMachine, NodeCommand, NodeTaskEnd, to_line
from parallel_hpo.cluster.guard import GuardMessage

SPARE_S: Final = 3.0
"""On top of a node's grace: for the way there, and for what is left of it to be killed."""


GUARD: Final = ("-m", "parallel_hpo.cluster.guard")


_RUNNING: Final[dict[str, NodeProcess]] = {}
_STOPPED: Final[set[str]] = set()


class NodeStateUnknownError(Exception):
    """A guard has ended without its last word: what it guarded may run on."""


@dataclass(frozen=True, slots=True)
class NodeExit:
    """A node has ended, and nothing of it is left."""

    exit_code: int
    last_words: str = ""
    """Of its output; '' where it ended well."""


class NodeProcess:
    """A node that has been started; `stop` may come from any thread, the rest from one."""

    def __init__(self, command: NodeCommand, launcher: Sequence[str] = (), **options: Any) -> None:
        """`launcher` is what starts the interpreter there; `options` are Popen's."""
        # A session of its own: a Ctrl-C at a worker's terminal is the worker's.
        self._process: subprocess.Popen[bytes] = subprocess.Popen(
            [*launcher, sys.executable, *GUARD],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
            **options,
        )
        self._launched = bool(launcher)
        self._has_begun = False
        with suppress(BrokenPipeError):  # it has ended already; `wait` says so
            self._stdin.write(to_line(command).encode())
            self._stdin.flush()

    def stop(self) -> None:
        """Have it end: SIGTERM to the node, and SIGKILL to all of it `grace_s` later.

        A launcher that still waits for a machine gets the SIGTERM itself.
        """
        with suppress(BrokenPipeError):
            self._stdin.close()
        if self._launched and not self._has_begun:
            self._process.terminate()

    def kill(self) -> None:
        """End what was started here, and wait for nothing: what is elsewhere must see it by itself."""
        self._process.kill()

    def wait(self) -> NodeExit:
        """Wait for the node's end; raises NodeUnprovenError where its guard had no last word."""
        last = self._listen()
        code = self._process.wait()
        self.stop()
        if last is None or last.exit_code is None:
            raise NodeStateUnknownError(
                f"the guard of the node ended without its last word (exit code {code})"
            )
        return NodeExit(last.exit_code, last.last_words if last.exit_code else "")

    def _listen(self) -> GuardMessage | None:
        """Return what the guard says last."""
        assert self._process.stdout is not None
        last = None
        with self._process.stdout as told:
            for word in filter(None, map(_heard, told)):
                self._has_begun = True
                last = word
        return last

    @property
    def stderr(self) -> IO[bytes] | None:
        """Where it was asked for."""
        return self._process.stderr

    @property
    def _stdin(self) -> IO[bytes]:
        assert self._process.stdin is not None
        return self._process.stdin


def run_node(token: str, command: NodeCommand, environment: Mapping[str, str]) -> NodeExit:
    """Run a node in an engine's worker, to its end or until `stop_node` is called there with the token.

    `environment` is the machine's own.
    """
    if token in _STOPPED:
        return NodeExit(-signal.SIGTERM)
    _RUNNING[token] = node = NodeProcess(command, env=environment)
    try:
        if token in _STOPPED:  # since we looked
            node.stop()
        return node.wait()
    finally:
        del _RUNNING[token]


def stop_node(token: str) -> None:
    """Have a node end that runs in this process, or is about to; never waits."""
    _STOPPED.add(token)
    node = _RUNNING.get(token)
    if node is not None:
        node.stop()


def _heard(line: bytes) -> GuardMessage | None:
    """What a line says; None where it is not the guard's, as a batch system's own words are not."""
    try:
        return GuardMessage(**json.loads(line))
    except (ValueError, TypeError):
        return None


def time_to_end(commands: Iterable[NodeCommand]) -> float:
    """Return for how many seconds the ends of nodes are waited for that were told to end."""
    return max((command.grace_s for command in commands), default=0.0) + SPARE_S


def proven(machine: ClusterMachine, node: NodeExit) -> NodeTaskEnd:
    """Return the end of a node that is known to be gone, with all of it."""
    return NodeTaskEnd(machine, returned=True, exit_code=node.exit_code, error=node.last_words)


def hinted(machine: ClusterMachine, reason: object) -> NodeTaskEnd:
    """Return the end of which only an engine speaks, or an error: the node may run on."""
    return NodeTaskEnd(machine, returned=False, error=said_by(reason))


def said_by(reason: object) -> str:
    """Return the words of an error on one line, or its kind where it has none."""
    words = " ".join(str(reason).split())
    return words or type(reason).__name__
