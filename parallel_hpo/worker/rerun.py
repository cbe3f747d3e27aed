"""Runs one run again in the foreground, without agent and sweep. Started by `session/rerun.py`.

The run has its own id and another run's parameters. The process reads its order from a pipe, calls `main` in
its main thread, and ends with the run's exit code.
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
from parallel_hpo.core.values import visible
from parallel_hpo.worker import tree
from parallel_hpo.worker.agent import seed_random, write_parameters
from parallel_hpo.worker.entry import apply_setup
from parallel_hpo.worker.hooks import HOOKS
from parallel_hpo.worker.program import check_program, command_of_run
from parallel_hpo.worker.run import NOT_ASKED, RunVerdict, classify, traceback_of
from parallel_hpo.worker.target import Main, load_main, program_of

SIGNALLED: Final = 128
"""A shell's exit code of a command ended by signal n is this plus n."""


def main() -> NoReturn:
    """Run the order on the pipe whose descriptor is the first argument."""
    tree.die_with_parent()
    with Connection(int(sys.argv[1]), writable=False) as pipe:
        order = pipe.recv()
    sys.exit(_run(order))


def _run(order: RunAgain) -> int:
    apply_setup(order.surroundings)
    write_parameters(Path(os.environ["WANDB_SWEEP_PARAM_PATH"]), order.parameters)
    HOOKS.keep_login = order.keep_login
    HOOKS.install()
    HOOKS.begin(order.run_id, 1)
    seed_random(order.seed)
    try:
        function = _load(order)
    except TargetError as unfit:
        print(visible(f"error: {order.hint}{unfit}"), file=sys.stderr)
        return int(unfit.exit_code)
    error = _call(function)
    HOOKS.look_for_others()
    verdict = classify(error, ask=NOT_ASKED, unopened="" if HOOKS.initialised else HOOKS.unopened)
    print_end(error, verdict)
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
    """Run the program on the terminal; raises SystemExit with its code, 128 + n for signal n."""
    process = subprocess.Popen(command_of_run(program))
    while True:
        try:
            code = process.wait()
            break
        except KeyboardInterrupt:
            continue  # the program got it too, and decides
    if code:
        raise SystemExit(code if code > 0 else SIGNALLED - code)


def _call(function: Main) -> BaseException | None:
    try:
        function()
    except BaseException as error:  # noqa: BLE001 - this is the edge at which user code ends
        return error
    return None


def print_end(error: BaseException | None, verdict: RunVerdict) -> None:
    """Print how `main` ended, as the interpreter would for a script, with control characters made visible."""
    text = ""
    if error is None:
        text = verdict.reason and f"parallel_hpo: {verdict.reason}\n"
    elif not isinstance(error, SystemExit):
        text = traceback_of(error)
    elif isinstance(error.code, str):
        text = f"{error.code}\n"
    print(visible(text), end="", file=sys.stderr)


if __name__ == "__main__":
    main()
