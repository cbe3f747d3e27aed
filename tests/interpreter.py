"""A `python3` for what starts it by that name: its calls are forks of the process that the tests have.

    script ── python3 -m … ─▶ python3.py: words, environment, streams ─▶ the test, which has a fork made
                                         ◀─ the fork's exit code ─┘

A fork is killed where `python3.py` was; other signals reach that alone.
"""

from __future__ import annotations

import json
import os
import select
import socket
import socketserver
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from tests.commanding import CommandLine
from tests.threads import answering_in_a_thread

ASKING: Final = Path(__file__).with_name("python3.py")
LOOK_S: Final = 0.05


@contextmanager
def forked_python(commands: CommandLine, before: Callable[[], object] | None = None) -> Iterator[Path]:
    """Return the folder of such a `python3`, and `python`, for PATH; what it becomes calls `before` first."""

    class Answer(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            line: socket.socket = self.request
            _, streams, _, _ = socket.recv_fds(line, 1, 3)
            with line.makefile() as asking:
                words, folder, environment = json.loads(asking.readline())
            command = commands.onto(
                *words, streams=streams, folder=Path(folder), environment=environment, before=before
            )
            for stream in streams:
                os.close(stream)
            while command.poll() is None:
                if select.select([line], [], [], LOOK_S)[0]:  # who asked was killed
                    command.kill()
                    command.wait()
                    return
            line.sendall(str(command.wait()).encode())

    with TemporaryDirectory(prefix="p-") as made:
        place, python = Path(made, "s"), Path(made, "python3")
        python.write_text(f'#!/bin/sh\nexec {sys.executable} -IS {ASKING} {place} "$@"\n')
        python.chmod(0o755)
        python.with_name("python").symlink_to(python)
        with answering_in_a_thread(socketserver.ThreadingUnixStreamServer(str(place), Answer)):
            yield python.parent
