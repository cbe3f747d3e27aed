"""Projects, and the runs and sweeps in them: runs by filters and in an order, page by page."""

from __future__ import annotations

from typing import Any, Final

from parallel_hpo.server.context import DEFAULT_ENTITY, DEFAULT_PROJECT
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
from parallel_hpo.server.services import sweeps as project_service
from parallel_hpo.server.store import listing, projects, runs, sweeps
from parallel_hpo.server.store.artifacts import Collection
from parallel_hpo.server.store.filters import read_filters, read_order
from parallel_hpo.server.store.listing import CachedListing, ListingScope, RunQuery
from parallel_hpo.server.store.records import Project, Run, Sweep


def runs_of_project(
    project: Project,
    info: Info,
    filters: str | None = None,
    after: str | None = None,
    first: int | None = None,
    order: str | None = None,
) -> Page[Run]:
    """Return a page; the cursors of one that SQL alone can't find lead on within a kept walk."""
    span, transaction = Span.of(after, first), reading(info)
    question = RunQuery(project.id, read_filters(filters))
    ids = listing.part(transaction, question, read_order(order), span.begin, span.number + 1)
    name = None
    if ids is None:
        walk = _walk(info, _matter(project, info, filters), span, question, order)
        ids, name = list(walk.ids[span.begin : span.begin + span.number + 1]), walk.name
    return span.page(runs.with_ids(transaction, ids), name)


def count_in_project(project: Project, info: Info, filters: str | None = None) -> int:
    """Count a project's runs; beside a further page of a walk (wandb client: always): those of the walk."""
    transaction, question = reading(info), RunQuery(project.id, read_filters(filters))
    found = listing.total(transaction, question)
    if found is not None:
        return found
    walk = _walk_asked_for(info, _matter(project, info, filters))
    if walk is not None:
        return len(walk.ids)
    return len(listing.judged(transaction, question, (), context(info).deadline.check))


def _walk(
    info: Info, matter: ListingScope, span: Span, question: RunQuery, order: str | None
) -> CachedListing:
    """Return the walk that a cursor leads to, or a new one."""
    walks = context(info).world.walks
    kept = None if span.walk is None else walks.find(span.walk, matter)
    if kept is not None and kept.order == order:
        return kept
    check = context(info).deadline.check
    return walks.keep(matter, order, listing.judged(reading(info), question, read_order(order), check))


def _walk_asked_for(info: Info, matter: ListingScope) -> CachedListing | None:
    """Return the walk over this matter to which a variable of the request leads as a cursor."""
    texts = [value for value in context(info).variables.values() if isinstance(value, str)]
    found = (context(info).world.walks.find(text.partition(".")[2], matter) for text in texts)
    return next((walk for walk in found if walk is not None), None)


def _matter(project: Project, info: Info, filters: str | None) -> ListingScope:
    return ListingScope(project.id, context(info).caller.sweep, filters)


def _project(
    _source: Any, info: Info, name: str | None = None, entityName: str | None = None
) -> Project | None:
    return projects.find(reading(info), entityName or DEFAULT_ENTITY, name or DEFAULT_PROJECT)


def _create(_source: Any, info: Info, input: dict[str, Any]) -> dict[str, Any]:
    entity_name = input.get("entityName") or DEFAULT_ENTITY
    project = project_service.create_project(context(info).world, entity_name, input.get("name") or "")
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
    "runs": runs_of_project,
    "runCount": count_in_project,
    "sweep": _sweep,
    "sweeps": _sweeps,
    "totalSweeps": _total_sweeps,
}
