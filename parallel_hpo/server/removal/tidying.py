"""Takes back what was begun and never finished, and what belongs to nothing any more; runs now and then.

    artifacts never committed ─▶ their manifests, and files that no artifact has
    uploads whose server died · folders of runs that are gone

Each step may be cut short, and is done again by the next one.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from parallel_hpo.server.artifacts import blobs, contents
from parallel_hpo.server.artifacts.blobs import Taken
from parallel_hpo.server.files import runs as run_files
from parallel_hpo.server.files import uploads
from parallel_hpo.server.files.addresses import BLOBS, MANIFESTS
from parallel_hpo.server.store import artifacts, leftovers
from parallel_hpo.server.world import World

ABANDONED_S: Final = 7 * 86400
"""An artifact whose client was silent for so long is not committed any more; the longest file takes 14 h
at 1 MB/s, and the client sends several at once."""
ABANDONED_BY_A_RUN_S: Final = 86400
"""The same where its run is over: such a client is dead, or was away until its run counted as crashed."""
_AT_ONCE: Final = 200
_MD5: Final = re.compile(r"[0-9a-f]{32}")
_MANIFEST: Final = re.compile(r"([0-9]{1,9})\.json")
_RUN: Final = re.compile(r"([0-9]{1,9})")


def tidy(world: World, go_on: Callable[[], bool] = lambda: True) -> Taken:
    """Take back what nobody will ask for, for as long as it may go on, and return how much it was."""
    _drop_abandoned(world)
    taken = Taken()
    for names in _batches(world.files / BLOBS, _MD5, go_on):
        unused = blobs.unused(world, names)
        taken += blobs.take_back(world, unused)
    for names in _batches(world.files / MANIFESTS, _MANIFEST, go_on):
        taken += _remove_manifests(world, names)
    for names in _batches(world.files, _RUN, go_on):
        _remove_folders(world, names)
    uploads.clear_unfinished(world.files)
    return taken


def _drop_abandoned(world: World) -> None:
    since = (world.clock() - ABANDONED_S, world.clock() - ABANDONED_BY_A_RUN_S)
    with world.database.read() as transaction:
        found = leftovers.abandoned(transaction, *since)
    if not found:
        return
    with world.database.write() as transaction:
        for artifact_id in leftovers.abandoned(transaction, *since):
            artifacts.remove(transaction, artifact_id)


def _remove_manifests(world: World, names: list[str]) -> Taken:
    """Remove manifests of artifacts that are gone."""
    ids = {int(name.removesuffix(".json")) for name in names}
    with world.database.read() as transaction:
        gone = ids - leftovers.kept_artifacts(transaction, ids)
    taken = Taken()
    if not gone:
        return taken
    with world.database.write() as transaction:  # no artifact begins meanwhile
        for key in gone - leftovers.kept_artifacts(transaction, gone):
            path = contents.manifest_of(key).within(world.files)
            if path.exists():
                taken += Taken(1, path.stat().st_size)
                path.unlink()
    return taken


def _remove_folders(world: World, names: list[str]) -> None:
    """Remove runs' folders whose server died after it had forgotten the run."""
    ids = {int(name) for name in names}
    with world.database.read() as transaction:
        gone = ids - leftovers.kept_runs(transaction, ids)
    if not gone:
        return
    with world.database.write() as transaction:  # no run begins meanwhile, and none has files before
        for key in gone - leftovers.kept_runs(transaction, gone):
            run_files.discard(world, key)


def _batches(folder: Path, pattern: re.Pattern[str], go_on: Callable[[], bool]) -> Iterator[list[str]]:
    """Yield the names in a folder that are of this form, some at a time."""
    names = [path.name for path in folder.glob("*") if pattern.fullmatch(path.name)]
    for begin in range(0, len(names), _AT_ONCE):
        if go_on():
            yield names[begin : begin + _AT_ONCE]
