"""A sweep's own `program` as a `main`: one process per run, started as `wandb agent` would.

The command's macros are W&B's. The program finds its run by the environment that the
agent has set; it gets a wandb-core of its own. Stopping sends SIGINT to its process
group, as a terminal would: a shell passes none on to what it started. A program that a
signal killed takes its worker along, so that its run is run again like a function's.

What it said last on its stderr is a failure's reason, as it tells more than an exit code: a Python
program's exception with all lines of its message, else its last line; what wandb says at the end of
a run is passed over.
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
"""Room for the message of a CUDA error below a deep traceback's last frames."""
DRAIN_LIMIT_S: Final = 1.0
"""A child that the program left may hold its stderr open; it is killed after the run."""

DEFAULT_COMMAND: Final = ("${env}", "${interpreter}", "${program}", "${args}")
"""W&B's default for a sweep without `command`."""
_MACRO: Final = re.compile(r"\$\{(\w+)\}")
_ENVVAR: Final = re.compile(r"\$\{envvar:(\w+)\}")


class ProgramMain:
    """Runs the program once per call, with the parameters of the run that is on."""

    def __init__(self, program: Program) -> None:
        self._program = program

    def __call__(self) -> None:
        """Run it to its end.

        Raises:
            ProgramExit: with its exit code, where that is not 0, and what it said last.
            KeyboardInterrupt: this process was interrupted, or the program itself by the sweep's wish.
        """
        code, words = _run(command_of_run(self._program))
        if code == -signal.SIGINT and HOOKS.asked_to_stop():
            raise KeyboardInterrupt  # by its own wandb client, which had heard of that first
        if code < 0:
            with suppress(OSError):  # SIGKILL has no handler to be put back
                signal.signal(-code, signal.SIG_DFL)
            signal.raise_signal(-code)
        if code:
            raise ProgramExit(code, words)


def command_of_run(program: Program) -> list[str]:
    """Return the program's command for the run that is on, whose parameters its file has."""
    file = Path(os.environ["WANDB_SWEEP_PARAM_PATH"])
    json_file = file.with_suffix(".json")
    parameters = read_parameters(os.environ)
    json_file.write_text(json.dumps(parameters))
    return list(expand(program, parameters, environment=os.environ, json_file=json_file))


def expand(
    program: Program, parameters: Parameters, *, environment: Mapping[str, str], json_file: Path
) -> Iterator[str]:
    """Yield the words of the command, each macro replaced by what it stands for.

    `${envvar:NAME}` within a word becomes the variable's value; an unknown macro nothing, as in W&B.
    """
    values = _macros(program, parameters, json_file)
    for word in program.command or DEFAULT_COMMAND:
        known = _ENVVAR.sub(lambda match: environment.get(match[1], match[1]), word)
        macro = _MACRO.fullmatch(known)
        yield from [known] if macro is None else values.get(macro[1], [])


def check_program(program: Program) -> None:
    """Raise TargetError where the program, or what is to run it, can't be found."""
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
    """Yield flags; a boolean is its name alone where true, and nothing where false."""
    for name, value in parameters.items():
        if not isinstance(value, bool):
            yield f"--{name}={value}"
        elif value:
            yield f"--{name}"


def _run(command: list[str]) -> tuple[int, str]:
    """Run a command in a process group of its own.

    Return its exit code, negative for a signal, and, where that is above 0, its last words.
    """
    environment = {name: value for name, value in os.environ.items() if name != "WANDB_SERVICE"}
    overheard = TeeStderr()
    try:
        process = subprocess.Popen(command, env=environment, process_group=0, stderr=overheard.writer)
    finally:
        overheard.close()
    tree.note(process.pid)
    try:
        code = process.wait()
    except KeyboardInterrupt:
        with suppress(ProcessLookupError):  # it has ended meanwhile, with all of its group
            os.killpg(process.pid, signal.SIGINT)
        process.wait()
        overheard.words()
        raise
    return code, overheard.words() if code > 0 else ""


class TeeStderr:
    """A pipe to be a program's stderr, all of which goes on to our own at once; a thread of its own."""

    def __init__(self) -> None:
        reader, self.writer = os.pipe()
        self._tail = b""
        self._thread = threading.Thread(target=self._pass_on, args=(reader,), daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Let go of our end, once the program has its own."""
        os.close(self.writer)

    def words(self) -> str:
        """Return what the program, which has ended, said last."""
        self._thread.join(DRAIN_LIMIT_S)
        return last_words(self._tail.decode(errors="replace"), ignored="wandb: ")

    def _pass_on(self, reader: int) -> None:
        with open(reader, "rb", buffering=0) as pipe:
            while chunk := pipe.read(65536):
                self._tail = (self._tail + chunk)[-KEPT_BYTES:]
                while chunk:
                    chunk = chunk[os.write(2, chunk) :]
