"""`parallel-hpo upload`: copies a sweep from a parallel_hpo server to the W&B server of the login."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Any, Final, NoReturn

import typer

from parallel_hpo.cli.options import Directory, Json, Sweep, directory_of
from parallel_hpo.cli.output import print_for_machines, print_for_people
from parallel_hpo.core.errors import ExitCode, UsageError
from parallel_hpo.core.types import sweep_id_of

if TYPE_CHECKING:
    from parallel_hpo.client.credentials import Credentials
    from parallel_hpo.client.own_servers import RemoteBackend
    from parallel_hpo.upload.perform import Uploaded
    from parallel_hpo.upload.plan import LocalSweep, SourceDatabase

_MOST_NAMED: Final = 10
"""Maximum number of runs named in a line."""


def upload(
    sweep: Sweep,
    project: Annotated[
        str | None,
        typer.Option(
            help="Destination project (default: WANDB_PROJECT, or the sweep's own).", metavar="NAME"
        ),
    ] = None,
    entity: Annotated[
        str | None,
        typer.Option(help="Destination entity (default: WANDB_ENTITY, or the client's own).", metavar="NAME"),
    ] = None,
    database: Annotated[
        str | None,
        typer.Option(help="Source database (default: the embedded server's).", metavar="PATH|URL"),
    ] = None,
    files: Annotated[
        str | None,
        typer.Option(help="Folder of that database's files (default: found by itself).", metavar="FOLDER"),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="List the runs; change nothing.")] = False,
    directory: Directory = None,
    as_json: Json = False,
) -> None:
    """Upload a sweep to the W&B server of your login.

    The sweep is one of the embedded server. A repeated upload continues an interrupted one, and adds runs
    that have finished since.
    """
    from parallel_hpo.upload.client import client_in
    from parallel_hpo.upload.perform import Upload
    from parallel_hpo.upload.plan import database_at, database_in, upload_folder

    home = directory_of(directory)
    source = database_in(home) if database is None else database_at(database, files)
    found = _read(source, sweep)
    sweep_id = found.path.sweep_id
    with (
        _exit_on_signals(),
        upload_folder(home, sweep_id) as folder,
        client_in(folder, os.environ) as client,
    ):
        backend = _own_backend(client.credentials, folder)
        uploading = Upload(
            client,
            source,
            found,
            entity=entity or os.environ.get("WANDB_ENTITY"),
            project=project or os.environ.get("WANDB_PROJECT"),
            server=backend,
            say=print_for_people,
        )
        done = uploading.plan() if dry_run else uploading.perform(folder)
    if as_json:
        print_for_machines(json.dumps(_as_dict(found, done, dry_run=dry_run), indent=2))
    else:
        _show(found, done, dry_run=dry_run)
        if done.open and _was_abandoned(home / sweep_id):
            print_for_people(f"no process runs them any more: resume the sweep by run --resume {sweep_id}")
    raise typer.Exit(_exit_code(done, dry_run=dry_run))


def _read(source: SourceDatabase, sweep: str) -> LocalSweep:
    from parallel_hpo.upload.plan import read_sweep

    with source.opened() as context:
        found = read_sweep(context, sweep_id_of(sweep))
    if found is None:
        raise UsageError(
            f"there is no sweep {sweep} in {source.database}:"
            " upload takes sweeps of the embedded server, or of the database that --database names"
        )
    return found


def _own_backend(credentials: Credentials, folder: Path) -> RemoteBackend | None:
    """Return a client of the destination's server if it is ours, else None."""
    from parallel_hpo.client.own_servers import RemoteBackend
    from parallel_hpo.client.server_client import is_ours

    if credentials.key is None or not is_ours(credentials.base_url):
        return None
    return RemoteBackend(credentials.base_url, credentials.key, folder, os.environ)


@contextmanager
def _exit_on_signals() -> Iterator[None]:
    """Turn SIGTERM and SIGHUP into SystemExit, so that the block's cleanup runs."""

    def end(number: int, _frame: FrameType | None) -> NoReturn:
        raise SystemExit(ExitCode.SIGNAL_BASE + number)

    before = {number: signal.signal(number, end) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _was_abandoned(folder: Path) -> bool:
    """Return whether the sweep has run in this folder and doesn't run now."""
    from parallel_hpo.records.folders import supervised_folders
    from parallel_hpo.records.reader import ledgers_in

    return bool(ledgers_in(folder)) and not supervised_folders(folder)


def _show(sweep: LocalSweep, done: Uploaded, *, dry_run: bool) -> None:
    where = done.project_path if done.target is None else str(done.target.path)
    sent, there, total = len(done.sent), len(done.there), len(sweep.runs)
    if dry_run:
        print_for_people(f"{sweep.path} to {where}: {sent} of {total} runs would be sent, {there} are there")
    else:
        print_for_people(
            f"{sweep.path} is {where}: {sent + there} of {total} runs are there, {sent} sent now"
        )
    for run_id, why in done.failed.items():
        print_for_people(f"run {run_id} was not uploaded: {why}")
    if done.open:
        print_for_people(f"not over, so not sent: {_join(done.open)}; upload again when they are")
    for use in done.unlinked:
        print_for_people(
            f"run {use.run_id} used {use.name}:v{use.version}, which is not there: the use was not recorded"
        )
    if done.target is not None:
        print_for_machines(done.target.url)


def _join(runs: tuple[str, ...]) -> str:
    more = f" and {len(runs) - _MOST_NAMED} more" if len(runs) > _MOST_NAMED else ""
    return f"{', '.join(runs[:_MOST_NAMED])}{more}"


def _as_dict(sweep: LocalSweep, done: Uploaded, *, dry_run: bool) -> dict[str, Any]:
    return {
        "sweep": str(sweep.path),
        "target": None if done.target is None else str(done.target.path),
        "url": None if done.target is None else done.target.url,
        "project": done.project_path,
        "state": done.state or None,
        "sent": list(done.sent),
        "there": list(done.there),
        "open": list(done.open),
        "failed": dict(done.failed),
        "unlinked": [f"{use.run_id}: {use.name}:v{use.version}" for use in done.unlinked],
        "dry_run": dry_run,
    }


def _exit_code(done: Uploaded, *, dry_run: bool) -> ExitCode:
    if done.failed:
        return ExitCode.OUR_FAULT
    return ExitCode.RESUMABLE if done.open and not dry_run else ExitCode.COMPLETE
