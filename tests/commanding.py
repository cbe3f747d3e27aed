"""The command line, called many times: one process imports it, and each call is a fork of that one.

    test ── {words, folder, environment, output} ─▶ stdin ─▶ this, run as a program ── fork ─▶ the command
         ◀─ its exit code ──────────────────────── stdout ──┘

A call is a process of its own, as from a shell, without the half second that its imports take.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NoReturn

Done = subprocess.CompletedProcess[str]


class CommandLine:
    """`parallel-hpo`, ready to be called."""

    def __init__(self, process: subprocess.Popen[str], folder: Path) -> None:
        self._process = process
        self._outputs = (folder / "stdout", folder / "stderr")

    def call(self, *words: str, folder: Path, environment: dict[str, str]) -> Done:
        """Perform a command in a folder, with this environment and no stdin, and wait for its end."""
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None and stdout is not None
        outputs = [str(output) for output in self._outputs]
        asked = {"words": words, "folder": str(folder), "environment": environment, "outputs": outputs}
        stdin.write(json.dumps(asked) + "\n")
        stdin.flush()
        code = int(stdout.readline())
        said, complained = (output.read_text() for output in self._outputs)
        return Done(["parallel-hpo", *words], code, said, complained)


@contextmanager
def command_line() -> Iterator[CommandLine]:
    """Have the command line at hand."""
    command = [sys.executable, "-m", "tests.commanding"]
    root = Path(__file__).parents[1]
    with (
        TemporaryDirectory(prefix="commands-") as folder,
        subprocess.Popen(
            command, cwd=root, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as process,
    ):
        yield CommandLine(process, Path(folder))
        assert process.stdin is not None
        process.stdin.close()


def serve() -> None:
    """Perform what is asked on stdin, one command after the other."""
    import parallel_hpo.cli.run
    import parallel_hpo.cli.verbs  # noqa: F401 - what most commands import

    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            _perform(json.loads(line))
        _, status = os.waitpid(child, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


def _perform(asked: dict[str, Any]) -> NoReturn:
    """Become the command."""
    code = 1
    try:
        code = _run(asked)
    except BaseException:  # noqa: BLE001 - nothing may return into the loop of the other process
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _run(asked: dict[str, Any]) -> int:
    os.chdir(asked["folder"])
    os.environ.clear()
    os.environ.update(asked["environment"])
    sys.path[0] = asked["folder"]  # as `python -m` has it
    for number, name in enumerate([os.devnull, *asked["outputs"]]):
        os.dup2(os.open(name, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600), number)
    sys.stdin, sys.stdout, sys.stderr = (open(number, mode) for number, mode in enumerate("rww"))  # noqa: PTH123, SIM115
    sys.argv = ["parallel-hpo", *asked["words"]]
    from parallel_hpo.cli import main

    try:
        main()
    except SystemExit as left:
        return left.code if isinstance(left.code, int) else 0 if left.code is None else 1
    return 0


if __name__ == "__main__":
    serve()
