"""Artifacts and runs' files over HTTP without a port: what ordinary usage does not bring about."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterator
from typing import Any

import pytest

from parallel_hpo.server import run_ending, run_service
from parallel_hpo.server.refusals import RefusedError
from parallel_hpo.server.run_service import RunWishes
from tests.server.acting import Stage
from tests.server.web import URL, Web

CREATE = """mutation C($i: CreateArtifactInput!) { createArtifact(input: $i) { artifact { id state } } }"""
FILES = """mutation F($i: CreateArtifactFilesInput!) {
  createArtifactFiles(input: $i) { files { edges { node { uploadUrl } } } } }"""
MANIFEST = """mutation M($i: CreateArtifactManifestInput!) {
  createArtifactManifest(input: $i) { artifactManifest { file { uploadUrl } } } }"""
COMMIT = "mutation C($i: CommitArtifactInput!) { commitArtifact(input: $i) { artifact { id versionIndex } } }"
DELETE = "mutation D($i: DeleteArtifactInput!) { deleteArtifact(input: $i) { artifact { id } } }"
CONTENT = b"content"
RUN_FILES = """query F { project(name: "p") { run(name: "r") { fileCount files { edges { node {
  id name sizeBytes md5 directUrl } } } } } }"""


def md5(content: bytes) -> str:
    return base64.b64encode(hashlib.md5(content, usedforsecurity=False).digest()).decode()


@pytest.fixture
def web(stage: Stage) -> Iterator[Web]:
    """A client with the master key, and a run."""
    run_service.upsert(stage.world, RunWishes(name="r", project="p"))
    with Web(stage) as web:
        yield web


def created(web: Web, name: str = "data", digest: str = "d") -> str:
    wishes = {"entityName": "local", "projectName": "p", "artifactTypeName": "dataset", "digest": digest}
    answer = web.ask(CREATE, i=wishes | {"artifactCollectionName": name})
    artifact: str = answer["data"]["createArtifact"]["artifact"]["id"]
    return artifact


def address_of_file(web: Web, artifact: str, content: bytes) -> str | None:
    wishes = {"artifactFiles": [{"artifactID": artifact, "name": "a.txt", "md5": md5(content)}]}
    (edge,) = web.ask(FILES, i=wishes)["data"]["createArtifactFiles"]["files"]["edges"]
    url: str | None = edge["node"]["uploadUrl"]
    return url


def send_manifest(web: Web, artifact: str, contents: Any) -> None:
    wishes = {"artifactID": artifact, "name": "m", "digest": "d", "entityName": "local", "projectName": "p"}
    answer = web.ask(MANIFEST, i=wishes | {"runName": "r"})
    url = answer["data"]["createArtifactManifest"]["artifactManifest"]["file"]["uploadUrl"]
    assert web.put(url, content=json.dumps({"contents": contents}).encode()).status_code == 200


def commit(web: Web, artifact: str) -> Any:
    return web.ask(COMMIT, i={"artifactID": artifact})


def logged(web: Web, name: str = "data", digest: str = "d") -> str:
    artifact = created(web, name, digest)
    if (url := address_of_file(web, artifact, CONTENT)) is not None:
        web.put(url, content=CONTENT)
    send_manifest(web, artifact, {"a.txt": {"digest": md5(CONTENT), "size": len(CONTENT)}})
    assert commit(web, artifact).get("errors") is None
    return artifact


def blobs(stage: Stage) -> list[str]:
    return [path.name for path in (stage.world.files / "blobs").iterdir()]


def test_a_file_that_is_here_already_is_not_asked_for_again(web: Web) -> None:
    logged(web)
    assert address_of_file(web, created(web, "other"), CONTENT) is None


def test_content_that_is_not_what_the_manifest_says_is_refused(stage: Stage, web: Web) -> None:
    url = address_of_file(web, created(web), CONTENT)
    assert url is not None
    assert web.put(url, content=b"other").status_code == 400
    assert blobs(stage) == []


def test_an_artifact_whose_file_never_came_is_not_committed(web: Web) -> None:
    artifact = created(web)
    assert "manifest was not sent" in commit(web, artifact)["errors"][0]["message"]
    send_manifest(web, artifact, {"a.txt": {"digest": md5(CONTENT)}})
    assert "'a.txt' was not sent" in commit(web, artifact)["errors"][0]["message"]


@pytest.mark.parametrize("path", ["../x", "/etc/passwd", "a/../../b"])
def test_a_manifest_can_name_no_path_outside(web: Web, path: str) -> None:
    artifact = created(web)
    send_manifest(web, artifact, {path: {"digest": md5(CONTENT)}})
    assert "not a plain relative path" in commit(web, artifact)["errors"][0]["message"]


@pytest.mark.parametrize("contents", [None, [], {"a": 1}, {"a": {}}, {"a": {"digest": "d", "size": -1}}])
def test_a_malformed_manifest_is_named(web: Web, contents: Any) -> None:
    artifact = created(web)
    send_manifest(web, artifact, contents)
    assert "manifest" in commit(web, artifact)["errors"][0]["message"]


def test_a_repeated_commit_is_harmless(web: Web) -> None:
    artifact = logged(web)
    assert commit(web, artifact)["data"]["commitArtifact"]["artifact"]["versionIndex"] == 0


def test_a_file_is_kept_as_long_as_an_artifact_has_it(stage: Stage, web: Web) -> None:
    first, second = logged(web), logged(web, "other")
    web.ask(DELETE, i={"artifactID": first, "deleteAliases": True})
    assert len(blobs(stage)) == 1
    web.ask(DELETE, i={"artifactID": second, "deleteAliases": True})
    assert blobs(stage) == []


def test_a_deleted_versions_number_is_not_given_again(web: Web) -> None:
    web.ask(DELETE, i={"artifactID": logged(web), "deleteAliases": True})
    answer = commit(web, logged(web, digest="e"))
    assert answer["data"]["commitArtifact"]["artifact"]["versionIndex"] == 1


def send_file(web: Web, name: str = "a.txt") -> dict[str, Any]:
    """Send a file of the run, and return what is known of it."""
    query = """mutation C($f: [String!]!) {
      createRunFiles(input: {projectName: "p", runName: "r", files: $f}) { files { uploadUrl } } }"""
    (file,) = web.ask(query, f=[name])["data"]["createRunFiles"]["files"]
    assert web.put(file["uploadUrl"], content=CONTENT).status_code == 200
    (edge,) = web.ask(RUN_FILES)["data"]["project"]["run"]["files"]["edges"]
    node: dict[str, Any] = edge["node"]
    return node


def test_a_runs_file_is_listed_and_fetched_as_nothing_that_a_browser_would_run(web: Web) -> None:
    file = send_file(web, "page.html")
    assert (file["name"], file["sizeBytes"], file["md5"]) == (
        "page.html",
        len(CONTENT),
        hashlib.md5(CONTENT, usedforsecurity=False).hexdigest(),
    )
    answer = web.get(file["directUrl"])
    assert answer.content == CONTENT
    assert answer.headers["content-type"] == "application/octet-stream"
    assert answer.headers["x-content-type-options"] == "nosniff"


def test_an_address_to_fetch_does_not_allow_to_send(stage: Stage, web: Web) -> None:
    url = send_file(web)["directUrl"]
    assert web.put(url.replace("/downloads/", "/uploads/"), content=b"x").status_code == 403
    assert web.get(url.replace("signature=", "signature=0")).status_code == 403
    stage.clock.now += 24 * 3600 + 1
    assert web.get(url).status_code == 403


def test_a_deleted_file_is_gone(web: Web) -> None:
    file = send_file(web)
    query = "mutation D($f: [ID!]!) { deleteFiles(input: {files: $f}) { success } }"
    assert web.ask(query, f=[file["id"]])["data"]["deleteFiles"]["success"]
    assert web.ask(RUN_FILES)["data"]["project"]["run"]["fileCount"] == 0
    assert web.get(file["directUrl"]).status_code == 404


def test_a_deleted_run_takes_its_files_along(stage: Stage, web: Web) -> None:
    send_file(web)
    run_id = stage.run("r").id
    run_ending.delete(stage.world, run_id, with_artifacts=False)
    assert not (stage.world.files / str(run_id)).exists()


def test_a_run_that_an_agent_owes_is_not_deleted(stage: Stage) -> None:
    sweep = stage.sweep({"method": "random", "parameters": {"x": {"value": 1}}})
    name = stage.issued(stage.agent(sweep))
    with pytest.raises(RefusedError, match="stop it first"):
        run_ending.delete(stage.world, stage.run(name).id, with_artifacts=False)


def test_no_address_is_given_for_another_host(web: Web) -> None:
    assert send_file(web)["directUrl"].startswith(f"{URL}/downloads/")
