"""`parallel-hpo report`: a sweep as one HTML file, from what its server and its folder have of it."""

from __future__ import annotations

import time
from pathlib import Path

from parallel_hpo.cli.output import print_for_machines
from parallel_hpo.cli.report_folder import contents_of
from parallel_hpo.cli.whole_file import whole_file
from parallel_hpo.errors import BackendError
from parallel_hpo.server import local
from parallel_hpo.server.pages.report import Contents, document, read
from parallel_hpo.server.store.failures import UnavailableError
from parallel_hpo.supervisor.records.sweep_folders import find_sweep


def perform_report(directory: Path, sweep: str, output: Path | None) -> None:
    """Write a report of a sweep, and print the file's path alone; `output` missing: `<sweep_id>.html` here.

    Raises:
        UsageError: there is no such sweep, or the file can't be written.
        LedgerError: its ledger can't be read.
        BackendError: the server's database can't be read now.
    """
    sweep_id = sweep.rpartition("/")[2]
    now = time.time()
    contents = _of_server(directory, sweep_id) or contents_of(find_sweep(directory, sweep), now)
    file = Path(f"{sweep_id}.html") if output is None else output
    with whole_file(file) as draft:
        draft.write_text(document(contents, now), encoding="utf-8")
    print_for_machines(str(file))


def _of_server(directory: Path, sweep_id: str) -> Contents | None:
    """Return what the embedded server has of a sweep, whether it runs or not; None: nothing."""
    try:
        with local.opened(directory) as world:
            return None if world is None else read(world, sweep_id)
    except UnavailableError as error:
        raise BackendError(f"the server's database can't be used now: {error}; try again later") from None
