"""Artifacts: logged, used, downloaded, named, found, deleted."""

from __future__ import annotations

import os
import shutil
from datetime import timedelta
from pathlib import Path
from typing import Any

import wandb

from tests.contract.clients.usage.steps import Part, api

PROJECT = "artifacts"
HOME = f"local/{PROJECT}"
DATA, BEST = f"{HOME}/data", f"{HOME}/best"
BYTES = bytes(range(256)) * 10
part = Part()


def init(name: str) -> Any:
    return wandb.init(project=PROJECT, id=name)


def stored(name: str) -> Any:
    return api().artifact(f"{HOME}/{name}")


def exists(name: str) -> bool:
    return bool(api().artifact_exists(f"{HOME}/{name}"))


def collection(name: str, kind: str = "dataset") -> Any:
    return api().artifact_collection(kind, f"{HOME}/{name}")


def is_there(name: str, kind: str = "dataset") -> bool:
    return bool(api().artifact_collection_exists(f"{HOME}/{name}", kind))


def versions(**options: Any) -> list[str]:
    return [artifact.version for artifact in api().artifacts("dataset", DATA, **options)]


def data(text: str, **options: Any) -> Any:
    """Return a draft with one file of this text."""
    Path("data.txt").write_text(text)
    artifact = wandb.Artifact("data", "dataset", **options)
    artifact.add_file("data.txt")
    return artifact


def log(run_id: str, artifact: Any, **options: Any) -> Any:
    """Log an artifact, or a file as one, in its own run."""
    with init(run_id) as run:
        return run.log_artifact(artifact, **options).wait()


def change(changed: Any, **fields: object) -> None:
    """Change an artifact or a collection, and save it."""
    for name, value in fields.items():
        setattr(changed, name, value)
    changed.save()


@part.step("run.log_artifact with files, a folder, a reference and a Table")
def _() -> None:
    Path("folder").mkdir()
    Path("folder/b.bin").write_bytes(BYTES)
    artifact = data("first", description="some data", metadata={"rows": 1})
    artifact.add_dir("folder", name="folder")
    artifact.add_reference(f"file://{Path('data.txt').absolute()}", name="reference.txt")
    artifact.add(wandb.Table(columns=["x"], data=[[1], [2]]), "table")
    logged = log("logger", artifact, aliases=["best"])
    assert (logged.version, sorted(logged.aliases)) == ("v0", ["best", "latest"])


@part.step("run.use_artifact and artifact.download")
def _() -> None:
    with init("user") as run:
        folder = Path(run.use_artifact("data:latest").download())
    assert (folder / "data.txt").read_text() == (folder / "reference.txt").read_text() == "first"
    assert (folder / "folder/b.bin").read_bytes() == BYTES


@part.step("artifact.get of a Table, artifact.verify")
def _() -> None:
    artifact = stored("data:best")
    artifact.verify(artifact.download())
    assert artifact.get("table").data == [[1], [2]]


@part.step("artifact.get_entry and its download with an empty cache, also after its address has expired")
def _() -> None:
    entry = stored("data:v0").get_entry("folder/b.bin")
    expired = f"{os.environ['WANDB_BASE_URL']}/downloads/blobs/x?expires=1&signature=x"
    for folder, address in (("no-address", None), ("expired", expired)):
        shutil.rmtree(Path(os.environ["WANDB_CACHE_DIR"], "artifacts", "obj"))
        entry._download_url = address
        assert Path(entry.download(folder)).read_bytes() == BYTES


@part.step("artifact.metadata, description, size, file_count, commit_hash")
def _() -> None:
    artifact = stored("data:v0")
    assert (artifact.metadata, artifact.description) == ({"rows": 1}, "some data")
    assert artifact.file_count == 4 and artifact.size > len(BYTES) and artifact.commit_hash


@part.step("artifact.files and file.download; W&B's folder is in their addresses")
def _() -> None:
    assert len(stored("data:v0").files(per_page=1)) == 4
    files = {file.name: file for file in stored("data:v0").files()}
    assert set(files) == {"data.txt", "folder/b.bin", "reference.txt", "table.table.json"}
    assert "/downloads/wandb_artifacts/" in files["data.txt"].direct_url
    with files["data.txt"].download("by-file") as file:
        assert file.read() == "first"


@part.step("artifact.logged_by, used_by; run.logged_artifacts, used_artifacts")
def _() -> None:
    artifact = stored("data:v0")
    assert (artifact.logged_by().id, [run.id for run in artifact.used_by()]) == ("logger", ["user"])
    logger, user = (api().run(f"{HOME}/{name}") for name in ("logger", "user"))
    assert [found.name for found in logger.logged_artifacts()] == ["data:v0"]
    assert [found.name for found in user.used_artifacts()] == ["data:v0"]


@part.step("the same content again is the same version")
def _() -> None:
    assert [log("twice", data("second")).version for _ in range(2)] == ["v1", "v1"]


@part.step("artifact.aliases, description, metadata and tags are changed by artifact.save")
def _() -> None:
    changes = {"aliases": ["gold"], "description": "new", "metadata": {"rows": 2}, "tags": ["clean"]}
    change(stored("data:v0"), **changes)
    found = stored("data:gold")
    assert (found.version, {name: getattr(found, name) for name in changes}) == ("v0", changes)


@part.step("artifact tags: when it is logged, added and removed")
def _() -> None:
    log("tagger", data("tagged"), tags=["raw", "old"])
    artifact = stored("data:v2")
    assert sorted(artifact.tags) == ["old", "raw"]
    change(artifact, tags=["raw", "seen"])
    assert sorted(stored("data:v2").tags) == ["raw", "seen"]
    assert versions(tags=["seen"]) == ["v2"]
    artifact.delete(delete_aliases=True)


@part.step("Api.run(…).log_artifact of one that is there")
def _() -> None:
    run = api().run(f"{HOME}/user")
    run.log_artifact(stored("data:v0"))
    assert [artifact.name for artifact in run.logged_artifacts()] == ["data:v0"]
    assert stored("data:v0").logged_by().id == "logger"


@part.step("wandb.Table with log_mode INCREMENTAL: logged again, and by the resumed run")
def _() -> None:
    for numbers in ([1, 2, 3], [4]):
        with wandb.init(project=PROJECT, id="increments", resume="allow") as run:
            table = wandb.Table(columns=["x"], log_mode="INCREMENTAL")
            for number in numbers:
                table.add_data(number)
                run.log({"table": table})
    logged = api().run(f"{HOME}/increments").logged_artifacts()
    assert [artifact.version for artifact in logged] == ["v0", "v1", "v2", "v3"]
    newest = stored("run-increments-incr-table:latest")
    assert newest.digest == newest.manifest.digest()
    assert newest.get(max(newest.manifest.entries)).data == [[1], [2], [3], [4]]


part.finds("Api.artifacts", versions, ["v1", "v0"])
part.finds(
    "Api.artifacts in an order: version_index, +version_index, -version_index",
    lambda: [versions(order=f"{sign}version_index") for sign in ("", "+", "-")],
    [["v0", "v1"], ["v0", "v1"], ["v1", "v0"]],
)
part.finds(
    "Api.artifact_types", lambda: "dataset" in [kind.name for kind in api().artifact_types(HOME)], True
)
part.finds(
    "Api.artifact_collections",
    lambda: [one.name for one in api().artifact_collections(HOME, "dataset")],
    ["data"],
)
part.finds("Api.artifact_exists", lambda: (exists("data:v1"), exists("data:v7")), (True, False))


@part.step("run.log_model, run.use_model")
def _() -> None:
    Path("model.bin").write_text("weights")
    with init("modeller") as run:
        run.log_model("model.bin", name="model")
    with init("modelled") as run:
        assert Path(run.use_model("model:latest")).read_text() == "weights"


@part.step("artifact.new_draft, checkout, ttl")
def _() -> None:
    draft = stored("model:v0").new_draft()
    draft.add_file("data.txt")
    assert log("drafter", draft).version == "v1"
    artifact = stored("model:v1")
    assert {"model.bin", "data.txt"} <= {path.name for path in Path(artifact.checkout("copy")).iterdir()}
    change(artifact, ttl=timedelta(days=3))
    assert stored("model:v1").ttl == timedelta(days=3)


@part.step("a collection's description and name are changed, and it is deleted")
def _() -> None:
    change(collection("model", "model"), description="weights", name="weights")
    found = collection("weights", "model")
    assert found.description == "weights"
    found.delete()
    assert not is_there("weights", "model")


@part.step("tags of a sequence and of a portfolio are saved, and others removed")
def _() -> None:
    log("tagger", "data.txt", name="tagged", type="dataset").link(f"{HOME}/tagged-best")
    for name in ("tagged", "tagged-best"):
        for tags in (["night run", "small"], ["small", "kept"], []):
            change(collection(name), tags=tags)
            assert sorted(collection(name).tags) == sorted(tags)
        collection(name).delete()


@part.step("a collection's type is changed, by change_type and by save")
def _() -> None:
    log("retyper", "data.txt", name="moved", type="model")
    collection("moved", "model").change_type("weights")
    assert stored("moved:v0").type == "weights"
    change(collection("moved", "weights"), type="network")
    collection("moved", "network").delete()


@part.step("run.link_artifact and artifact.link to a portfolio of the project, and use by its name")
def _() -> None:
    with init("linker") as run:
        linked = run.link_artifact(run.use_artifact("data:v1"), "best", aliases=["prod"])
        assert (linked.qualified_name, linked.is_link) == (f"{BEST}:v0", True)
        assert (linked.source_name, sorted(linked.aliases)) == ("data:v1", ["latest", "prod"])
    again = stored("data:v0").link(BEST)
    assert (again.name, again.aliases) == ("best:v1", ["latest"])
    with init("linked") as run:
        used = run.use_artifact("best:prod")
        assert Path(used.download(), "data.txt").read_text() == "second"
        assert (used.aliases, used.source_artifact.aliases) == (["prod"], ["latest"])


@part.step("a portfolio's versions and aliases; artifact.linked_artifacts")
def _() -> None:
    portfolio = collection("best")
    assert sorted(portfolio.aliases) == ["latest", "prod"]
    found = [(artifact.name, artifact.version, artifact.is_link) for artifact in portfolio.artifacts()]
    assert found == [("best:v1", "v1", True), ("best:v0", "v0", True)]
    change(stored("best:prod"), aliases=["staging"])
    (linked,) = stored("data:v1").linked_artifacts
    assert (linked.qualified_name, sorted(linked.aliases)) == (f"{BEST}:v0", ["staging", "v0"])
    assert stored("data:v1").aliases == ["latest"]


@part.step("artifact.unlink, and artifact.delete of a link")
def _() -> None:
    stored("best:v1").unlink()
    assert stored("best:latest").source_name == "data:v1"
    stored("best:v0").delete()
    names = ("best:v0", "best:v1", "data:v0", "data:v1")
    assert [exists(name) for name in names] == [False, False, True, True]


@part.step("a portfolio is described, renamed and deleted")
def _() -> None:
    assert stored("data:v0").link(BEST).version == "v2"
    change(collection("best"), description="the best", name="better")
    found = collection("better")
    assert (found.description, found.is_sequence()) == ("the best", False)
    found.delete()
    assert (is_there("better"), exists("data:v0")) == (False, True)


@part.step("run.link_model, and run.use_model by the registered name")
def _() -> None:
    Path("model.bin").write_text("weights")
    with init("registrar") as run:
        run.link_model("model.bin", registered_model_name="models", aliases=["prod"])
        assert Path(run.use_model("model-registry/models:prod")).read_text() == "weights"


def write_together() -> None:
    with init("together") as run:
        run.upsert_artifact(data("part"), distributed_id="all")
        run.finish_artifact(data("part"), distributed_id="all").wait()


part.refuses(
    "run.upsert_artifact, run.finish_artifact", write_together, "artifacts that several runs write together"
)
part.refuses(
    "an artifact with a storage region that isn't there",
    lambda: log("far", data("far", storage_region="coreweave-us")),
    "no storage region 'coreweave-us'",
)
part.refuses(
    "a link to a registry",
    lambda: stored("data:v0").link("wandb-registry-model/models"),
    "it has no registries (wandb-registry-…); link to a portfolio",
)
part.refuses(
    "a name that has another type already",
    lambda: log("typed", "data.txt", name="data", type="model"),
    *("already exists with type", "has the type"),
)
part.refuses("artifact.delete of one with aliases", lambda: stored("data:v0").delete(), "delete_aliases=True")


@part.step("artifact.delete(delete_aliases=True)")
def _() -> None:
    stored("data:v0").delete(delete_aliases=True)
    assert (versions(), stored("data:latest").version) == (["v1"], "v1")
