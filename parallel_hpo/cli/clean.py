"""`parallel-hpo clean`: says which sweeps and projects would go, and removes them where it is told to."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from parallel_hpo.cli.kept import Inventory, ProjectPath
from parallel_hpo.cli.output import print_for_machines, print_for_people
from parallel_hpo.core.errors import BackendError, UsageError
from parallel_hpo.core.values import UNITS_S, duration_s
from parallel_hpo.records.folders import MB, CleanCandidate, remove
from parallel_hpo.server import local, removal
from parallel_hpo.server.artifacts.contents import CleanupStats
from parallel_hpo.server.context import AppContext
from parallel_hpo.server.removal import tidy
from parallel_hpo.server.store.database import UnavailableError
from parallel_hpo.server.store.holdings import StorageUsage


@dataclass(frozen=True, slots=True)
class CleanSelection:
    """What is to be looked at: all sweeps that there are, or those that are named, or all of a project."""

    sweeps: Sequence[str] = ()
    project: ProjectPath | None = None
    database: str | None = None
    """Of another server than the embedded one; its folder of files where that is not found by itself."""
    files: str | None = None
    older_than: str | None = None
    everything: bool = False
    """All that are over, however young."""


@dataclass(frozen=True, slots=True)
class CleanDecision:
    """What is done with a sweep, or with what its project has besides; `keep`: why it stays, or ''."""

    leftover: CleanCandidate
    keep: str
    held: StorageUsage
    """What its server has of it."""
    project: ProjectPath | None = None

    @property
    def size_mb(self) -> float:
        """What it takes up in all."""
        return self.leftover.size_mb + self.held.size / MB

    @property
    def words(self) -> str:
        """A line on it."""
        each = self.leftover
        name = each.sweep_id if self.project is None else f"project {self.project}"
        what = f"stays: {self.keep}" if self.keep else "; ".join(["goes", *each.regrets])
        return f"{name}  {self.size_mb:.1f} MB  {_in_words(each.age_s)} old  {what}"


def perform_clean(directory: Path, wanted: CleanSelection, *, yes: bool, as_json: bool) -> None:
    """Remove old sweeps, their folders and what their server has of them, or only say which.

    All that are over and whose servers have all of them, or those that are named, whatever is lost then.

    Raises:
        UsageError: an unknown sweep or project, or an age that is none; `yes`, and nothing says which.
        LedgerError: a supervisor has begun to work in one meanwhile.
        BackendError: the server's database is busy, or has no room, or its files are elsewhere.
    """
    _expect_choice(wanted, yes=yes)
    least_s = 0.0 if wanted.older_than is None else _parse_age(wanted.older_than)
    try:
        with _opened(directory, wanted) as world:
            shelf = Inventory(None if wanted.database else directory, world, time.time())
            verdicts = list(_judged(shelf, wanted, least_s))
            if yes:
                _remove([verdict for verdict in verdicts if not verdict.keep], world)
            if not (yes or as_json):
                _hint(shelf, verdicts)
    except UnavailableError as error:
        raise BackendError(f"the server's database can't be used now: {error}; try again later") from None
    if as_json:
        print_for_machines(json.dumps([_as_dict(verdict, removed=yes) for verdict in verdicts], indent=2))
    else:
        _show(verdicts, yes=yes)


def _expect_choice(wanted: CleanSelection, *, yes: bool) -> None:
    """Raise UsageError where sweeps would go that nobody has named or described."""
    is_named = bool(wanted.sweeps) or wanted.project is not None
    if wanted.everything and (is_named or wanted.older_than is not None):
        raise UsageError("--all takes all that are over: leave out the names, --project and --older-than")
    if yes and not (is_named or wanted.everything or wanted.older_than is not None):
        raise UsageError(
            "--yes alone would remove every sweep that is over, minutes old ones, too."
            " Name the sweeps (or their --project), give an age as --older-than 30d, or give --all"
        )


def _opened(directory: Path, wanted: CleanSelection) -> AbstractContextManager[AppContext | None]:
    if wanted.database is None:
        return local.opened(directory)
    return local.opened_at(wanted.database, wanted.files)


def _judged(shelf: Inventory, wanted: CleanSelection, least_s: float) -> Iterator[CleanDecision]:
    """Yield a verdict on each sweep that is looked at, and at last on its project."""
    if wanted.project is not None and wanted.sweeps:
        raise UsageError("either sweeps or a --project")
    rest = None if wanted.project is None else shelf.rest(wanted.project)
    names = wanted.sweeps if wanted.project is None else shelf.of_project(wanted.project)
    is_named = bool(names) or rest is not None
    stays = ""
    for leftover in shelf.named(names) if is_named else shelf.sweeps():
        keep = next(_reasons_to_keep(leftover, least_s, named=is_named), "")
        stays = stays or (keep and f"sweep {leftover.sweep_id} of it stays")
        yield CleanDecision(leftover, keep, held_by(shelf.world, leftover.sweep_id))
    if rest is not None:
        besides = shelf.besides(rest)
        keep = next(_reasons_to_keep(besides, least_s, named=True), stays)
        yield CleanDecision(besides, keep, rest.held, wanted.project)


def _hint(shelf: Inventory, verdicts: Sequence[CleanDecision]) -> None:
    """Tell of sweeps that are not looked at unless they are named."""
    others = shelf.only_on_server([verdict.leftover for verdict in verdicts])
    if others and shelf.directory is not None:
        database = shelf.directory / local.DATABASE
        print_for_people(f"without a folder here: {others}; clean --database {database} looks at them")


def held_by(world: AppContext | None, sweep_id: str) -> StorageUsage:
    """Return what the embedded server has of a sweep; nothing where there is none."""
    return StorageUsage() if world is None else removal.measure_sweep(world, sweep_id)


def _remove(going: Sequence[CleanDecision], world: AppContext | None) -> None:
    for verdict in going:
        if world is None:
            remove(verdict.leftover)
        elif verdict.project is not None:
            removal.remove_project(world, verdict.project.entity, verdict.project.name)
        else:
            remove(verdict.leftover, partial(removal.remove_sweep, world, verdict.leftover.sweep_id))
    if world is not None:
        _give_room_back(world)


def _give_room_back(world: AppContext) -> None:
    taken = tidy(world)
    if taken != CleanupStats():
        print_for_people(
            f"taken back: {taken.files} files of unfinished uploads and artifacts, {taken.size / MB:.1f} MB"
        )
    try:
        world.database.give_room_back()
    except UnavailableError as error:
        print_for_people(f"the server's database keeps its size for now ({error}): clean again later")


def _reasons_to_keep(leftover: CleanCandidate, least_s: float, *, named: bool) -> Iterator[str]:
    if leftover.running:
        yield "it is running"
    if leftover.age_s < least_s:
        yield "it is not that old"
    if leftover.regrets and not named:
        yield f"{'; '.join(leftover.regrets)} (name it to remove it all the same)"


def _show(verdicts: Sequence[CleanDecision], *, yes: bool) -> None:
    for verdict in verdicts:
        print_for_machines(verdict.words)
    going = [verdict for verdict in verdicts if not verdict.keep]
    kinds = "sweeps and projects" if any(verdict.project for verdict in verdicts) else "sweeps"
    total = f"{len(going)} of {len(verdicts)} {kinds}, {sum(each.size_mb for each in going):.1f} MB"
    print_for_people(f"removed: {total}" if yes else f"{total} to be removed; nothing is, without --yes")


def _as_dict(verdict: CleanDecision, *, removed: bool) -> dict[str, object]:
    each = verdict.leftover
    return {
        "sweep": each.sweep_id or None,
        "project": None if verdict.project is None else str(verdict.project),
        "folder": None if each.folder is None else str(each.folder),
        "age_s": round(each.age_s),
        "size_mb": round(verdict.size_mb, 3),
        "rows": verdict.held.rows,
        "bytes": verdict.held.size,
        "keep": verdict.keep,
        "lost": list(each.regrets),
        "removed": removed and not verdict.keep,
    }


def _parse_age(text: str) -> float:
    age_s = duration_s(text)
    if age_s is None:
        raise UsageError(f"--older-than {text}: allowed: a duration in w, d, h, m and s, such as 30d")
    return age_s


def _in_words(age_s: float) -> str:
    unit = next((name for name in ("d", "h") if age_s >= UNITS_S[name]), "m")
    return f"{age_s / UNITS_S[unit]:.0f} {unit}"
