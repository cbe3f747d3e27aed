"""`parallel-hpo upload`: a sweep that a server of ours has, into the W&B server that one is logged in to."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any, Final, NoReturn

from parallel_hpo.cli.output import print_for_machines, print_for_people
from parallel_hpo.client.credentials import Credentials
from parallel_hpo.client.own_servers import RemoteBackend
from parallel_hpo.client.server_client import is_ours
from parallel_hpo.core.errors import BackendError, ExitCode, UsageError
from parallel_hpo.core.types import sweep_id_of
from parallel_hpo.records.folders import supervised_folders
from parallel_hpo.records.ledger_views import ledgers_in
from parallel_hpo.server.store.database import UnavailableError
from parallel_hpo.upload.client import client_in
from parallel_hpo.upload.perform import Destination, Upload, Uploaded
from parallel_hpo.upload.plan import LocalSweep, SourceDatabase, read_sweep, working_place

_NAMED: Final = 10
"""So many runs are named in a line."""


@dataclass(frozen=True, slots=True)
class UploadRequest:
    """What is to be uploaded, and where to."""

    sweep: str
    source: SourceDatabase
    destination: Destination


def perform_upload(directory: Path, wish: UploadRequest, *, dry_run: bool, as_json: bool) -> ExitCode:
    """Bring what is not there yet, or only say what would go; return what the command ends with.

    Raises:
        UsageError: there is no such sweep, nobody is logged in, or it would go to where it is.
        BackendError: the other server can't be reached or refuses us, or the server's data can't be read.
    """
    sweep = _read(wish)
    with (
        _ended_by_signals(),
        working_place(directory, sweep.path.sweep_id) as folder,
        client_in(folder, os.environ) as client,
    ):
        door = _door(client.credentials, folder)
        upload = Upload(client, wish.source, sweep, wish.destination, door=door, say=print_for_people)
        done = upload.plan() if dry_run else upload.perform(folder)
    if as_json:
        print_for_machines(json.dumps(_as_dict(sweep, done, dry_run=dry_run), indent=2))
    else:
        _show(sweep, done, dry_run=dry_run)
        if done.open and _is_left(directory / sweep.path.sweep_id):
            print_for_people(
                f"nobody runs them any more: run --resume {sweep.path.sweep_id} goes on with them"
            )
    return _exit_code(done, dry_run=dry_run)


def _read(wish: UploadRequest) -> LocalSweep:
    sweep_id = sweep_id_of(wish.sweep)
    try:
        with wish.source.opened() as world:
            sweep = read_sweep(world, sweep_id)
    except UnavailableError as error:
        raise BackendError(f"the server's database can't be used now: {error}; try again later") from None
    if sweep is None:
        raise UsageError(
            f"there is no sweep {wish.sweep} in {wish.source.database}:"
            " upload brings those of the embedded server, or of the one that --database names"
        )
    return sweep


def _door(credentials: Credentials, folder: Path) -> RemoteBackend | None:
    """Return the door of the server that it goes to; None: it is none of ours."""
    if credentials.key is None or not is_ours(credentials.base_url):
        return None
    return RemoteBackend(credentials.base_url, credentials.key, folder, os.environ)


@contextmanager
def _ended_by_signals() -> Iterator[None]:
    """Let whatever asks the command to end have it clear up first."""

    def end(number: int, _frame: FrameType | None) -> NoReturn:
        raise SystemExit(ExitCode.SIGNAL_BASE + number)

    before = {number: signal.signal(number, end) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _is_left(folder: Path) -> bool:
    """Whether a sweep was performed in a folder of ours, and nobody performs it now."""
    return bool(ledgers_in(folder)) and not supervised_folders(folder)


def _show(sweep: LocalSweep, done: Uploaded, *, dry_run: bool) -> None:
    where = done.place if done.target is None else str(done.target.path)
    sent, there, total = len(done.sent), len(done.there), len(sweep.runs)
    if dry_run:
        print_for_people(f"{sweep.path} to {where}: {sent} of {total} runs would be sent, {there} are there")
    else:
        print_for_people(
            f"{sweep.path} is {where}: {sent + there} of {total} runs are there, {sent} sent now"
        )
    for run_id, why in done.failed.items():
        print_for_people(f"run {run_id} is not there: {why}")
    if done.open:
        print_for_people(f"not over, so not sent: {_named(done.open)}; upload again when they are")
    for use in done.unlinked:
        print_for_people(
            f"run {use.run_id} used {use.name}:v{use.version}, which is not there: not noted there"
        )
    if done.target is not None:
        print_for_machines(done.target.url)


def _named(runs: tuple[str, ...]) -> str:
    more = f" and {len(runs) - _NAMED} more" if len(runs) > _NAMED else ""
    return f"{', '.join(runs[:_NAMED])}{more}"


def _as_dict(sweep: LocalSweep, done: Uploaded, *, dry_run: bool) -> dict[str, Any]:
    return {
        "sweep": str(sweep.path),
        "target": None if done.target is None else str(done.target.path),
        "url": None if done.target is None else done.target.url,
        "project": done.place,
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
