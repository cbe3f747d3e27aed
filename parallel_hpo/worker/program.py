"""A sweep's own `program` as a `main`: one process per run, started as `wandb agent` would.

The command's macros are W&B's. The program finds its run in the agent's environment, and gets a wandb-core
of its own. A stop sends SIGINT to its process group, as a terminal would, since a shell does not pass
signals on to its children. If a signal kills the program, the worker kills itself with it, so that the run
is requeued like a function's.

The reason of a failure is the end of the program's stderr, which says more than an exit code: a Python
program's exception with its whole message, else the last line; wandb's lines at the end of a run are ignored.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import threading
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final

from parallel_hpo.core.errors import TargetError
from parallel_hpo.core.types import Parameters, Program
from parallel_hpo.core.values import last_words
from parallel_hpo.worker import tree
from parallel_hpo.worker.agent import read_parameters
from parallel_hpo.worker.hooks import HOOKS
from parallel_hpo.worker.run import ProgramExit

KEPT_BYTES: Final = 16384
"""Bytes kept of the end of stderr: enough for a CUDA error's message below a deep traceback."""
DRAIN_LIMIT_S: Final = 1.0
"""Timeout in seconds for the end of stderr: a child of the program may hold it open until it is killed."""

DEFAULT_COMMAND: Final = ("${env}", "${interpreter}", "${program}", "${args}")
"""W&B's default for a sweep without `command`."""
_MACRO: Final = re.compile(r"\$\{(\w+)\}")
_ENVVAR: Final = re.compile(r"\$\{envvar:(\w+)\}")


class ProgramMain:
    """Runs the program once per call, with the active run's parameters."""

    def __init__(self, program: Program) -> None:
        self._program = program

    def __call__(self) -> None:
        """Run the program to its end.

        Raises:
            ProgramExit: its exit code is not 0; with the code and the end of its stderr.
            KeyboardInterrupt: this process was interrupted, or the sweep stopped the run in the program.
        """
        code, words = _run(command_of_run(self._program))
        if code == -signal.SIGINT and HOOKS.asked_to_stop():
            raise KeyboardInterrupt  # its own wandb client received the stop first
        if code < 0:
            with suppress(OSError):  # SIGKILL has no handler
                signal.signal(-code, signal.SIG_DFL)
            signal.raise_signal(-code)
        if code:
            raise ProgramExit(code, words)


def command_of_run(program: Program) -> list[str]:
    """Return the program's command for the active run."""
    file = Path(os.environ["WANDB_SWEEP_PARAM_PATH"])
    json_file = file.with_suffix(".json")
    parameters = read_parameters(os.environ)
    json_file.write_text(json.dumps(parameters))
    return list(expand(program, parameters, environment=os.environ, json_file=json_file))


def expand(
    program: Program, parameters: Parameters, *, environment: Mapping[str, str], json_file: Path
) -> Iterator[str]:
    """Yield the words of the command, with all macros replaced.

    As in W&B, `${envvar:NAME}` within a word becomes the variable's value, and an unknown macro is dropped.
    """
    values = _macros(program, parameters, json_file)
    for word in program.command or DEFAULT_COMMAND:
        known = _ENVVAR.sub(lambda match: environment.get(match[1], match[1]), word)
        macro = _MACRO.fullmatch(known)
        yield from [known] if macro is None else values.get(macro[1], [])


def check_program(program: Program) -> None:
    """Raise TargetError if the program or its interpreter can't be found."""
    words = list(expand(program, {}, environment=os.environ, json_file=Path("x")))
    if not words or shutil.which(words[0]) is None:
        raise TargetError(f"the sweep's command {words} can't be started: there is no {words[:1]}")
    runs_file = "${program}" in (program.command or DEFAULT_COMMAND)
    if runs_file and not Path(program.file).is_file():
        raise TargetError(f"the sweep's program {program.file} is no file in {Path.cwd()}")


def _macros(program: Program, parameters: Parameters, json_file: Path) -> dict[str, list[str]]:
    pairs = [f"{name}={value}" for name, value in parameters.items()]
    return {
        "env": ["/usr/bin/env"],
        "interpreter": ["python"],
        "program": [program.file],
        "args": [f"--{pair}" for pair in pairs],
        "args_no_equals": [word for name, value in parameters.items() for word in (f"--{name}", str(value))],
        "args_no_hyphens": pairs,
        "args_no_boolean_flags": list(_without_false(parameters)),
        "args_append_hydra": [f"+{pair}" for pair in pairs],
        "args_override_hydra": [f"++{pair}" for pair in pairs],
        "args_json": [json.dumps(dict(parameters))],
        "args_json_file": [str(json_file)],
    }


def _without_false(parameters: Parameters) -> Iterator[str]:
    """Yield flags; a true boolean is its name alone, a false one is left out."""
    for name, value in parameters.items():
        if not isinstance(value, bool):
            yield f"--{name}={value}"
        elif value:
            yield f"--{name}"


def _run(command: list[str]) -> tuple[int, str]:
    """Run a command in its own process group.

    Return its exit code, negative for a signal, and if that is above 0 the end of its stderr.
    """
    environment = {name: value for name, value in os.environ.items() if name != "WANDB_SERVICE"}
    stderr = TeeStderr()
    try:
        process = subprocess.Popen(command, env=environment, process_group=0, stderr=stderr.writer)
    finally:
        stderr.close()
    tree.note(process.pid)
    try:
        code = process.wait()
    except KeyboardInterrupt:
        with suppress(ProcessLookupError):  # it has ended with its whole group
            os.killpg(process.pid, signal.SIGINT)
        process.wait()
        stderr.words()
        raise
    return code, stderr.words() if code > 0 else ""


class TeeStderr:
    """A pipe for a program's stderr; a thread copies it to our own at once, and keeps the end."""

    def __init__(self) -> None:
        reader, self.writer = os.pipe()
        self._tail = b""
        self._thread = threading.Thread(target=self._pass_on, args=(reader,), daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Close our write end, once the program has its own."""
        os.close(self.writer)

    def words(self) -> str:
        """Return the last words on stderr of the ended program."""
        self._thread.join(DRAIN_LIMIT_S)
        return last_words(self._tail.decode(errors="replace"), ignored="wandb: ")

    def _pass_on(self, reader: int) -> None:
        with open(reader, "rb", buffering=0) as pipe:
            while chunk := pipe.read(65536):
                self._tail = (self._tail + chunk)[-KEPT_BYTES:]
                while chunk:
                    chunk = chunk[os.write(2, chunk) :]
