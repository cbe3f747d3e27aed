"""The process between an engine and a node: it ends the node together with the engine, and proves its end.

    engine's worker, or srun ── stdin: a NodeCommand, then nothing until its end ────▶ guard ──▶ node
                             ◀─ stdout: a GuardMessage at the start and at the end ─────┤
                             ◀─ stderr: the node's output ──────────────────────────────┘

The node ends when stdin ends, closed or by the writer's death. The guard reports the end after all processes
below it have died; an engine's own report does not prove that. The guard ignores signals: a batch system
sends them to every process of a job, the node included.

A node can't be its own guard: of a node that is killed, nobody would report the end, and its runs would wait
for its lease (300 s by default) rather than start elsewhere at once.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from parallel_hpo.cluster.base import COORDINATOR_STDERR, STDERR, NodeCommand, OutputTail, open_file, to_line
from parallel_hpo.worker import tree

NOT_ITS_OWN: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)


@dataclass(frozen=True, slots=True)
class GuardMessage:
    """A guard's report: it has started, or the node and all its processes have ended."""

    exit_code: int | None = None
    """None: the guard has started."""
    last_words: str = ""


def main() -> None:
    """Run the node that stdin names."""
    for number in NOT_ITS_OWN:
        signal.signal(number, lambda *_: None)  # not SIG_IGN, which the node would inherit
    tree.become_subreaper()
    line = sys.stdin.buffer.readline()
    if not line:
        return  # its parent is gone already
    command = read_command(line)
    send(GuardMessage())
    node = start(command)
    assert node.stdout is not None
    # The coordinator shows the node's notices: on the same terminal every line would appear twice.
    is_heads_own = command.variables.get(COORDINATOR_STDERR) == open_file(STDERR)
    output = OutputTail(node.stdout, passed_on_to=None if is_heads_own else STDERR)
    threading.Thread(target=end_with_stdin, args=(node, command.grace_s), daemon=True).start()
    code = node.wait()
    tree.kill_all_below()
    send(GuardMessage(code, output.last_words()))


def read_command(line: bytes) -> NodeCommand:
    """Return the command in a line, without pydantic, which would double the guard's start time."""
    words = json.loads(line)
    return NodeCommand(arguments=tuple(words.pop("arguments")), **words)


def send(message: GuardMessage) -> None:
    with suppress(BrokenPipeError):  # the reader is gone
        print(to_line(message), end="", flush=True)


def start(command: NodeCommand) -> subprocess.Popen[bytes]:
    """Start the node, which dies with this process."""
    return subprocess.Popen(
        [sys.executable, *command.arguments],
        env=os.environ | dict(command.variables),
        stdin=subprocess.PIPE,  # open for as long as this process lives
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        preexec_fn=tree.die_with_parent,  # no thread runs yet
    )


def end_with_stdin(node: subprocess.Popen[bytes], grace_s: float) -> None:
    """Wait for stdin's end, then end the node; all processes below it die with it."""
    while os.read(sys.stdin.fileno(), 4096):
        pass
    node.terminate()
    try:
        node.wait(grace_s)
    except subprocess.TimeoutExpired:
        node.kill()


if __name__ == "__main__":
    main()
