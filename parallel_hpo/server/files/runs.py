"""Runs' files: addresses to send them to, what was sent, and their end."""

from __future__ import annotations

import logging
import shutil
from dataclasses import dataclass
from typing import Final

from parallel_hpo.server.files.addresses import Place, Right, address
from parallel_hpo.server.files.uploads import Stored
from parallel_hpo.server.refusals import RefusedError
from parallel_hpo.server.store import files, runs
from parallel_hpo.server.store.files import File
from parallel_hpo.server.store.records import Run
from parallel_hpo.server.store.runs import RunPath
from parallel_hpo.server.world import World

_log = logging.getLogger(__name__)
_MAX_FILES: Final = 50_000
"""So many addresses take 0.8 s, in which nobody else is answered."""


@dataclass(frozen=True, slots=True)
class RunFile:
    """A file that a client may upload, and the address to which it does."""

    name: str
    upload_url: str | None
    """None: it is refused. wandb-core then leaves this one out, where an error would cost it all of them."""


@dataclass(frozen=True, slots=True)
class RunFiles:
    """The answer to CreateRunFiles; wandb-core crashes where this is null, so errors come instead."""

    run_id: int
    upload_headers: tuple[str, ...]
    files: tuple[RunFile, ...]


def create(world: World, base_url: str, path: RunPath, names: list[str]) -> RunFiles:
    """Return an address for each name, none for one that is no plain path; RefusedError: an unknown run."""
    with world.database.read() as transaction:
        run = runs.at(transaction, path)
    if run is None:
        raise RefusedError(f"run {path.entity}/{path.project}/{path.name} doesn't exist")
    if len(names) > _MAX_FILES:
        _log.warning("run %s: %d files at once; those after %d are refused", run.name, len(names), _MAX_FILES)
    to_send = [_to_send(world, base_url, run, name) for name in names[:_MAX_FILES]]
    refused = [RunFile(name, None) for name in names[_MAX_FILES:]]
    return RunFiles(run.id, (), (*to_send, *refused))


def _to_send(world: World, base_url: str, run: Run, name: str) -> RunFile:
    try:
        return RunFile(name, address(world, base_url, Right.SEND, Place(str(run.id), name)))
    except RefusedError as error:
        _log.warning("run %s: %s", run.name, error)
        return RunFile(name, None)


def note(world: World, place: Place, stored: Stored) -> None:
    """Note a run's file that was sent; where the run was deleted meanwhile, delete the file."""
    run_id = int(place.folder)
    with world.database.write() as transaction:
        if runs.find(transaction, run_id) is not None:
            files.put(transaction, File(run_id, place.name, stored.size, stored.md5, world.clock()))
            return
    discard(world, run_id)


def delete(world: World, wanted: list[Place]) -> None:
    """Delete runs' files; one that is not there is no error."""
    known = []
    with world.database.write() as transaction:
        for place in wanted:
            if runs.find(transaction, int(place.folder)) is None:
                continue
            if files.of_run(transaction, int(place.folder), [place.name]):
                files.remove(transaction, int(place.folder), [place.name])
                known.append(place)
    for place in known:
        place.within(world.files).unlink(missing_ok=True)


def discard(world: World, run_id: int) -> None:
    """Delete all of a run's files from the disk."""
    shutil.rmtree(world.files / str(run_id), ignore_errors=True)
