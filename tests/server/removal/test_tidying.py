"""Unfinished artifacts and uploads are removed, except those in progress."""

from __future__ import annotations

import os
import time

from parallel_hpo.server.artifacts import versions
from parallel_hpo.server.artifacts.versions import ArtifactFields
from parallel_hpo.server.removal import ABANDONED_BY_A_RUN_S, ABANDONED_S, tidy
from parallel_hpo.server.store import holdings
from tests.server.application import Web
from tests.server.artifacts.test_artifacts import (
    COMMIT,
    CONTENT,
    DELETE,
    address_of_file,
    blobs,
    commit,
    created,
    logged,
    md5,
    send_file_of_artifact,
    send_manifest,
)
from tests.server.server_logic import Services

OTHER = b"other content"
DEADLINE_S = 20.0


def sent_manifest(web: Web, artifact: str, content: bytes) -> str:
    send_manifest(web, artifact, {"a.txt": {"digest": md5(content), "size": len(content)}})
    return artifact


def begun(web: Web, name: str) -> str:
    """Create an artifact with its file and manifest, and don't commit it."""
    artifact = created(web, name)
    send_file_of_artifact(web, artifact, OTHER)
    return sent_manifest(web, artifact, OTHER)


def manifests(services: Services) -> int:
    return len(list((services.world.files / "manifests").iterdir()))


def test_the_files_of_an_abandoned_artifact_are_removed(services: Services, web: Web) -> None:
    logged(web)
    artifact = begun(web, "never")
    services.clock.now += ABANDONED_S - 1
    assert tidy(services.world).files == 0
    services.clock.now += 2
    taken = tidy(services.world)
    assert (taken.files, taken.size > len(OTHER)) == (2, True)
    assert (len(blobs(services)), manifests(services)) == (1, 1)
    assert "doesn't exist" in web.refused(COMMIT, i={"artifactID": artifact})


def test_an_unfinished_artifact_of_an_ended_run_is_removed_sooner(services: Services) -> None:
    for name in ("over", "on"):
        services.upsert(name)
        wishes = ArtifactFields("local", "p", name, "model", digest=name, run=name)
        versions.create(services.world, wishes)
    services.end("over", exitcode=1)
    for after_s, left in ((ABANDONED_BY_A_RUN_S - 1, 2), (2, 1)):
        services.clock.now += after_s
        tidy(services.world)
        ids = [services.run(name).id for name in ("over", "on")]
        with services.world.database.read() as transaction:
            assert sum(len(holdings.unfinished_of_run(transaction, run)) for run in ids) == left


def test_an_artifact_with_recent_activity_is_not_removed(services: Services, web: Web) -> None:
    artifact = begun(web, "slow")
    services.clock.now += ABANDONED_S - 1
    assert address_of_file(web, artifact, OTHER) is None
    services.clock.now += ABANDONED_S - 1
    tidy(services.world)
    assert commit(web, artifact).get("errors") is None


def test_a_file_that_a_client_need_not_send_is_kept_for_its_artifact(services: Services, web: Web) -> None:
    old = logged(web, "old")
    services.clock.now += 86400
    artifact = created(web, "new")
    assert address_of_file(web, artifact, CONTENT) is None
    web.ask(DELETE, i={"artifactID": old, "deleteAliases": True})
    tidy(services.world)
    assert commit(web, sent_manifest(web, artifact, CONTENT)).get("errors") is None


def test_an_unfinished_artifact_keeps_no_files_that_it_does_not_use(services: Services, web: Web) -> None:
    old = logged(web, "old")
    services.clock.now += 86400
    created(web, "new")
    web.ask(DELETE, i={"artifactID": old, "deleteAliases": True})
    assert blobs(services) == []


def test_a_running_server_removes_files_left_by_dead_servers(services: Services) -> None:
    files = services.world.files
    left = [files / ".incoming" / "begun", files / "77" / "a.txt", files / "blobs" / ("0" * 32)]
    for path in left:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"by a server that is dead")
        os.utime(path, (services.clock.now, services.clock.now))
    deadline = time.monotonic() + DEADLINE_S
    with Web(services, tidy_every_s=0.01) as web:
        while any(path.exists() for path in left):
            assert time.monotonic() < deadline
            web.get("/hpo/health")
    assert not left[1].parent.exists()
