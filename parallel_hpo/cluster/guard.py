"""The process between engine and node on a machine: it ends the node with the engine, and proves its end.

    engine's worker, or srun ── stdin: a NodeCommand, then nothing until its end ─▶ guard ──▶ node
                             ◀─ stdout: a line at the start, a GuardWord at the end ─┤
                             ◀─ stderr: what the node prints ────────────────────────┘

The end of stdin is the one way to end a node, whether somebody closes it or dies. What it says at the end
it says after all that was below it is dead: that is the proof which an engine's own word is not. Signals are
not its business: those of a batch system reach every process of a job, the node too.
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

from parallel_hpo.cluster.base import HEAD_STDERR, STDERR, NodeCommand, OutputTail, open_file, to_line
from parallel_hpo.worker import tree

NOT_ITS_OWN: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)


@dataclass(frozen=True, slots=True)
class GuardMessage:
    """What a guard says: that it is there, and how the node has ended, of which nothing is left then."""

    exit_code: int | None = None
    """None: it has begun."""
    last_words: str = ""


def main() -> None:
    """Run the node that stdin names."""
    for number in NOT_ITS_OWN:
        signal.signal(number, lambda *_: None)  # not SIG_IGN, which the node would inherit
    tree.be_subreaper()
    told = sys.stdin.buffer.readline()
    if not told:
        return  # whoever started it has gone already
    command = read_command(told)
    say(GuardMessage())
    node = start(command)
    assert node.stdout is not None
    # The head shows what happens here by itself: on one terminal with it every line would come twice.
    is_heads_own = command.variables.get(HEAD_STDERR) == open_file(STDERR)
    output = OutputTail(node.stdout, passed_on_to=None if is_heads_own else STDERR)
    threading.Thread(target=end_with_stdin, args=(node, command.grace_s), daemon=True).start()
    code = node.wait()
    tree.kill_all_below()
    say(GuardMessage(code, output.last_words()))


def read_command(line: bytes) -> NodeCommand:
    """Return the command of a line, without pydantic, which takes as long as all else of this one's start."""
    words = json.loads(line)
    return NodeCommand(arguments=tuple(words.pop("arguments")), **words)


def say(word: GuardMessage) -> None:
    with suppress(BrokenPipeError):  # nobody is there any more to hear it
        print(to_line(word), end="", flush=True)


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
    """Wait for stdin's end, and end the node; all below it dies with it."""
    while os.read(sys.stdin.fileno(), 4096):
        pass
    node.terminate()
    try:
        node.wait(grace_s)
    except subprocess.TimeoutExpired:
        node.kill()


if __name__ == "__main__":
    main()
