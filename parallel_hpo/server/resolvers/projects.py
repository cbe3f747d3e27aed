"""Projects, and the runs and sweeps in them."""

from __future__ import annotations

from typing import Any, Final

from parallel_hpo.server import filters as run_filters
from parallel_hpo.server import project_service
from parallel_hpo.server.resolvers.context import (
    Info,
    Page,
    Resolver,
    constant,
    context,
    page,
    reading,
    renamed,
    timed,
)
from parallel_hpo.server.resolvers.viewer import entity, user
from parallel_hpo.server.store import projects, runs, sweeps
from parallel_hpo.server.store.artifact_records import Collection
from parallel_hpo.server.store.records import Project, Run, Sweep
from parallel_hpo.server.world import DEFAULT_ENTITY, DEFAULT_PROJECT


def _project(
    _source: Any, info: Info, name: str | None = None, entityName: str | None = None
) -> Project | None:
    return projects.find(reading(info), entityName or DEFAULT_ENTITY, name or DEFAULT_PROJECT)


def _create(_source: Any, info: Info, input: dict[str, Any]) -> dict[str, Any]:
    entity_name = input.get("entityName") or DEFAULT_ENTITY
    project = project_service.create(context(info).world, entity_name, input.get("name") or "")
    return {"project": project, "model": project, "inserted": True}


def _models(
    _source: Any,
    info: Info,
    entityName: str | None = None,
    after: str | None = None,
    first: int | None = None,
) -> Page[Project]:
    return page(projects.of_entity(reading(info), entityName or DEFAULT_ENTITY), after, first)


def _run(
    project: Project,
    info: Info,
    name: str | None = None,
    missingOk: bool | None = None,
    desc: str | None = None,
) -> Run | None:
    return None if name is None else runs.in_project(reading(info), project.id, name)


def _matching(project: Project, info: Info, filters: str | None) -> list[Run]:
    """Return the runs that pass the filters; those of one sweep are found by its index."""
    wanted = run_filters.read_filters(filters)
    sweep_id = _sweep_named_by(wanted)
    transaction = reading(info)
    found = (
        runs.of_project(transaction, project.id) if sweep_id is None else runs.of_sweep(transaction, sweep_id)
    )
    deadline = context(info).deadline

    def passes(run: Run) -> bool:
        deadline.check()
        return run.project_id == project.id and run_filters.matches(run, wanted)

    return [run for run in found if passes(run)]


def _sweep_named_by(wanted: dict[str, Any]) -> str | None:
    """Return the sweep that every matching run must belong to, where the filters name one."""
    both = wanted.get("$and")
    clauses = [wanted, *(both if isinstance(both, list) else [])]
    named = [clause.get("sweep") for clause in clauses if isinstance(clause, dict)]
    return next((name for name in named if isinstance(name, str)), None)


def _runs(
    project: Project,
    info: Info,
    filters: str | None = None,
    after: str | None = None,
    first: int | None = None,
    order: str | None = None,
) -> Page[Run]:
    return page(run_filters.sorted_runs(_matching(project, info, filters), order), after, first)


def _run_count(project: Project, info: Info, filters: str | None = None) -> int:
    if not run_filters.read_filters(filters):
        return projects.run_count(reading(info), project.id)
    return len(_matching(project, info, filters))


def _sweep(project: Project, info: Info, sweepName: str | None = None) -> Sweep | None:
    sweep = None if sweepName is None else sweeps.find(reading(info), sweepName)
    return sweep if sweep is not None and sweep.project_id == project.id else None


def _sweeps(
    project: Project, info: Info, after: str | None = None, first: int | None = None, filters: Any = None
) -> Page[Sweep]:
    return page(sweeps.of_project(reading(info), project.id), after, first)


def _total_sweeps(project: Project, info: Info) -> int:
    return len(sweeps.of_project(reading(info), project.id))


def project_of(source: Sweep | Run | Collection, _info: Info) -> Project:
    """Return the project that something is in, as the record of it tells."""
    return Project(source.project_id, source.entity, source.project, source.created_at)


QUERY: Final[dict[str, Resolver]] = {"project": _project, "model": _project, "models": _models}
MUTATION: Final[dict[str, Resolver]] = {"upsertModel": _create}
PROJECT: Final[dict[str, Resolver]] = {
    "internalId": renamed("id"),
    "entityName": renamed("entity"),
    "entity": lambda project, _info: entity(project.entity),
    "createdAt": timed("created_at"),
    "description": constant(None),
    "access": constant("PRIVATE"),
    "views": constant(None),
    "isBenchmark": constant(False),
    "readOnly": constant(False),
    "user": lambda _project, _info: user(),
    "run": _run,
    "bucket": _run,
    "runs": _runs,
    "runCount": _run_count,
    "sweep": _sweep,
    "sweeps": _sweeps,
    "totalSweeps": _total_sweeps,
}
