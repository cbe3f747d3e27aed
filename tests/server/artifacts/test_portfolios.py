"""Portfolios and changes to collections over HTTP without a port: how the rules interact."""

from __future__ import annotations

import base64
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine, text

from parallel_hpo.core.keys import worker_key
from parallel_hpo.server.artifacts.contents import check_name, check_no_registry, check_tag
from parallel_hpo.server.store.database import database_url
from parallel_hpo.server.store.migrations import upgrade
from parallel_hpo.server.values import RefusedError
from tests.server.application import Web
from tests.server.artifacts.test_artifacts import CREATE, DELETE, created, logged
from tests.server.server_logic import MASTER_KEY, Services, grid

LINK = """mutation L($i: LinkArtifactInput!) { linkArtifact(input: $i) {
  versionIndex artifactMembership { aliases { alias } artifactCollection { __typename id } } } }"""
UNLINK = "mutation U($i: UnlinkArtifactInput!) { unlinkArtifact(input: $i) { success } }"
PORTFOLIO = """query P($project: String!) { project(name: $project) { artifactCollection(name: "best") {
  __typename id description aliases { edges { node { alias } } } artifacts { edges { version node {
    artifactSequence { name } versionIndex aliases { alias artifactCollection { name } } } } } } } }"""
NAMED = """query N($name: String!) { project(name: "p") { artifactCollectionMembership(name: $name) {
  versionIndex artifact { versionIndex } } } }"""
ALIASES = "mutation A($i: AddAliasesInput!) { addAliases(input: $i) { success } }"
NO_ALIASES = "mutation A($i: DeleteAliasesInput!) { deleteAliases(input: $i) { success } }"
CHANGES = {
    "rename": """mutation R($id: ID!) { done: updateArtifactPortfolio(input: {
        artifactPortfolioID: $id, name: "better", description: "new" }) { artifactCollection { id } } }""",
    "delete": """mutation R($id: ID!) { done: deleteArtifactPortfolio(input: { artifactPortfolioID: $id }) {
        artifactCollection { state } } }""",
}
SEQUENCE = """query S { project(name: "p") { artifactCollection(name: "data") { id } } }"""
RENAME = """mutation R($i: UpdateArtifactSequenceInput!) { updateArtifactSequence(input: $i) {
  artifactCollection { name } } }"""
MOVE = """mutation M($i: MoveArtifactSequenceInput!) { moveArtifactSequence(input: $i) {
  artifactCollection { defaultArtifactType { name } } } }"""


def test_an_older_database_migrates_its_collections_to_sequences(tmp_path: Path) -> None:
    engine = create_engine(database_url(str(tmp_path / "server.db")))
    with engine.begin() as connection:
        upgrade(connection, target="0004")
        for statement in OLD:
            connection.execute(text(statement))
    engine.dispose()
    services = Services(tmp_path)
    with Web(services) as web:
        assert meant(web, "data:best") == (7, 7)
        linked(web, base64.b64encode(b"Artifact:1").decode())
        assert meant(web, "best:latest") == (0, 7)
    services.close()


OLD = (
    "INSERT INTO projects VALUES (1, 'local', 'p', 0)",
    "INSERT INTO artifact_collections VALUES (1, 1, 'data', 'dataset', NULL, 0, 0)",
    """INSERT INTO artifacts (id, collection_id, version, state, digest, tags, wanted_aliases, size,
       file_count, created_at, updated_at) VALUES (1, 1, 7, 'COMMITTED', 'd', '[]', '[]', 0, 0, 0, 0)""",
    "INSERT INTO artifact_aliases VALUES (1, 'best', 1)",
)


def wishes(artifact: str, *aliases: str, project: str = "p", **more: Any) -> dict[str, Any]:
    """Return the input of a link to the portfolio `best`."""
    own = {"artifactID": artifact, "artifactPortfolioName": "best", "projectName": project}
    given = [{"artifactCollectionName": "best", "alias": alias} for alias in aliases]
    return own | {"aliases": given} | more


def linked(web: Web, artifact: str, *aliases: str, project: str = "p") -> Any:
    return web.done(LINK, i=wishes(artifact, *aliases, project=project))["linkArtifact"]


def both_linked(web: Web) -> tuple[str, str]:
    """Return two versions that are linked to the portfolio `best`."""
    first, second = logged(web, digest="d"), logged(web, digest="e")
    for artifact in (first, second):
        linked(web, artifact)
    return first, second


def link_error(web: Web, artifact: str, **more: Any) -> str:
    """Return why the server refuses to link it."""
    return web.refused(LINK, i=wishes(artifact, **more))


def portfolio(web: Web, project: str = "p") -> Any:
    return web.ask(PORTFOLIO, project=project)["data"]["project"]["artifactCollection"]


def versions(web: Web) -> list[str]:
    return [edge["version"] for edge in portfolio(web)["artifacts"]["edges"]]


def meant(web: Web, name: str) -> tuple[int, int] | None:
    """Return the version number in the named collection, and the number in the version's own sequence."""
    member = web.ask(NAMED, name=name)["data"]["project"]["artifactCollectionMembership"]
    return None if member is None else (member["versionIndex"], member["artifact"]["versionIndex"])


def test_a_version_linked_again_keeps_its_number_and_does_not_become_latest(web: Web) -> None:
    first, _ = both_linked(web)
    assert linked(web, first, "old")["versionIndex"] == 0
    assert (meant(web, "best:old"), meant(web, "best:latest")) == ((0, 0), (1, 1))


def test_deleting_the_latest_version_makes_the_previous_one_latest(web: Web) -> None:
    _, second = both_linked(web)
    web.ask(DELETE, i={"artifactID": second})
    assert versions(web) == ["v0"]
    assert (meant(web, "best:latest"), meant(web, "data:v1")) == ((0, 0), None)
    linked(web, logged(web, digest="f"))
    assert versions(web) == ["v2", "v0"]  # no number is reused


def test_a_version_with_an_alias_in_a_portfolio_is_not_deleted_implicitly(web: Web) -> None:
    artifact = logged(web)
    linked(web, artifact, "prod")
    assert "has the aliases prod" in web.refused(DELETE, i={"artifactID": artifact})


def test_an_alias_applies_only_to_its_own_collection(web: Web) -> None:
    artifact = logged(web)
    linked(web, artifact)
    there = {"entityName": "local", "projectName": "p", "alias": "mine"}
    for name in ("data", "best"):
        web.ask(ALIASES, i={"artifactID": artifact, "aliases": [there | {"artifactCollectionName": name}]})
    web.ask(NO_ALIASES, i={"artifactID": artifact, "aliases": [there | {"artifactCollectionName": "data"}]})
    assert (meant(web, "data:mine"), meant(web, "best:mine")) == (None, (0, 0))
    elsewhere = {"artifactID": artifact, "aliases": [there | {"artifactCollectionName": "other"}]}
    assert "not in the collection local/p/other" in web.refused(ALIASES, i=elsewhere)


def test_deleting_an_alias_of_another_version_changes_nothing(web: Web) -> None:
    first, _ = logged(web, digest="d"), logged(web, digest="e")
    aliases = [{"artifactCollectionName": "data", "alias": "latest"}]
    web.ask(NO_ALIASES, i={"artifactID": first, "aliases": aliases})
    assert meant(web, "data:latest") == (1, 1)


def test_an_artifact_is_linked_by_client_id_and_portfolio_id(web: Web) -> None:
    linked(web, logged(web, digest="d"))
    logged(web, digest="e")
    by_ids = {"clientID": "client-data-e", "artifactPortfolioID": portfolio(web)["id"]}
    web.done(LINK, i=by_ids)
    assert versions(web) == ["v1", "v0"]
    unknown = {"clientID": "x", "artifactPortfolioName": "best"}
    assert "log it first" in web.refused(LINK, i=unknown)


def test_an_invalid_link_is_refused_with_the_reason(web: Web) -> None:
    artifact = logged(web)
    linked(web, artifact)
    assert "not committed yet" in link_error(web, created(web, digest="e"))
    assert "is a registry" in link_error(web, artifact, project="wandb-registry-model")
    assert "versions are logged to" in link_error(web, artifact, artifactPortfolioName="data")
    assert "without '/' and ':'" in link_error(web, artifact, artifactPortfolioName="a:b")
    model = logged(web, "model", "m", artifactTypeName="model")
    assert "has the type 'dataset'" in link_error(web, model)
    other = {"artifactID": model, "artifactPortfolioID": portfolio(web)["id"]}
    assert "not linked to this portfolio" in web.refused(UNLINK, i=other)


def test_logging_to_a_portfolio_or_a_registry_is_refused(web: Web) -> None:
    linked(web, logged(web))
    new = {"entityName": "local", "artifactTypeName": "dataset", "digest": "e"}
    for project, name, why in (("p", "best", "is a portfolio"), ("wandb-registry-a", "b", "is a registry")):
        place = {"projectName": project, "artifactCollectionName": name}
        assert why in web.refused(CREATE, i=new | place)


def test_deleting_a_portfolio_keeps_its_versions(web: Web) -> None:
    linked(web, logged(web), "prod")
    web.ask(CHANGES["delete"], id=portfolio(web)["id"])
    assert portfolio(web) is None
    assert meant(web, "data:v0") == (0, 0)
    linked(web, logged(web, digest="e"))
    assert versions(web) == ["v0"]  # it is a new portfolio
    assert meant(web, "best:prod") is None


def test_a_worker_cannot_link_or_change_versions_of_another_sweep(services: Services, web: Web) -> None:
    own, other = services.sweep(grid(1)), services.sweep(grid(1))
    name = services.issued(services.agent(other, "w1"))
    services.start(other, name)
    artifact = logged(web, runName=name)
    with Web(services, worker_key(MASTER_KEY, "w0", own)) as worker:
        assert "another sweep" in link_error(worker, artifact)
        linked(web, artifact)
        there = portfolio(web)["id"]
        for change in CHANGES.values():
            assert "another sweep" in worker.refused(change, id=there)
        unlinking = {"artifactID": artifact, "artifactPortfolioID": there}
        assert "another sweep" in worker.refused(UNLINK, i=unlinking)
    assert versions(web) == ["v0"]


def sequence(web: Web) -> str:
    found: str = web.done(SEQUENCE)["project"]["artifactCollection"]["id"]
    return found


def test_an_invalid_or_taken_collection_name_and_an_invalid_type_are_refused(web: Web) -> None:
    linked(web, logged(web))
    logged(web, "other", "o")
    own = {"artifactSequenceID": sequence(web)}
    assert "'a/b:c': 1 to 128 characters" in web.refused(RENAME, i=own | {"name": "a/b:c"})
    for name in ("best", "other"):
        assert f"has a collection {name!r} already" in web.refused(RENAME, i=own | {"name": name})
    of_type = own | {"destinationArtifactTypeName": "a/b"}
    assert "1 to 128 characters" in web.refused(MOVE, i=of_type)
    for name in ("data", "free"):  # its own name is not a conflict
        web.done(RENAME, i=own | {"name": name})


def test_changing_a_deleted_collection_is_refused(web: Web) -> None:
    linked(web, logged(web))
    gone = portfolio(web)["id"]
    web.done(CHANGES["delete"], id=gone)
    for change in CHANGES.values():
        assert "doesn't exist, or was deleted" in web.refused(change, id=gone)


VALID = [
    *((check_name, name) for name in ("data", "run-1-table", "a b", "Größe", "...", "a" * 128)),
    *((check_tag, tag) for tag in ("a", "a b", "a-b_c", "a" * 128)),
    (check_no_registry, "my-wandb-registry-model"),
]
INVALID = [
    *((check_name, name) for name in ("", ".", "..", "a/b:c", "a:b", "a/b", "a\nb", "a\x7f", "a" * 129)),
    *((check_tag, tag) for tag in ("", " ", "a/b", " a", "a ", "a!", "a" * 129)),
    (check_no_registry, "wandb-registry-model"),
]
REASONS = {
    check_name: "1 to 128 characters, without '/'",
    check_tag: r"tag .*: 1 to 128 letters",
    check_no_registry: "'wandb-registry-model' is a registry",
}


@pytest.mark.parametrize(("check", "name"), VALID)
def test_a_valid_name_or_tag_is_returned(check: Callable[[str], str | None], name: str) -> None:
    assert check(name) in (name, None)


@pytest.mark.parametrize(("check", "name"), INVALID)
def test_an_invalid_name_or_tag_is_refused(check: Callable[[str], str | None], name: str) -> None:
    with pytest.raises(RefusedError, match=REASONS[check]):
        check(name)
