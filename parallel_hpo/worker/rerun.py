"""One run again, in the foreground: `main` in the main thread of a process of its own, on the terminal.

No agent and no sweep: the run has an id of its own and the parameters of another one. The process reads
from its pipe what it is to run, and ends with the run's own exit code. Started by `supervisor.rerun`.
"""

from __future__ import annotations

import os
import pdb
import signal
import subprocess
import sys
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Final, NoReturn

from parallel_hpo.core.child_spec import RunAgain
from parallel_hpo.core.errors import TargetError
from parallel_hpo.core.types import Program
from parallel_hpo.worker import tree
from parallel_hpo.worker.agent import begin_streams, write_parameters
from parallel_hpo.worker.entry import surround
from parallel_hpo.worker.hooks import HOOKS
from parallel_hpo.worker.program import check_program, command_of_run
from parallel_hpo.worker.run import NOT_ASKED, RunVerdict, judge, traceback_of
from parallel_hpo.worker.target import Main, load_main, program_of

SIGNALLED: Final = 128
"""The exit code of a command that a signal has ended is its number above this, to a shell."""


def main() -> NoReturn:
    """Run what the pipe says whose descriptor is the first argument."""
    tree.die_with_parent()
    with Connection(int(sys.argv[1]), writable=False) as pipe:
        order = pipe.recv()
    sys.exit(_run(order))


def _run(order: RunAgain) -> int:
    surround(order.surroundings)
    write_parameters(Path(os.environ["WANDB_SWEEP_PARAM_PATH"]), order.parameters)
    HOOKS.keep_login = order.keep_login
    HOOKS.install()
    HOOKS.begin(order.run_id, 1)
    begin_streams(order.seed)
    try:
        function = _load(order)
    except TargetError as unfit:
        print(f"error: {order.hint}{unfit}", file=sys.stderr)
        return int(unfit.exit_code)
    error = _call(function)
    HOOKS.look_for_others()
    verdict = judge(error, ask=NOT_ASKED, unopened="" if HOOKS.initialised else HOOKS.unopened)
    _say(error, verdict)
    if error is not None and order.debug and not isinstance(error, SystemExit | KeyboardInterrupt):
        pdb.post_mortem(error.__traceback__)
    HOOKS.finish_runs(verdict.exit_code)
    return SIGNALLED + signal.SIGINT if isinstance(error, KeyboardInterrupt) else verdict.exit_code


def _load(order: RunAgain) -> Main:
    if isinstance(order.main, Program):
        check_program(order.main)
        return partial(_run_program, order.main)
    function = load_main(order.main)
    HOOKS.program = program_of(order.main)
    return function


def _run_program(program: Program) -> None:
    """Run it where the terminal is its own; raises SystemExit with its code, 128 + n for signal n."""
    process = subprocess.Popen(command_of_run(program))
    while True:
        try:
            code = process.wait()
            break
        except KeyboardInterrupt:
            continue  # the terminal has told the program too, which says what follows from that
    if code:
        raise SystemExit(code if code > 0 else SIGNALLED - code)


def _call(function: Main) -> BaseException | None:
    try:
        function()
    except BaseException as error:  # noqa: BLE001 - this is the edge at which user code ends
        return error
    return None


def _say(error: BaseException | None, verdict: RunVerdict) -> None:
    """Say how `main` was left, as the interpreter would of a script."""
    if error is None and verdict.reason:
        print(f"parallel_hpo: {verdict.reason}", file=sys.stderr)
    elif isinstance(error, SystemExit):
        if isinstance(error.code, str):
            print(error.code, file=sys.stderr)
    elif error is not None:
        print(traceback_of(error), end="", file=sys.stderr)


if __name__ == "__main__":
    main()
