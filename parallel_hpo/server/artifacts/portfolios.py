"""A version is linked to a portfolio: it stands there under a number and aliases of that portfolio's own.

A portfolio comes into being with its first link, in any project of this server; it takes one type.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from parallel_hpo.server.artifacts import versions
from parallel_hpo.server.artifacts.names import LATEST, check_name, check_no_registry
from parallel_hpo.server.refusals import RefusedError
from parallel_hpo.server.store import artifact_collections, artifact_members, projects
from parallel_hpo.server.store.artifact_members import Member
from parallel_hpo.server.store.artifact_records import COMMITTED, Artifact, Collection
from parallel_hpo.server.store.database import Transaction
from parallel_hpo.server.world import World


@dataclass(frozen=True, slots=True)
class PortfolioPath:
    """Where a portfolio is, or is to be."""

    entity: str
    project: str
    name: str


def link(world: World, artifact_id: int, path: PortfolioPath, aliases: Sequence[str]) -> Member:
    """Put a version into a portfolio, as its latest one; one that stands there only gets the aliases."""
    check_no_registry(path.project)
    for name in (path.name, *aliases):
        check_name(name)
    now = world.clock()
    with world.database.write() as transaction:
        artifact = versions.changeable(transaction, artifact_id)
        if artifact.state != COMMITTED:
            raise RefusedError("the artifact is not committed yet, so it can't be linked")
        portfolio = _portfolio(transaction, path, artifact, now)
        member = artifact_members.link(transaction, portfolio, artifact, now)
        is_new = member.version == portfolio.next_link
        wanted = [*aliases, LATEST] if is_new else aliases
        artifact_collections.put_aliases(transaction, portfolio.id, artifact_id, wanted)
    return member


def _portfolio(transaction: Transaction, path: PortfolioPath, artifact: Artifact, now: float) -> Collection:
    kind = artifact.collection.type
    project = projects.ensure(transaction, path.entity, path.project, now)
    found = artifact_collections.ensure(transaction, project, path.name, kind, now, portfolio=True)
    if not found.is_portfolio:
        raise RefusedError(
            f"versions are logged to {path.name!r}, so none can be linked to it: "
            "give the portfolio another name"
        )
    if found.type != kind:
        raise RefusedError(
            f"portfolio {path.name!r} takes the type {found.type!r}, so no artifact of type {kind!r}"
        )
    return found


def unlink(world: World, artifact_id: int, collection_id: int) -> None:
    """Take a version out of a portfolio; it stays where it was logged."""
    with world.database.write() as transaction:
        artifact = versions.changeable(transaction, artifact_id)
        _, *links = artifact_members.of_artifact(transaction, artifact)
        member = next((each for each in links if each.collection.id == collection_id), None)
        if member is None:
            raise RefusedError("the artifact is not linked to this portfolio, or not any more")
        versions.unlink(transaction, member)
