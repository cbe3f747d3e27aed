"""A project's runs by filters and in an order, page by page, and how many they are."""

from __future__ import annotations

from parallel_hpo.server.graphql.resolvers.context import Info, Page, Span, context, reading
from parallel_hpo.server.store import listing, runs
from parallel_hpo.server.store.filters import read_filters, read_order
from parallel_hpo.server.store.listing import Matter, Question, Walk
from parallel_hpo.server.store.records import Project, Run


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
    question = Question(project.id, read_filters(filters))
    ids = listing.part(transaction, question, read_order(order), span.begin, span.number + 1)
    name = None
    if ids is None:
        walk = _walk(info, _matter(project, info, filters), span, question, order)
        ids, name = list(walk.ids[span.begin : span.begin + span.number + 1]), walk.name
    return span.page(runs.with_ids(transaction, ids), name)


def count_in_project(project: Project, info: Info, filters: str | None = None) -> int:
    """Count a project's runs; beside a further page of a walk (wandb client: always): those of the walk."""
    transaction, question = reading(info), Question(project.id, read_filters(filters))
    found = listing.total(transaction, question)
    if found is not None:
        return found
    walk = _walk_asked_for(info, _matter(project, info, filters))
    if walk is not None:
        return len(walk.ids)
    return len(listing.judged(transaction, question, (), context(info).deadline.check))


def _walk(info: Info, matter: Matter, span: Span, question: Question, order: str | None) -> Walk:
    """Return the walk that a cursor leads to, or a new one."""
    walks = context(info).world.walks
    kept = None if span.walk is None else walks.find(span.walk, matter)
    if kept is not None and kept.order == order:
        return kept
    check = context(info).deadline.check
    return walks.keep(matter, order, listing.judged(reading(info), question, read_order(order), check))


def _walk_asked_for(info: Info, matter: Matter) -> Walk | None:
    """Return the walk over this matter to which a variable of the request leads as a cursor."""
    texts = [value for value in context(info).variables.values() if isinstance(value, str)]
    found = (context(info).world.walks.find(text.partition(".")[2], matter) for text in texts)
    return next((walk for walk in found if walk is not None), None)


def _matter(project: Project, info: Info, filters: str | None) -> Matter:
    return Matter(project.id, context(info).caller.sweep, filters)
