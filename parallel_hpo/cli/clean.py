"""`parallel-hpo clean`: lists which sweeps and projects would be removed, and removes them with `--yes`."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from parallel_hpo.cli.options import Directory, Json, directory_of, sweep_ids
from parallel_hpo.cli.output import print_for_machines, print_for_people, warn
from parallel_hpo.core.errors import UsageError
from parallel_hpo.core.types import sweep_id_of
from parallel_hpo.core.values import UNITS_S, duration_s

if TYPE_CHECKING:
    from parallel_hpo.records.folders import CleanCandidate
    from parallel_hpo.server.context import AppContext
    from parallel_hpo.server.store.holdings import ProjectRest, StorageUsage, StoredSweep


def clean(
    sweeps: Annotated[
        list[str] | None,
        typer.Argument(
            help="The sweeps' ids (default: all that have ended).",
            metavar="SWEEP",
            autocompletion=sweep_ids,
        ),
    ] = None,
    project: Annotated[
        str | None,
        typer.Option(help="Everything of this project: sweeps, runs, artifacts.", metavar="[ENTITY/]NAME"),
    ] = None,
    older_than: Annotated[
        str | None,
        typer.Option(help="Only sweeps without activity for this long (default: any age).", metavar="30d"),
    ] = None,
    database: Annotated[
        str | None,
        typer.Option(help="Sweeps in this database, without folders here (default: those of --directory)."),
    ] = None,
    files: Annotated[
        str | None,
        typer.Option(help="Folder of that server's files (default: found by itself).", metavar="FOLDER"),
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="All ended sweeps, of any age.")] = False,
    yes: Annotated[
        bool,
        typer.Option(
            "--yes",
            help="Remove them (default: only list them). Needs names, --project, --older-than or --all.",
        ),
    ] = False,
    directory: Directory = None,
    as_json: Json = False,
) -> None:
    """Remove old sweeps, or list them.

    Removes their folders and their data on the embedded server. W&B's server keeps its data.

    Also shrinks the embedded server's database, and removes files of unfinished uploads and unused artifacts.
    """
    selection = CleanSelection(
        sweeps=sweeps or (),
        project=None if project is None else ProjectPath.parse(project),
        database=database,
        files=files,
        older_than=older_than,
        everything=everything,
    )
    perform_clean(directory_of(directory), selection, yes=yes, as_json=as_json)


@dataclass(frozen=True, slots=True)
class ProjectPath:
    """A project of an entity."""

    entity: str
    name: str

    @classmethod
    def parse(cls, text: str) -> ProjectPath:
        """Read [ENTITY/]NAME."""
        from parallel_hpo.server.context import DEFAULT_ENTITY

        entity, _, name = text.rpartition("/")
        return cls(entity or DEFAULT_ENTITY, name)

    def __str__(self) -> str:
        return f"{self.entity}/{self.name}"


@dataclass(frozen=True, slots=True)
class CleanSelection:
    """Which sweeps to check: all, those named, or all of a project."""

    sweeps: Sequence[str] = ()
    project: ProjectPath | None = None
    database: str | None = None
    """Database of another server than the embedded one."""
    files: str | None = None
    """That server's folder of files, if it isn't found by itself."""
    older_than: str | None = None
    everything: bool = False
    """All ended sweeps, of any age."""


@dataclass(frozen=True, slots=True)
class CleanDecision:
    """Decision on a sweep, or on the rest of a project."""

    candidate: CleanCandidate
    keep: str
    """Reason to keep it, or ''."""
    stored: StorageUsage
    """Its data on the server."""
    project: ProjectPath | None = None

    @property
    def size_mb(self) -> float:
        """Total size in MB."""
        from parallel_hpo.records.folders import MB

        return self.candidate.size_mb + self.stored.size / MB

    @property
    def words(self) -> str:
        """The line that lists it."""
        candidate = self.candidate
        name = candidate.sweep_id if self.project is None else f"project {self.project}"
        what = f"stays: {self.keep}" if self.keep else "; ".join(["goes", *candidate.losses])
        return f"{name}  {self.size_mb:.1f} MB  {_in_words(candidate.age_s)} old  {what}"


def perform_clean(directory: Path, selection: CleanSelection, *, yes: bool, as_json: bool) -> None:
    """Remove old sweeps, their folders and their data on the server, or only list them.

    Without names it removes sweeps that have ended and are complete on their servers; named ones it removes
    regardless of what is lost.

    Raises:
        UsageError: unknown sweep or project, or invalid age; or `yes` without a selection.
        LedgerError: a supervisor has meanwhile started on one of them.
        BackendError: the server's database is busy, or its disk is full, or its files are elsewhere.
    """
    _check_selection(selection, yes=yes)
    least_s = 0.0 if selection.older_than is None else _parse_age(selection.older_than)
    with _open_context(directory, selection) as context:
        inventory = Inventory(None if selection.database else directory, context, time.time())
        decisions = list(_decide(inventory, selection, least_s))
        if yes:
            _remove([decision for decision in decisions if not decision.keep], context)
        if not (yes or as_json):
            _hint(inventory, decisions)
    if as_json:
        print_for_machines(json.dumps([_as_dict(decision, removed=yes) for decision in decisions], indent=2))
    else:
        _show(decisions, yes=yes)


def _check_selection(selection: CleanSelection, *, yes: bool) -> None:
    """Raise UsageError for contradictory options, or `yes` without names or a criterion."""
    is_named = bool(selection.sweeps) or selection.project is not None
    if selection.project is not None and selection.sweeps:
        raise UsageError("sweeps and --project: choose one")
    if selection.everything and (is_named or selection.older_than is not None):
        raise UsageError("--all means all ended sweeps: leave out the names, --project and --older-than")
    if yes and not (is_named or selection.everything or selection.older_than is not None):
        raise UsageError(
            "--yes alone would remove every ended sweep, even one that ended a minute ago."
            " Name the sweeps (or their --project), give an age as --older-than 30d, or give --all"
        )


def _open_context(directory: Path, selection: CleanSelection) -> AbstractContextManager[AppContext | None]:
    from parallel_hpo.server import local

    if selection.database is None:
        return local.opened(directory)
    return local.opened_at(selection.database, selection.files)


def _decide(inventory: Inventory, selection: CleanSelection, least_s: float) -> Iterator[CleanDecision]:
    """Yield a decision on each selected sweep, then on the rest of its project."""
    project = selection.project
    rest = None if project is None else inventory.rest(project)
    names = selection.sweeps if project is None else inventory.of_project(project)
    is_named = bool(names) or rest is not None
    stays = ""
    for candidate in inventory.named(names) if is_named else inventory.sweeps():
        keep = next(_reasons_to_keep(candidate, least_s, named=is_named), "")
        stays = stays or (keep and f"sweep {candidate.sweep_id} of it stays")
        yield CleanDecision(candidate, keep, stored_by_server(inventory.context, candidate.sweep_id))
    if rest is not None:
        candidate = inventory.rest_candidate(rest)
        keep = next(_reasons_to_keep(candidate, least_s, named=True), stays)
        yield CleanDecision(candidate, keep, rest.held, project)


def _hint(inventory: Inventory, decisions: Sequence[CleanDecision]) -> None:
    """Mention the sweeps that must be named to be removed."""
    from parallel_hpo.server import local

    others = inventory.only_on_server([decision.candidate for decision in decisions])
    if others and inventory.directory is not None:
        database = inventory.directory / local.DATABASE
        print_for_people(f"sweeps without a folder here: {others}; clean --database {database} lists them")


def stored_by_server(context: AppContext | None, sweep_id: str) -> StorageUsage:
    """Return the usage of a sweep on the embedded server; nothing without a server."""
    from parallel_hpo.server import removal
    from parallel_hpo.server.store.holdings import StorageUsage

    return StorageUsage() if context is None else removal.measure_sweep(context, sweep_id)


def _remove(decisions: Sequence[CleanDecision], context: AppContext | None) -> None:
    from parallel_hpo.records.folders import remove
    from parallel_hpo.server import removal

    for decision in decisions:
        candidate, project = decision.candidate, decision.project
        if context is None:
            remove(candidate)
        elif project is not None:
            removal.remove_project(context, project.entity, project.name)
        else:
            remove(candidate, partial(removal.remove_sweep, context, candidate.sweep_id))
    if context is not None:
        _shrink(context)


def _shrink(context: AppContext) -> None:
    """Remove files that nothing uses, and make the database smaller."""
    from parallel_hpo.records.folders import MB
    from parallel_hpo.server.artifacts.contents import CleanupStats
    from parallel_hpo.server.removal import tidy
    from parallel_hpo.server.store.database import UnavailableError

    removed = tidy(context)
    if removed != CleanupStats():
        print_for_people(
            f"removed {removed.files} files of unfinished uploads and artifacts, {removed.size / MB:.1f} MB"
        )
    try:
        context.database.vacuum()
    except UnavailableError as error:
        print_for_people(f"the server's database keeps its size for now ({error}): clean again later")


def _reasons_to_keep(candidate: CleanCandidate, least_s: float, *, named: bool) -> Iterator[str]:
    if candidate.running:
        yield "it is running"
    if candidate.age_s < least_s:
        yield "it is not that old"
    if candidate.losses and not named:
        yield f"{'; '.join(candidate.losses)} (name it to remove it anyway)"


def _show(decisions: Sequence[CleanDecision], *, yes: bool) -> None:
    for decision in decisions:
        print_for_machines(decision.words)
    going = [decision for decision in decisions if not decision.keep]
    kinds = "sweeps and projects" if any(decision.project for decision in decisions) else "sweeps"
    total = f"{len(going)} of {len(decisions)} {kinds}, {sum(each.size_mb for each in going):.1f} MB"
    print_for_people(f"removed: {total}" if yes else f"{total} would be removed; remove them by --yes")


def _as_dict(decision: CleanDecision, *, removed: bool) -> dict[str, object]:
    candidate = decision.candidate
    return {
        "sweep": candidate.sweep_id or None,
        "project": None if decision.project is None else str(decision.project),
        "folder": None if candidate.folder is None else str(candidate.folder),
        "age_s": round(candidate.age_s),
        "size_mb": round(decision.size_mb, 3),
        "rows": decision.stored.rows,
        "bytes": decision.stored.size,
        "keep": decision.keep,
        "lost": list(candidate.losses),
        "removed": removed and not decision.keep,
    }


def _parse_age(text: str) -> float:
    age_s = duration_s(text)
    if age_s is None:
        raise UsageError(f"--older-than {text}: allowed: a duration in w, d, h, m and s, such as 30d")
    return age_s


def _in_words(age_s: float) -> str:
    unit = next((name for name in ("d", "h") if age_s >= UNITS_S[name]), "m")
    return f"{age_s / UNITS_S[unit]:.0f} {unit}"


@dataclass(frozen=True, slots=True)
class Inventory:
    """The sweeps in folders, in a server's database, or in both."""

    directory: Path | None
    """None: only the database."""
    context: AppContext | None
    now: float

    def sweeps(self) -> Iterator[CleanCandidate]:
        """Yield the sweeps that can go without being named: those with a folder, or else the database's."""
        from parallel_hpo.records.folders import clean_candidate, known_sweeps

        if self.directory is not None:
            for known in known_sweeps(self.directory, unreadable=warn):
                yield clean_candidate(known, now=self.now)
        else:
            yield from map(self._stored_candidate, self._stored())

    def named(self, names: Sequence[str]) -> Iterator[CleanCandidate]:
        """Yield the sweeps of these ids or paths; UsageError for an unknown one."""
        from parallel_hpo.records.folders import clean_candidate, find_sweep

        stored = {each.id: each for each in self._stored()}
        for name in names:
            sweep_id = sweep_id_of(name)
            has_folder = self.directory is not None and (self.directory / sweep_id).is_dir()
            if sweep_id in stored and not has_folder:
                yield self._stored_candidate(stored[sweep_id])
            elif self.directory is None:
                raise UsageError(f"there is no sweep {name}; there: {', '.join(stored) or 'none'}")
            else:
                yield clean_candidate(find_sweep(self.directory, name), now=self.now)

    def of_project(self, project: ProjectPath) -> list[str]:
        """Return the ids of a project's sweeps."""
        return [
            each.id
            for each in self._stored()
            if (each.entity, each.project) == (project.entity, project.name)
        ]

    def rest(self, project: ProjectPath) -> ProjectRest:
        """Return a project's data besides its sweeps; UsageError for an unknown project."""
        from parallel_hpo.server import removal

        found = (
            None
            if self.context is None
            else removal.besides_sweeps(self.context, project.entity, project.name)
        )
        if found is None:
            raise UsageError(f"there is no project {project}")
        return found

    def rest_candidate(self, rest: ProjectRest) -> CleanCandidate:
        """Return a project's data besides its sweeps as a candidate."""
        from parallel_hpo.records.folders import CleanCandidate

        return CleanCandidate(
            sweep_id="",
            folder=None,
            age_s=max(0.0, self.now - rest.heard_at),
            size_mb=0.0,
            running=rest.is_on and not self._is_silent(rest.heard_at),
            losses=(f"with {rest.runs} runs of no sweep",) if rest.runs else (),
        )

    def only_on_server(self, shown: Sequence[CleanCandidate]) -> int:
        """Return the number of sweeps in the database that are not among these."""
        return len({each.id for each in self._stored()} - {each.sweep_id for each in shown})

    def _is_silent(self, last_seen: float) -> bool:
        """Return whether the last message is so old that no client is active."""
        return self.context is None or self.now - last_seen > self.context.timeouts.silent_s

    def _stored(self) -> list[StoredSweep]:
        from parallel_hpo.server import removal

        return [] if self.context is None else removal.list_sweeps(self.context)

    def _stored_candidate(self, stored: StoredSweep) -> CleanCandidate:
        from parallel_hpo.client.calls import OVER
        from parallel_hpo.records.folders import CAN_BE_RESUMED, CleanCandidate

        is_over = stored.state in OVER
        return CleanCandidate(
            sweep_id=stored.id,
            folder=None,
            age_s=max(0.0, self.now - stored.heard_at),
            size_mb=0.0,
            running=not is_over and not self._is_silent(stored.heard_at),
            losses=() if is_over else (CAN_BE_RESUMED,),
        )
