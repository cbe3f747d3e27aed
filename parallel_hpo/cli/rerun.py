"""`parallel-hpo rerun`: which run is meant, and what is said of it before it starts."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Final

from parallel_hpo.cli.finding import find_anywhere
from parallel_hpo.cli.output import print_for_people
from parallel_hpo.config.checks import nearest
from parallel_hpo.core.errors import UsageError
from parallel_hpo.records.folders import KnownSweep
from parallel_hpo.records.reader import RunRow
from parallel_hpo.session.rerun import RerunRequest, new_run_id, run_again

BEST: Final = "best"


def rerun(directory: Path, sweep: str, run: str, *, debug: bool) -> int:
    """Run a sweep's run again; return its own exit code. Raises the errors of `run_again`, and UsageError."""
    known = find_anywhere(directory, sweep)
    row = _find(known, run)
    again = RerunRequest(known, row, debug, new_run_id())
    told = json.dumps(dict(row.parameters))
    print_for_people(f"run {again.run_id}: {row.run_id} of {known.sweep_id} again, with {told}")
    return run_again(again, os.environ)


def _find(known: KnownSweep, run: str) -> RunRow:
    if run == BEST:
        if known.best is None:
            raise UsageError(f"{known.sweep_id} has no finished run with a value: name a run by its id")
        return known.best
    for row in known.runs:
        if row.run_id == run:
            return row
    ids = [row.run_id for row in known.runs]
    raise UsageError(f"{known.sweep_id} has no run {run}; {nearest(run, [BEST, *ids[:20]])}")
