"""Projects with their runs and sweeps, page by page; the viewer, entities, and the server's features.

This server has one user and accepts any entity name: each entity is a team whose one member is the user.
"""

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
    only,
    reading,
    renamed,
    timed,
)
from parallel_hpo.server.services import sweeps as project_service
from parallel_hpo.server.store import listing, projects, runs, sweeps
from parallel_hpo.server.store.artifacts import Collection
from parallel_hpo.server.store.filters import read_filters, read_order
from parallel_hpo.server.store.listing import CachedListing, ListingScope, RunQuery
from parallel_hpo.server.store.records import Project, Run, Sweep

_FEATURES: Final = (
    # Without it wandb's client has no `sweep.enqueue_run` and no `wandb sweep-scheduler`.
    "SWEEPS_LOCAL_SCHEDULER",
    "UPDATE_RUN_STATE",
    "FILESTREAM_GZIP",
    "TOTAL_COUNT_IN_FILE_CONNECTION",
)
"""Features that wandb's client uses only if the server announces them."""
_KEYS: Final = {"edges": [{"node": {"id": "key:local", "name": DEFAULT_ENTITY, "description": None}}]}
"""The names of the user's keys: one, without its secret."""


def entity(name: str) -> dict[str, Any]:
    """Return an entity as a team with one member."""
    return _TEAM | {"id": f"entity:{name}", "name": name}


_MEMBER: Final = {
    "id": "user:local",
    "admin": False,
    "pending": False,
    "email": "local@localhost",
    "username": DEFAULT_ENTITY,
    "name": DEFAULT_ENTITY,
    "photoUrl": None,
    "accountType": "USER",
    "apiKey": None,
}
_TEAM: Final = {
    "organization": None,
    "available": False,
    "photoUrl": None,
    "readOnly": False,
    "readOnlyAdmin": False,
    "isTeam": True,
    "entityType": "team",
    "privateOnly": False,
    "storageBytes": 0,
    "codeSavingEnabled": True,
    "defaultAccess": "PRIVATE",
    "isPaid": False,
    "limits": None,
    "members": [_MEMBER],
}


def user() -> dict[str, Any]:
    """Return the server's only user."""
    return {
        "id": "user:local",
        "name": DEFAULT_ENTITY,
        "username": DEFAULT_ENTITY,
        "email": "local@localhost",
        "admin": False,
        "flags": "{}",
        "entity": DEFAULT_ENTITY,
        "deletedAt": None,
        "apiKeys": _KEYS,
        "teams": {"edges": [{"node": entity(DEFAULT_ENTITY)}]},
    }


def _viewer(_source: Any, _info: Info) -> dict[str, Any]:
    return user()


def _server_info(_source: Any, _info: Info) -> dict[str, Any]:
    # wandb client 0.28: it reads these versions before it logs media and files.
    versions = {"min_cli_version": "0.28.0", "max_cli_version": "99.0.0"}
    features = [{"name": name, "isEnabled": True} for name in _FEATURES]
    return {"features": features, "cliVersionInfo": versions, "latestLocalVersionInfo": None}


def _entity(_source: Any, _info: Info, name: str | None = None) -> dict[str, Any]:
    return entity(name or DEFAULT_ENTITY)


def _users(_source: Any, _info: Info, query: str | None = None) -> dict[str, Any]:
    one = user()
    found = any((query or "") in one[name] for name in ("username", "email"))
    return {"edges": only([one] if found else [])}


def _organization(_source: Any, _info: Info, name: str) -> None:
    """Return None: no organization exists, and wandb's client then says "not found"."""


def _create_team(_source: Any, _info: Info, input: dict[str, Any]) -> dict[str, Any]:
    return {"entity": entity(input["teamName"])}


def runs_of_project(
    project: Project,
    info: Info,
    filters: str | None = None,
    after: str | None = None,
    first: int | None = None,
    order: str | None = None,
) -> Page[Run]:
    """Return a page of runs; if SQL alone can't find them, its cursors point into a cached listing."""
    span, transaction = Span.of(after, first), reading(info)
    query = RunQuery(project.id, read_filters(filters))
    ids = listing.page_ids(transaction, query, read_order(order), span.begin, span.number + 1)
    name = None
    if ids is None:
        cached = _cached_listing(info, _scope(project, info, filters), span, query, order)
        ids, name = list(cached.ids[span.begin : span.begin + span.number + 1]), cached.name
    return span.page(runs.with_ids(transaction, ids), name)


def count_in_project(project: Project, info: Info, filters: str | None = None) -> int:
    """Count a project's runs; beside a page of a cached listing (wandb client: always), those listed."""
    transaction, query = reading(info), RunQuery(project.id, read_filters(filters))
    found = listing.count_in_sql(transaction, query)
    if found is not None:
        return found
    scope = _scope(project, info, filters)
    cached = _requested_listing(info, scope)
    if cached is None:
        order = context(info).variables.get("order")  # the page's (wandb client: always beside it)
        cached = _new_listing(info, scope, query, order if isinstance(order, str) else None)
    return len(cached.ids)


def _cached_listing(
    info: Info, scope: ListingScope, span: Span, query: RunQuery, order: str | None
) -> CachedListing:
    """Return the cached listing that a cursor points into, or this request's, or a new one."""
    pointed = None if span.listing is None else context(info).app.listings.find(span.listing, scope)
    for known in (pointed, context(info).listing):
        if known is not None and known.scope == scope and known.order == order:
            return known
    return _new_listing(info, scope, query, order)


def _new_listing(info: Info, scope: ListingScope, query: RunQuery, order: str | None) -> CachedListing:
    check = context(info).deadline.check
    ids = listing.all_ids(reading(info), query, read_order(order), check)
    made = context(info).app.listings.add(scope, order, ids)
    context(info).listing = made
    return made


def _requested_listing(info: Info, scope: ListingScope) -> CachedListing | None:
    """Return the cached listing of this scope that a request variable points into as a cursor."""
    texts = [value for value in context(info).variables.values() if isinstance(value, str)]
    found = (context(info).app.listings.find(text.partition(".")[2], scope) for text in texts)
    return next((cached for cached in found if cached is not None), None)


def _scope(project: Project, info: Info, filters: str | None) -> ListingScope:
    return ListingScope(project.id, context(info).caller.sweep, filters)


def _project(
    _source: Any, info: Info, name: str | None = None, entityName: str | None = None
) -> Project | None:
    return projects.find(reading(info), entityName or DEFAULT_ENTITY, name or DEFAULT_PROJECT)


def _create(_source: Any, info: Info, input: dict[str, Any]) -> dict[str, Any]:
    entity_name = input.get("entityName") or DEFAULT_ENTITY
    project = project_service.create_project(context(info).app, entity_name, input.get("name") or "")
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
    """Return the project of a sweep, run or collection."""
    return Project(source.project_id, source.entity, source.project, source.created_at)


QUERY: Final[dict[str, Resolver]] = {
    "viewer": _viewer,
    "serverInfo": _server_info,
    "entity": _entity,
    "users": _users,
    "organization": _organization,
    "project": _project,
    "model": _project,
    "models": _models,
}
MUTATION: Final[dict[str, Resolver]] = {"createTeam": _create_team, "upsertModel": _create}
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
