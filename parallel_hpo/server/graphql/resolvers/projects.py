"""Projects, and the runs and sweeps in them."""

from __future__ import annotations

from typing import Any, Final

from parallel_hpo.server.graphql.resolvers import run_pages
from parallel_hpo.server.graphql.resolvers.context import (
    Info,
    Page,
    Resolver,
    Span,
    constant,
    context,
    reading,
    renamed,
    timed,
)
from parallel_hpo.server.graphql.resolvers.viewer import entity, user
from parallel_hpo.server.services import projects as project_service
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
    span = Span.of(after, first)
    entity_name = entityName or DEFAULT_ENTITY
    return span.page(projects.of_entity(reading(info), entity_name, span.begin, span.number + 1))


def _run(
    project: Project,
    info: Info,
    name: str | None = None,
    missingOk: bool | None = None,
    desc: str | None = None,
) -> Run | None:
    return None if name is None else runs.in_project(reading(info), project.id, name)


def _sweep(project: Project, info: Info, sweepName: str | None = None) -> Sweep | None:
    sweep = None if sweepName is None else sweeps.find(reading(info), sweepName)
    return sweep if sweep is not None and sweep.project_id == project.id else None


def _sweeps(
    project: Project, info: Info, after: str | None = None, first: int | None = None, filters: Any = None
) -> Page[Sweep]:
    span = Span.of(after, first)
    return span.page(sweeps.of_project(reading(info), project.id, span.begin, span.number + 1))


def _total_sweeps(project: Project, info: Info) -> int:
    return sweeps.count_in_project(reading(info), project.id)


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
    "runs": run_pages.runs_of_project,
    "runCount": run_pages.count_in_project,
    "sweep": _sweep,
    "sweeps": _sweeps,
    "totalSweeps": _total_sweeps,
}
