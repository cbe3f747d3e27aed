"""Portfolios, and collections that are changed, over HTTP without a port: where rules meet."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine, text

from parallel_hpo.core.keys import worker_key
from parallel_hpo.server.store.database import database_url
from parallel_hpo.server.store.migrations import upgrade
from tests.server.acting import MASTER_KEY, Services, grid
from tests.server.artifacts.test_artifacts import CREATE, DELETE, created, logged
from tests.server.web import Web

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


def test_collections_and_versions_of_an_older_database_are_sequences_and_whole(tmp_path: Path) -> None:
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


def linked(web: Web, artifact: str, *aliases: str, project: str = "p", **more: Any) -> Any:
    """Link to the portfolio `best`, and return the whole answer."""
    wishes = {"artifactID": artifact, "artifactPortfolioName": "best", "projectName": project} | more
    given = [{"artifactCollectionName": "best", "alias": alias} for alias in aliases]
    return web.ask(LINK, i=wishes | {"aliases": given})


def portfolio(web: Web, project: str = "p") -> Any:
    return web.ask(PORTFOLIO, project=project)["data"]["project"]["artifactCollection"]


def versions(web: Web) -> list[str]:
    return [edge["version"] for edge in portfolio(web)["artifacts"]["edges"]]


def meant(web: Web, name: str) -> tuple[int, int] | None:
    """Return which number a name means in its collection, and which one that version has in its own."""
    member = web.ask(NAMED, name=name)["data"]["project"]["artifactCollectionMembership"]
    return None if member is None else (member["versionIndex"], member["artifact"]["versionIndex"])


def message(answer: Any) -> str:
    text: str = answer["errors"][0]["message"]
    return text


def test_a_version_stands_in_a_portfolio_under_a_number_and_aliases_of_its_own(web: Web) -> None:
    logged(web, digest="d")
    own = [{"artifactCollectionName": "data", "alias": "mine"}]
    answer = linked(web, logged(web, digest="e", aliases=own), "prod")["data"]["linkArtifact"]
    assert answer["versionIndex"] == 0
    aliases = {each["alias"] for each in answer["artifactMembership"]["aliases"]}
    assert aliases == {"latest", "prod", "v0"}
    (edge,) = portfolio(web)["artifacts"]["edges"]
    assert (edge["version"], edge["node"]["versionIndex"]) == ("v0", 1)
    owned = {(each["artifactCollection"]["name"], each["alias"]) for each in edge["node"]["aliases"]}
    there = {("best", "latest"), ("best", "prod"), ("best", "v0")}
    assert owned == there | {("data", "latest"), ("data", "mine")}
    assert [meant(web, f"best:{name}") for name in ("prod", "latest", "v0")] == [(0, 1)] * 3
    assert meant(web, "best:v1") is None
    assert meant(web, "data:prod") is None


def test_what_is_linked_again_keeps_its_number_and_is_not_the_latest_by_it(web: Web) -> None:
    first, second = logged(web, digest="d"), logged(web, digest="e")
    for artifact in (first, second):
        linked(web, artifact)
    assert linked(web, first, "old")["data"]["linkArtifact"]["versionIndex"] == 0
    assert (meant(web, "best:old"), meant(web, "best:latest")) == ((0, 0), (1, 1))


@pytest.mark.parametrize("gone", ["unlinked", "deleted"])
def test_a_version_that_goes_leaves_the_latest_to_the_one_before_it(web: Web, gone: str) -> None:
    first, second = logged(web, digest="d"), logged(web, digest="e")
    for artifact in (first, second):
        linked(web, artifact)
    if gone == "unlinked":
        web.ask(UNLINK, i={"artifactID": second, "artifactPortfolioID": portfolio(web)["id"]})
    else:
        web.ask(DELETE, i={"artifactID": second})
    assert versions(web) == ["v0"]
    assert meant(web, "best:latest") == (0, 0)
    assert (meant(web, "data:v1") is None) is (gone == "deleted")
    linked(web, logged(web, digest="f"))
    assert versions(web) == ["v2", "v0"]  # no number is given twice


def test_a_version_with_a_portfolios_alias_is_not_deleted_by_the_way(web: Web) -> None:
    artifact = logged(web)
    linked(web, artifact, "prod")
    assert "has the aliases prod" in message(web.ask(DELETE, i={"artifactID": artifact}))


def test_an_alias_belongs_to_the_collection_that_it_is_given_in(web: Web) -> None:
    artifact = logged(web)
    linked(web, artifact)
    there = {"entityName": "local", "projectName": "p", "alias": "mine"}
    for name in ("data", "best"):
        web.ask(ALIASES, i={"artifactID": artifact, "aliases": [there | {"artifactCollectionName": name}]})
    web.ask(NO_ALIASES, i={"artifactID": artifact, "aliases": [there | {"artifactCollectionName": "data"}]})
    assert (meant(web, "data:mine"), meant(web, "best:mine")) == (None, (0, 0))
    elsewhere = {"artifactID": artifact, "aliases": [there | {"artifactCollectionName": "other"}]}
    assert "not in the collection local/p/other" in message(web.ask(ALIASES, i=elsewhere))


def test_an_alias_of_another_version_is_left_alone(web: Web) -> None:
    first, _ = logged(web, digest="d"), logged(web, digest="e")
    aliases = [{"artifactCollectionName": "data", "alias": "latest"}]
    web.ask(NO_ALIASES, i={"artifactID": first, "aliases": aliases})
    assert meant(web, "data:latest") == (1, 1)


def test_a_portfolio_may_be_in_a_project_that_is_new(web: Web) -> None:
    linked(web, logged(web), project="model-registry")
    assert portfolio(web, "model-registry")["__typename"] == "ArtifactPortfolio"


def test_an_artifact_is_linked_by_the_clients_own_id_and_to_a_portfolios_id(web: Web) -> None:
    linked(web, logged(web, digest="d"))
    logged(web, digest="e")
    by_ids = {"clientID": "client-data-e", "artifactPortfolioID": portfolio(web)["id"]}
    assert "errors" not in web.ask(LINK, i=by_ids)
    assert versions(web) == ["v1", "v0"]
    assert "log it first" in message(web.ask(LINK, i={"clientID": "x", "artifactPortfolioName": "best"}))


def test_what_can_not_be_linked_is_refused_in_words(web: Web) -> None:
    artifact = logged(web)
    linked(web, artifact)
    assert "not committed yet" in message(linked(web, created(web, digest="e")))
    assert "is a registry" in message(linked(web, artifact, project="wandb-registry-model"))
    assert "versions are logged to" in message(linked(web, artifact, artifactPortfolioName="data"))
    assert "without '/' and ':'" in message(linked(web, artifact, artifactPortfolioName="a:b"))
    model = logged(web, "model", "m", artifactTypeName="model")
    assert "has the type 'dataset'" in message(linked(web, model))
    other = {"artifactID": model, "artifactPortfolioID": portfolio(web)["id"]}
    assert "not linked to this portfolio" in message(web.ask(UNLINK, i=other))


def test_nothing_is_logged_to_a_portfolio_or_a_registry(web: Web) -> None:
    linked(web, logged(web))
    wishes = {"entityName": "local", "artifactTypeName": "dataset", "digest": "e"}
    for project, name, why in (("p", "best", "is a portfolio"), ("wandb-registry-a", "b", "is a registry")):
        place = {"projectName": project, "artifactCollectionName": name}
        assert why in message(web.ask(CREATE, i=wishes | place))


def test_a_deleted_portfolio_takes_no_version_along(web: Web) -> None:
    linked(web, logged(web), "prod")
    web.ask(CHANGES["delete"], id=portfolio(web)["id"])
    assert portfolio(web) is None
    assert meant(web, "data:v0") == (0, 0)
    linked(web, logged(web, digest="e"))
    assert versions(web) == ["v0"]  # it is another portfolio
    assert meant(web, "best:prod") is None


def test_a_portfolio_is_renamed_with_its_versions(web: Web) -> None:
    linked(web, logged(web))
    web.ask(CHANGES["rename"], id=portfolio(web)["id"])
    assert (meant(web, "best:v0"), meant(web, "better:v0")) == (None, (0, 0))


def test_a_link_needs_the_right_to_change_the_version(services: Services, web: Web) -> None:
    own, other = services.sweep(grid(1)), services.sweep(grid(1))
    name = services.issued(services.agent(other, "w1"))
    services.start(other, name)
    artifact = logged(web, runName=name)
    with Web(services, worker_key(MASTER_KEY, "w0", own)) as worker:
        assert "another sweep" in message(linked(worker, artifact))
        linked(web, artifact)
        there = portfolio(web)["id"]
        for change in CHANGES.values():
            assert "another sweep" in message(worker.ask(change, id=there))
        unlinking = {"artifactID": artifact, "artifactPortfolioID": there}
        assert "another sweep" in message(worker.ask(UNLINK, i=unlinking))
    assert versions(web) == ["v0"]


def renamed(web: Web, name: str) -> Any:
    sequence = web.ask(SEQUENCE)["data"]["project"]["artifactCollection"]["id"]
    return web.ask(RENAME, i={"artifactSequenceID": sequence, "name": name})


def test_a_collection_gets_no_name_that_is_wrong_or_that_another_one_has(web: Web) -> None:
    linked(web, logged(web))
    logged(web, "other", "o")
    assert "'a/b:c': 1 to 128 characters" in message(renamed(web, "a/b:c"))
    for name in ("best", "other"):
        assert f"has a collection {name!r} already" in message(renamed(web, name))
    for name in ("data", "free"):  # its own name is no other one's
        assert "errors" not in renamed(web, name)


def test_a_collection_gets_another_type(web: Web) -> None:
    logged(web)
    sequence = web.ask(SEQUENCE)["data"]["project"]["artifactCollection"]["id"]
    wishes = {"artifactSequenceID": sequence, "destinationArtifactTypeName": "table"}
    moved = web.ask(MOVE, i=wishes)["data"]["moveArtifactSequence"]["artifactCollection"]
    assert moved["defaultArtifactType"] == {"name": "table"}
    bad = wishes | {"destinationArtifactTypeName": "a/b"}
    assert "1 to 128 characters" in message(web.ask(MOVE, i=bad))


def test_a_collection_that_is_gone_is_said_to_be(web: Web) -> None:
    linked(web, logged(web))
    gone = portfolio(web)["id"]
    web.ask(CHANGES["delete"], id=gone)
    for change in CHANGES.values():
        assert "doesn't exist, or was deleted" in message(web.ask(change, id=gone))
