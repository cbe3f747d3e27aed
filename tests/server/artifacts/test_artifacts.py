"""Artifacts and run files over HTTP without a port: cases that ordinary usage does not reach."""

from __future__ import annotations

import base64
import hashlib
import json
from typing import Any
from urllib.parse import urlsplit

import pytest

from parallel_hpo.server.values import RefusedError
from tests.server.application import Web
from tests.server.server_logic import Services, grid

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


def md5(content: bytes) -> str:
    return base64.b64encode(hashlib.md5(content, usedforsecurity=False).digest()).decode()


NEW = {
    "entityName": "local",
    "projectName": "p",
    "artifactTypeName": "dataset",
    "artifactCollectionName": "data",
    "digest": "d",
}
"""The fields that a client sends for a new artifact."""


def created(web: Web, name: str = "data", digest: str = "d", **more: Any) -> str:
    own = {"artifactCollectionName": name, "digest": digest, "clientID": f"client-{name}-{digest}"}
    artifact: str = web.done(CREATE, i=NEW | own | more)["createArtifact"]["artifact"]["id"]
    return artifact


def address_of_file(web: Web, artifact: str, content: bytes) -> str | None:
    wishes = {"artifactFiles": [{"artifactID": artifact, "name": "a.txt", "md5": md5(content)}]}
    (edge,) = web.ask(FILES, i=wishes)["data"]["createArtifactFiles"]["files"]["edges"]
    url: str | None = edge["node"]["uploadUrl"]
    return url


def test_an_artifact_file_is_stored_under_wandbs_storage_path(web: Web) -> None:
    wishes = {"artifactFiles": [{"artifactID": created(web), "name": "a.txt", "md5": md5(CONTENT)}]}
    query = FILES.replace("uploadUrl", "storagePath uploadUrl")
    (edge,) = web.ask(query, i=wishes)["data"]["createArtifactFiles"]["files"]["edges"]
    path = edge["node"]["storagePath"]
    assert path == f"wandb_artifacts/{base64.b64decode(md5(CONTENT)).hex()}"
    assert urlsplit(edge["node"]["uploadUrl"]).path == f"/uploads/{path}"


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


def send_increment(web: Web, digest: str, **files: bytes) -> str:
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
    project = web.done(VERSIONS, order=order)["project"]
    return [edge["version"] for edge in project["artifactCollection"]["artifacts"]["edges"]]


def blobs(services: Services) -> list[str]:
    return [path.name for path in (services.world.files / "blobs").iterdir()]


def test_an_unknown_storage_region_is_refused(web: Web) -> None:
    artifact, elsewhere = created(web), {"storageRegion": "mars"}
    files = {"artifactFiles": [{"artifactID": artifact, "name": "a.txt", "md5": md5(CONTENT)}]}
    send_manifest(web, artifact, {}, storagePolicyConfig=elsewhere)
    for query, wishes in (
        (CREATE, NEW | elsewhere),
        (FILES, files | elsewhere),
        (COMMIT, {"artifactID": artifact}),
    ):
        assert "no storage region 'mars'" in web.refused(query, i=wishes)


def test_a_file_that_is_already_stored_gets_no_upload_url(web: Web) -> None:
    logged(web)
    assert address_of_file(web, created(web, "other"), CONTENT) is None


def test_uploaded_content_with_a_different_digest_is_refused_with_400(services: Services, web: Web) -> None:
    url = address_of_file(web, created(web), CONTENT)
    assert url is not None
    assert web.put(url, content=b"other").status_code == 400
    assert blobs(services) == []


def commit_error(web: Web, artifact: str) -> str:
    return web.refused(COMMIT, i={"artifactID": artifact})


def test_an_artifact_with_a_missing_manifest_or_file_is_not_committed(web: Web) -> None:
    artifact = created(web)
    assert "manifest was not sent" in commit_error(web, artifact)
    send_manifest(web, artifact, {"a.txt": {"digest": md5(CONTENT)}})
    assert "'a.txt' was not sent" in commit_error(web, artifact)


OUTSIDE = ("../x", "/etc/passwd", "a/../../b")
MALFORMED: tuple[Any, ...] = (None, [], {"a": 1}, {"a": {}}, {"a": {"digest": "d", "size": -1}})


@pytest.mark.parametrize(
    ("contents", "why"),
    [
        *(({path: {"digest": md5(CONTENT)}}, "not a plain relative path") for path in OUTSIDE),
        *((contents, "manifest") for contents in MALFORMED),
    ],
)
def test_a_malformed_manifest_or_an_outside_path_is_refused(web: Web, contents: Any, why: str) -> None:
    artifact = created(web)
    send_manifest(web, artifact, contents)
    assert why in commit_error(web, artifact)


def test_a_repeated_commit_changes_nothing_and_a_deleted_version_number_is_not_reused(web: Web) -> None:
    artifact = logged(web)
    assert commit(web, artifact)["data"]["commitArtifact"]["artifact"]["versionIndex"] == 0
    web.ask(DELETE, i={"artifactID": artifact, "deleteAliases": True})
    answer = commit(web, logged(web, digest="e"))
    assert answer["data"]["commitArtifact"]["artifact"]["versionIndex"] == 1


def test_a_file_is_kept_while_an_artifact_contains_it(services: Services, web: Web) -> None:
    first, second = logged(web), logged(web, "other")
    web.ask(DELETE, i={"artifactID": first, "deleteAliases": True})
    assert len(blobs(services)) == 1
    web.ask(DELETE, i={"artifactID": second, "deleteAliases": True})
    assert blobs(services) == []


def hexdigest(content: bytes) -> str:
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


def test_an_incremental_version_extends_the_newest_version_at_its_commit(web: Web) -> None:
    logged(web)
    increments = [send_increment(web, "i", b=b"b", c=b"old"), send_increment(web, "j", c=b"new")]
    for artifact in increments:
        commit(web, artifact)
    newest = found(web)
    assert newest["versionIndex"] == 2
    whole = {"a.txt": CONTENT, "b": b"b", "c": b"new"}
    files = {edge["node"]["name"]: edge["node"]["md5"] for edge in newest["files"]["edges"]}
    assert files == {name: hexdigest(content) for name, content in whole.items()}
    address = newest["currentManifest"]["file"]["directUrl"]
    assert urlsplit(address).path.endswith("/wandb_manifest.json")
    contents = web.get(address).json()["contents"]
    digests = {name: md5(content) for name, content in whole.items()}
    assert {name: entry["digest"] for name, entry in contents.items()} == digests
    lines = "".join(f"{name}:{digest}\n" for name, digest in digests.items())
    assert newest["digest"] == hexdigest(f"wandb-artifact-manifest-v1\n{lines}".encode())


def test_an_invalid_tag_is_refused(web: Web) -> None:
    artifact, bad = logged(web), [{"tagName": "a/b"}]
    for query, wishes in (
        (UPDATE, {"artifactID": artifact, "tagsToAdd": bad}),
        (CREATE, NEW | {"tags": bad}),
    ):
        assert "tag 'a/b'" in web.refused(query, i=wishes)
    assert found(web)["tags"] == []


def test_logging_a_known_digest_without_files_reuses_its_version(services: Services, web: Web) -> None:
    """The Public API logs it this way. The first run remains its creator."""
    services.upsert("again")
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


def test_logging_a_known_digest_with_files_reuses_only_the_newest_version(web: Web) -> None:
    first, second = logged(web, digest="d"), logged(web, digest="e")
    assert created(web, digest="e") == second
    assert created(web, digest="d") != first


def test_versions_are_listed_in_the_requested_order(services: Services, web: Web) -> None:
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
    assert "version_index, created_at" in web.refused(VERSIONS, order="-name")


def test_each_version_has_its_own_commit_hash(web: Web) -> None:
    logged(web, digest="d")
    first = found(web)["commitHash"]
    assert first == found(web, "data:v0")["commitHash"]
    logged(web, digest="e")
    assert found(web)["commitHash"] not in (None, first)


@pytest.mark.parametrize("what", ["artifactCollectionName", "artifactTypeName"])
def test_an_invalid_collection_or_type_name_is_refused(web: Web, what: str) -> None:
    assert "'a:b': 1 to 128 characters" in web.refused(CREATE, i=NEW | {what: "a:b"})


def path_of_file(digest: str = hexdigest(CONTENT), birth: str = "QQ==") -> str:
    return f"/artifactsV2/default/local/p/data/{birth}/{digest}/a.txt"


def test_an_artifact_file_is_downloaded_by_digest_with_an_api_key(services: Services, web: Web) -> None:
    logged(web)
    for birth in ("QQ==", ""):
        answer = web.get(path_of_file(birth=birth))
        assert (answer.status_code, answer.content) == (200, CONTENT)
        assert answer.headers["x-content-type-options"] == "nosniff"
    with Web(services, key=None) as stranger:
        assert stranger.get(path_of_file()).status_code == 401
    assert web.get(path_of_file(hexdigest(b"not here"))).status_code == 404
    for digest in ("%2e%2e", ".incoming", "a" * 31, "A" * 32):
        assert web.get(path_of_file(digest)).status_code == 400


def test_a_run_assigned_to_an_agent_is_not_deleted(services: Services) -> None:
    name = services.issued(services.agent(services.sweep(grid(1))))
    with pytest.raises(RefusedError, match="stop it first"):
        services.delete(name)
