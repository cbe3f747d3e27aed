"""`parallel-hpo rerun`: runs one run of a sweep again, in the foreground."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Annotated, Final

import typer

from parallel_hpo.cli.finding import find_anywhere
from parallel_hpo.cli.options import Directory, Sweep, directory_of, run_ids
from parallel_hpo.cli.output import print_for_people
from parallel_hpo.core.errors import UsageError

if TYPE_CHECKING:
    from parallel_hpo.records.folders import KnownSweep
    from parallel_hpo.records.reader import RunRow

BEST: Final = "best"


def rerun(
    sweep: Sweep,
    run: Annotated[
        str, typer.Argument(help="A run's id, or best.", metavar="RUN|best", autocompletion=run_ids)
    ],
    debug: Annotated[
        bool, typer.Option("--pdb", help="Open a debugger where the run raises an exception.")
    ] = False,
    directory: Directory = None,
) -> None:
    """Repeat a run here, as a new run.

    The new run has the same parameters. Its exit code is that of the command.
    """
    from parallel_hpo.session.rerun import RerunRequest, new_run_id, run_again

    known = find_anywhere(directory_of(directory), sweep)
    row = _find(known, run)
    again = RerunRequest(known, row, debug, new_run_id())
    parameters = json.dumps(dict(row.parameters))
    print_for_people(f"run {again.run_id}: {row.run_id} of {known.sweep_id} again, with {parameters}")
    raise typer.Exit(run_again(again, os.environ))


def _find(known: KnownSweep, run: str) -> RunRow:
    from parallel_hpo.config.checks import nearest

    if run == BEST:
        if known.best is None:
            raise UsageError(f"{known.sweep_id} has no finished run with a value: name a run by its id")
        return known.best
    for row in known.runs:
        if row.run_id == run:
            return row
    ids = [row.run_id for row in known.runs]
    raise UsageError(f"{known.sweep_id} has no run {run}; {nearest(run, [BEST, *ids[:20]])}")
