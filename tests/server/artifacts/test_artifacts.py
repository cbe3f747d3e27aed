"""Artifacts and runs' files over HTTP without a port: what ordinary usage does not bring about."""

from __future__ import annotations

import base64
import hashlib
import json
from typing import Any
from urllib.parse import urlsplit

import pytest

from parallel_hpo.server import removal
from parallel_hpo.server.services import runs as run_service
from parallel_hpo.server.services.runs import RunUpsert
from parallel_hpo.server.values import RefusedError
from tests.server.acting import Services
from tests.server.web import URL, Web

CREATE = """mutation C($i: CreateArtifactInput!) { createArtifact(input: $i) { artifact { id state } } }"""
FILES = """mutation F($i: CreateArtifactFilesInput!) {
  createArtifactFiles(input: $i) { files { edges { node { uploadUrl } } } } }"""
MANIFEST = """mutation M($i: CreateArtifactManifestInput!) {
  createArtifactManifest(input: $i) { artifactManifest { file { uploadUrl } } } }"""
COMMIT = "mutation C($i: CommitArtifactInput!) { commitArtifact(input: $i) { artifact { id versionIndex } } }"
DELETE = "mutation D($i: DeleteArtifactInput!) { deleteArtifact(input: $i) { artifact { id } } }"
CONTENT = b"content"
UPDATE = "mutation U($i: UpdateArtifactInput!) { updateArtifact(input: $i) { artifact { id } } }"
ARTIFACT = """query A($name: String!) { project(name: "p") { artifact(name: $name) {
  versionIndex digest commitHash tags { name } createdBy { __typename ... on Run { name } }
  files { edges { node { name md5 } } } currentManifest { file { directUrl } } } } }"""
OUTPUTS = """query O($run: String!) { project(name: "p") { run(name: $run) {
  outputArtifacts { edges { version } } } } }"""
VERSIONS = """query V($order: String) { project(name: "p") { artifactCollection(name: "data") {
  artifacts(order: $order) { edges { version } } } } }"""
RUN_FILES = """query F { project(name: "p") { run(name: "r") { fileCount files { edges { node {
  id name sizeBytes md5 directUrl } } } } } }"""


def md5(content: bytes) -> str:
    return base64.b64encode(hashlib.md5(content, usedforsecurity=False).digest()).decode()


NEW = {
    "entityName": "local",
    "projectName": "p",
    "artifactTypeName": "dataset",
    "artifactCollectionName": "data",
    "digest": "d",
}
"""What a client tells of a new artifact."""


def created(web: Web, name: str = "data", digest: str = "d", **more: Any) -> str:
    own = {"artifactCollectionName": name, "digest": digest, "clientID": f"client-{name}-{digest}"}
    answer = web.ask(CREATE, i=NEW | own | more)
    artifact: str = answer["data"]["createArtifact"]["artifact"]["id"]
    return artifact


def address_of_file(web: Web, artifact: str, content: bytes) -> str | None:
    wishes = {"artifactFiles": [{"artifactID": artifact, "name": "a.txt", "md5": md5(content)}]}
    (edge,) = web.ask(FILES, i=wishes)["data"]["createArtifactFiles"]["files"]["edges"]
    url: str | None = edge["node"]["uploadUrl"]
    return url


def test_an_artifacts_file_is_stored_under_the_path_that_wandb_has(web: Web) -> None:
    wishes = {"artifactFiles": [{"artifactID": created(web), "name": "a.txt", "md5": md5(CONTENT)}]}
    query = FILES.replace("uploadUrl", "storagePath uploadUrl")
    (edge,) = web.ask(query, i=wishes)["data"]["createArtifactFiles"]["files"]["edges"]
    path = edge["node"]["storagePath"]
    assert path == f"wandb_artifacts/{base64.b64decode(md5(CONTENT)).hex()}"
    assert urlsplit(edge["node"]["uploadUrl"]).path == f"/uploads/{path}"


@pytest.mark.parametrize("wish", [CREATE, FILES])
def test_a_storage_region_that_is_not_here_is_refused_by_name(web: Web, wish: str) -> None:
    files = {"artifactFiles": [{"artifactID": created(web), "name": "a.txt", "md5": md5(CONTENT)}]}
    wishes = (NEW if wish == CREATE else files) | {"storageRegion": "mars"}
    message = web.ask(wish, i=wishes)["errors"][0]["message"]
    assert "no storage region 'mars'" in message


def test_a_manifest_of_a_storage_region_that_is_not_here_is_not_committed(web: Web) -> None:
    artifact = created(web)
    send_manifest(web, artifact, {}, storagePolicyConfig={"storageRegion": "mars"})
    assert "no storage region 'mars'" in web.ask(COMMIT, i={"artifactID": artifact})["errors"][0]["message"]


def send_manifest(web: Web, artifact: str, contents: Any, kind: str = "FULL", **more: Any) -> None:
    wishes = {"artifactID": artifact, "name": "m", "digest": "d", "entityName": "local", "projectName": "p"}
    answer = web.ask(MANIFEST, i=wishes | {"runName": "r", "type": kind})
    url = answer["data"]["createArtifactManifest"]["artifactManifest"]["file"]["uploadUrl"]
    assert web.put(url, content=json.dumps({"contents": contents} | more).encode()).status_code == 200


def commit(web: Web, artifact: str) -> Any:
    return web.ask(COMMIT, i={"artifactID": artifact})


def logged(web: Web, name: str = "data", digest: str = "d", **more: Any) -> str:
    artifact = created(web, name, digest, **more)
    send_file_of_artifact(web, artifact, CONTENT)
    send_manifest(web, artifact, {"a.txt": {"digest": md5(CONTENT), "size": len(CONTENT)}})
    assert commit(web, artifact).get("errors") is None
    return artifact


def send_file_of_artifact(web: Web, artifact: str, content: bytes) -> None:
    if (url := address_of_file(web, artifact, content)) is not None:
        web.put(url, content=content)


def incremented(web: Web, digest: str, **files: bytes) -> str:
    """Create an incremental version with these files by name, and send it."""
    artifact = created(web, digest=digest)
    for content in files.values():
        send_file_of_artifact(web, artifact, content)
    contents = {name: {"digest": md5(content), "size": len(content)} for name, content in files.items()}
    send_manifest(web, artifact, contents, "INCREMENTAL")
    return artifact


def found(web: Web, name: str = "data:latest") -> Any:
    return web.ask(ARTIFACT, name=name)["data"]["project"]["artifact"]


def versions(web: Web, order: str | None) -> list[str]:
    project = web.ask(VERSIONS, order=order)["data"]["project"]
    return [edge["version"] for edge in project["artifactCollection"]["artifacts"]["edges"]]


def blobs(services: Services) -> list[str]:
    return [path.name for path in (services.world.files / "blobs").iterdir()]


def test_a_file_that_is_here_already_is_not_asked_for_again(web: Web) -> None:
    logged(web)
    assert address_of_file(web, created(web, "other"), CONTENT) is None


def test_content_that_is_not_what_the_manifest_says_is_refused(services: Services, web: Web) -> None:
    url = address_of_file(web, created(web), CONTENT)
    assert url is not None
    assert web.put(url, content=b"other").status_code == 400
    assert blobs(services) == []


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


def test_a_file_is_kept_as_long_as_an_artifact_has_it(services: Services, web: Web) -> None:
    first, second = logged(web), logged(web, "other")
    web.ask(DELETE, i={"artifactID": first, "deleteAliases": True})
    assert len(blobs(services)) == 1
    web.ask(DELETE, i={"artifactID": second, "deleteAliases": True})
    assert blobs(services) == []


def test_a_deleted_versions_number_is_not_given_again(web: Web) -> None:
    web.ask(DELETE, i={"artifactID": logged(web), "deleteAliases": True})
    answer = commit(web, logged(web, digest="e"))
    assert answer["data"]["commitArtifact"]["artifact"]["versionIndex"] == 1


def test_an_increment_adds_to_the_newest_version_as_it_is_when_it_is_committed(web: Web) -> None:
    logged(web)
    increments = [incremented(web, "i", b=b"b", c=b"old"), incremented(web, "j", c=b"new")]
    for artifact in increments:
        commit(web, artifact)
    newest = found(web)
    files = {edge["node"]["name"]: edge["node"]["md5"] for edge in newest["files"]["edges"]}
    expected = {"a.txt": CONTENT, "b": b"b", "c": b"new"}
    assert files == {
        name: hashlib.md5(text, usedforsecurity=False).hexdigest() for name, text in expected.items()
    }
    address = newest["currentManifest"]["file"]["directUrl"]
    assert urlsplit(address).path.endswith("/wandb_manifest.json")
    contents = web.get(address).json()["contents"]
    assert {name: entry["digest"] for name, entry in contents.items()} == {
        name: md5(text) for name, text in expected.items()
    }
    assert newest["versionIndex"] == 2


def test_an_increments_digest_is_that_of_the_whole_version(web: Web) -> None:
    logged(web)
    commit(web, incremented(web, "i", b=b"b"))
    lines = f"wandb-artifact-manifest-v1\na.txt:{md5(CONTENT)}\nb:{md5(b'b')}\n"
    assert found(web)["digest"] == hashlib.md5(lines.encode(), usedforsecurity=False).hexdigest()


def test_the_first_increment_is_a_version_by_itself(web: Web) -> None:
    commit(web, incremented(web, "i", b=b"b"))
    assert [edge["node"]["name"] for edge in found(web)["files"]["edges"]] == ["b"]


def test_tags_are_kept_added_and_removed(web: Web) -> None:
    artifact = logged(web, tags=[{"tagName": "new"}, {"tagName": "old"}])
    assert found(web)["tags"] == [{"name": "new"}, {"name": "old"}]
    changes = {"tagsToAdd": [{"tagName": "a tag"}], "tagsToDelete": [{"tagName": "old"}]}
    web.ask(UPDATE, i={"artifactID": artifact} | changes)
    assert found(web)["tags"] == [{"name": "a tag"}, {"name": "new"}]


def test_a_tag_that_the_client_would_not_take_is_refused(web: Web) -> None:
    artifact, bad = logged(web), [{"tagName": "a/b"}]
    for query, wishes in (
        (UPDATE, {"artifactID": artifact, "tagsToAdd": bad}),
        (CREATE, NEW | {"tags": bad}),
    ):
        assert "tag 'a/b'" in web.ask(query, i=wishes)["errors"][0]["message"]
    assert found(web)["tags"] == []


def test_who_sends_no_files_logs_the_version_that_has_the_digest_again(services: Services, web: Web) -> None:
    """As the Public API does; the run that logged it first stays the one that made it."""
    run_service.upsert(services.world, RunUpsert(name="again", project="p"))
    first = logged(web, digest="d", runName="r", tags=[{"tagName": "a"}])
    logged(web, digest="e", runName="r")
    aliases = [{"artifactCollectionName": "data", "alias": "best"}]
    wishes: dict[str, Any] = {"clientID": None, "digestAlgorithm": "MANIFEST_MD5", "aliases": aliases}
    for _ in range(2):
        assert created(web, digest="d", runName="again", tags=[{"tagName": "b"}], **wishes) == first
    assert found(web, "data:best")["tags"] == [{"name": "a"}, {"name": "b"}]
    assert found(web, "data:best")["createdBy"]["name"] == "r"
    assert outputs(web, "again") == ["v0"]
    assert outputs(web, "r") == ["v0", "v1"]
    services.delete("again")
    assert found(web, "data:best")["versionIndex"] == 0


def outputs(web: Web, run: str) -> list[str]:
    edges = web.ask(OUTPUTS, run=run)["data"]["project"]["run"]["outputArtifacts"]["edges"]
    return [edge["version"] for edge in edges]


def test_who_sends_files_logs_only_the_newest_version_again(web: Web) -> None:
    first, second = logged(web, digest="d"), logged(web, digest="e")
    assert created(web, digest="e") == second
    assert created(web, digest="d") != first


def test_versions_have_an_order(services: Services, web: Web) -> None:
    artifacts = []
    for digest in "abc":
        services.clock.now += 1
        artifacts.append(logged(web, digest=digest))
    services.clock.now += 1
    web.ask(UPDATE, i={"artifactID": artifacts[0], "description": "changed"})
    orders = {None: "210", "version_index": "012", "+version_index": "012", "-version_index": "210"}
    orders |= {"created_at": "012", "-created_at": "210", "-updated_at": "021"}
    for order, expected in orders.items():
        assert versions(web, order) == [f"v{number}" for number in expected], order


def test_an_order_that_versions_do_not_have_is_named(web: Web) -> None:
    logged(web)
    assert "version_index, created_at" in web.ask(VERSIONS, order="-name")["errors"][0]["message"]


def test_a_version_has_a_commit_hash_of_its_own(web: Web) -> None:
    logged(web, digest="d")
    first = found(web)["commitHash"]
    assert first == found(web, "data:v0")["commitHash"]
    logged(web, digest="e")
    assert found(web)["commitHash"] not in (None, first)


@pytest.mark.parametrize("what", ["artifactCollectionName", "artifactTypeName"])
def test_a_name_that_the_client_could_not_name_again_is_refused(web: Web, what: str) -> None:
    answer = web.ask(CREATE, i=NEW | {what: "a:b"})
    assert "'a:b': 1 to 128 characters" in answer["errors"][0]["message"]


def path_of_file(content: bytes, birth: str = "QQ==", digest: str | None = None) -> str:
    digest = digest or hashlib.md5(content, usedforsecurity=False).hexdigest()
    return f"/artifactsV2/default/local/p/data/{birth}/{digest}/a.txt"


def test_a_file_of_an_artifact_is_fetched_by_its_digest_with_a_key(services: Services, web: Web) -> None:
    logged(web)
    for birth in ("QQ==", ""):
        answer = web.get(path_of_file(CONTENT, birth))
        assert (answer.status_code, answer.content) == (200, CONTENT)
        assert answer.headers["x-content-type-options"] == "nosniff"
    with Web(services, key=None) as stranger:
        assert stranger.get(path_of_file(CONTENT)).status_code == 401


def test_a_digest_that_no_file_has_or_that_is_none_leads_nowhere(web: Web) -> None:
    assert web.get(path_of_file(b"not here")).status_code == 404
    for digest in ("%2e%2e", ".incoming", "a" * 31, "A" * 32):
        assert web.get(path_of_file(CONTENT, digest=digest)).status_code == 400


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


def test_an_address_to_fetch_does_not_allow_to_send(services: Services, web: Web) -> None:
    url = send_file(web)["directUrl"]
    assert web.put(url.replace("/downloads/", "/uploads/"), content=b"x").status_code == 403
    assert web.get(url.replace("signature=", "signature=0")).status_code == 403
    services.clock.now += 24 * 3600 + 1
    assert web.get(url).status_code == 403


def test_a_deleted_file_is_gone(web: Web) -> None:
    file = send_file(web)
    query = "mutation D($f: [ID!]!) { deleteFiles(input: {files: $f}) { success } }"
    assert web.ask(query, f=[file["id"]])["data"]["deleteFiles"]["success"]
    assert web.ask(RUN_FILES)["data"]["project"]["run"]["fileCount"] == 0
    assert web.get(file["directUrl"]).status_code == 404


def test_a_deleted_run_takes_its_files_along(services: Services, web: Web) -> None:
    send_file(web)
    run_id = services.run("r").id
    removal.delete_run(services.world, run_id, with_artifacts=False)
    assert not (services.world.files / str(run_id)).exists()


def test_a_run_that_an_agent_owes_is_not_deleted(services: Services) -> None:
    sweep = services.sweep({"method": "random", "parameters": {"x": {"value": 1}}})
    name = services.issued(services.agent(sweep))
    with pytest.raises(RefusedError, match="stop it first"):
        removal.delete_run(services.world, services.run(name).id, with_artifacts=False)


def test_no_address_is_given_for_another_host(web: Web) -> None:
    assert send_file(web)["directUrl"].startswith(f"{URL}/downloads/")
