"""Handle of a started node: its guard's process, which ends with this process or on request.

Used in an engine's worker on the machine itself (Ray, Dask), and around Slurm's `srun`.
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
"""Seconds in addition to a node's grace period, to reach the node and kill its remaining processes."""


GUARD: Final = ("-m", "parallel_hpo.cluster.guard")


_RUNNING: Final[dict[str, NodeProcess]] = {}
_STOPPED: Final[set[str]] = set()


class NodeStateUnknownError(Exception):
    """A guard has ended without its last report: its node may still run."""


@dataclass(frozen=True, slots=True)
class NodeExit:
    """A node and all its processes have ended."""

    exit_code: int
    last_words: str = ""
    """Tail of its output; '' if it ended well."""


class NodeProcess:
    """A started node; `stop` may be called from any thread, other methods from one."""

    def __init__(self, command: NodeCommand, launcher: Sequence[str] = (), **options: Any) -> None:
        """`launcher` is a command that starts the interpreter on the machine; `options` are Popen's."""
        # A session of its own: Ctrl-C in a worker's terminal must not reach it.
        self._process: subprocess.Popen[bytes] = subprocess.Popen(
            [*launcher, sys.executable, *GUARD],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
            **options,
        )
        self._launched = bool(launcher)
        self._has_begun = False
        with suppress(BrokenPipeError):  # it has ended already, which `wait` reports
            self._stdin.write(to_line(command).encode())
            self._stdin.flush()

    def stop(self) -> None:
        """End the node: SIGTERM, and SIGKILL to all of it `grace_s` later.

        A launcher that still waits for a machine gets the SIGTERM instead.
        """
        with suppress(BrokenPipeError):
            self._stdin.close()
        if self._launched and not self._has_begun:
            self._process.terminate()

    def kill(self) -> None:
        """Kill the local process without waiting; processes elsewhere notice it by themselves."""
        self._process.kill()

    def wait(self) -> NodeExit:
        """Wait for the node's end; raises NodeStateUnknownError without the guard's last report."""
        last = self._read_last()
        code = self._process.wait()
        self.stop()
        if last is None or last.exit_code is None:
            raise NodeStateUnknownError(f"the node's guard ended without its last report (exit code {code})")
        return NodeExit(last.exit_code, last.last_words if last.exit_code else "")

    def _read_last(self) -> GuardMessage | None:
        """Read the guard's messages until its end; return the last."""
        assert self._process.stdout is not None
        last = None
        with self._process.stdout as lines:
            for message in filter(None, map(_parse, lines)):
                self._has_begun = True
                last = message
        return last

    @property
    def stderr(self) -> IO[bytes] | None:
        """Its stderr, if the options asked for a pipe."""
        return self._process.stderr

    @property
    def _stdin(self) -> IO[bytes]:
        assert self._process.stdin is not None
        return self._process.stdin


def run_node(token: str, command: NodeCommand, environment: Mapping[str, str]) -> NodeExit:
    """Run a node in an engine's worker until its end, or until `stop_node` is called there with the token."""
    if token in _STOPPED:
        return NodeExit(-signal.SIGTERM)
    _RUNNING[token] = node = NodeProcess(command, env=environment)
    try:
        if token in _STOPPED:  # meanwhile
            node.stop()
        return node.wait()
    finally:
        del _RUNNING[token]


def stop_node(token: str) -> None:
    """Stop a node that runs in this process, or is about to, without waiting."""
    _STOPPED.add(token)
    node = _RUNNING.get(token)
    if node is not None:
        node.stop()


def _parse(line: bytes) -> GuardMessage | None:
    """Return a guard's message; None for other lines, such as a batch system's."""
    try:
        return GuardMessage(**json.loads(line))
    except (ValueError, TypeError):
        return None


def time_to_end(commands: Iterable[NodeCommand]) -> float:
    """Return the seconds to wait for the ends of stopped nodes."""
    return max((command.grace_s for command in commands), default=0.0) + SPARE_S


def proven(machine: ClusterMachine, node: NodeExit) -> NodeTaskEnd:
    """Return the end of a node of which nothing runs for sure."""
    return NodeTaskEnd(machine, returned=True, exit_code=node.exit_code, error=node.last_words)


def hinted(machine: ClusterMachine, reason: object) -> NodeTaskEnd:
    """Return the end that only an engine or an error reports: the node may still run."""
    return NodeTaskEnd(machine, returned=False, error=error_text(reason))


def error_text(reason: object) -> str:
    """Return an error's message on one line, or its class's name if it has none."""
    words = " ".join(str(reason).split())
    return words or type(reason).__name__
