"""Artifacts: logged, used, downloaded, named, found, deleted."""

from __future__ import annotations

import os
import shutil
from datetime import timedelta
from pathlib import Path
from typing import Any

import wandb

from tests.contract.clients.usage.steps import Part

PROJECT = "artifacts"
DATA = f"local/{PROJECT}/data"
BEST = f"local/{PROJECT}/best"
part = Part()
os.chdir(os.environ["HOME"])


def api() -> Any:
    return wandb.Api()


def init(name: str) -> Any:
    return wandb.init(project=PROJECT, id=name)


def data(text: str, **options: Any) -> Any:
    Path("data.txt").write_text(text)
    artifact = wandb.Artifact("data", "dataset", **options)
    artifact.add_file("data.txt")
    return artifact


@part.step("run.log_artifact with files, a folder, a reference and a Table")
def _() -> None:
    Path("folder").mkdir(exist_ok=True)
    Path("folder/b.bin").write_bytes(bytes(range(256)) * 10)
    artifact = data("first", description="some data", metadata={"rows": 1})
    artifact.add_dir("folder", name="folder")
    artifact.add_reference(f"file://{Path('data.txt').absolute()}", name="reference.txt")
    artifact.add(wandb.Table(columns=["x"], data=[[1], [2]]), "table")
    with init("logger") as run:
        logged = run.log_artifact(artifact, aliases=["best"])
        logged.wait()
    assert logged.version == "v0"
    assert sorted(logged.aliases) == ["best", "latest"]


@part.step("run.use_artifact and artifact.download")
def _() -> None:
    with init("user") as run:
        folder = Path(run.use_artifact("data:latest").download())
    assert (folder / "data.txt").read_text() == (folder / "reference.txt").read_text() == "first"
    assert (folder / "folder/b.bin").read_bytes() == bytes(range(256)) * 10


@part.step("artifact.get of a Table, artifact.verify")
def _() -> None:
    artifact = api().artifact(f"{DATA}:best")
    artifact.verify(artifact.download())
    assert artifact.get("table").data == [[1], [2]]


@part.step("artifact.get_entry and its download with an empty cache, also after its address has expired")
def _() -> None:
    entry = api().artifact(f"{DATA}:v0").get_entry("folder/b.bin")
    expired = f"{os.environ['WANDB_BASE_URL']}/downloads/blobs/x?expires=1&signature=x"
    for folder, address in (("no-address", None), ("expired", expired)):
        shutil.rmtree(Path(os.environ["WANDB_CACHE_DIR"], "artifacts", "obj"))
        entry._download_url = address
        assert Path(entry.download(folder)).read_bytes() == bytes(range(256)) * 10


@part.step("artifact.metadata, description, size, file_count, commit_hash")
def _() -> None:
    artifact = api().artifact(f"{DATA}:v0")
    assert artifact.commit_hash
    assert (artifact.metadata, artifact.description) == ({"rows": 1}, "some data")
    assert artifact.file_count == 4
    assert artifact.size > 2560


@part.step("artifact.files and file.download")
def _() -> None:
    files = {file.name: file for file in api().artifact(f"{DATA}:v0").files()}
    assert set(files) == {"data.txt", "folder/b.bin", "reference.txt", "table.table.json"}
    files["data.txt"].download(root="got", replace=True)
    assert Path("got/data.txt").read_text() == "first"


def counts_files() -> bool:
    return hasattr(api().artifact(f"{DATA}:v0").files(), "__len__")


@part.step("len(artifact.files())", needs=counts_files)
def _() -> None:
    assert len(api().artifact(f"{DATA}:v0").files(per_page=1)) == 4


@part.step("artifact.logged_by and used_by")
def _() -> None:
    artifact = api().artifact(f"{DATA}:v0")
    assert (artifact.logged_by().id, [run.id for run in artifact.used_by()]) == ("logger", ["user"])


@part.step("run.logged_artifacts and used_artifacts")
def _() -> None:
    runs = [api().run(f"local/{PROJECT}/{name}") for name in ("logger", "user")]
    assert [artifact.name for artifact in runs[0].logged_artifacts()] == ["data:v0"]
    assert [artifact.name for artifact in runs[1].used_artifacts()] == ["data:v0"]


@part.step("the same content again is the same version")
def _() -> None:
    with init("twice") as run:
        for text in ("second", "second"):
            assert run.log_artifact(data(text)).wait().version == "v1"


@part.step("artifact.aliases, description, metadata and tags are changed by artifact.save")
def _() -> None:
    artifact = api().artifact(f"{DATA}:v0")
    artifact.aliases = ["gold"]
    artifact.description = "new"
    artifact.metadata["rows"] = 2
    artifact.tags = ["clean"]
    artifact.save()
    found = api().artifact(f"{DATA}:gold")
    assert (found.version, found.aliases, found.description) == ("v0", ["gold"], "new")
    assert (found.metadata, found.tags) == ({"rows": 2}, ["clean"])


@part.step("artifact tags: when it is logged, added and removed")
def _() -> None:
    with init("tagger") as run:
        run.log_artifact(data("tagged"), tags=["raw", "old"]).wait()
    artifact = api().artifact(f"{DATA}:v2")
    assert sorted(artifact.tags) == ["old", "raw"]
    artifact.tags = ["raw", "seen"]
    artifact.save()
    assert sorted(api().artifact(f"{DATA}:v2").tags) == ["raw", "seen"]
    assert [found.version for found in api().artifacts("dataset", DATA, tags=["seen"])] == ["v2"]
    artifact.delete(delete_aliases=True)


@part.step("Api.run(…).log_artifact of one that is there")
def _() -> None:
    run = api().run(f"local/{PROJECT}/user")
    run.log_artifact(api().artifact(f"{DATA}:v0"))
    assert [artifact.name for artifact in run.logged_artifacts()] == ["data:v0"]
    assert api().artifact(f"{DATA}:v0").logged_by().id == "logger"


@part.step("Api.artifacts in an order: version_index, +version_index, -version_index")
def _() -> None:
    for order, versions in (("version_index", "01"), ("+version_index", "01"), ("-version_index", "10")):
        found = api().artifacts("dataset", DATA, order=order)
        assert [artifact.version for artifact in found] == [f"v{number}" for number in versions]


@part.step("wandb.Table with log_mode INCREMENTAL: logged again, and by the resumed run")
def _() -> None:
    for numbers in ([1, 2, 3], [4]):
        with wandb.init(project=PROJECT, id="increments", resume="allow") as run:
            table = wandb.Table(columns=["x"], log_mode="INCREMENTAL")
            for number in numbers:
                table.add_data(number)
                run.log({"table": table})
    logged = api().run(f"local/{PROJECT}/increments").logged_artifacts()
    assert [artifact.version for artifact in logged] == ["v0", "v1", "v2", "v3"]
    newest = api().artifact(f"local/{PROJECT}/run-increments-incr-table:latest")
    assert newest.digest == newest.manifest.digest()
    assert newest.get(max(newest.manifest.entries)).data == [[1], [2], [3], [4]]


@part.step("Api.artifacts, Api.artifact_types, Api.artifact_collections")
def _() -> None:
    assert [artifact.version for artifact in api().artifacts("dataset", DATA)] == ["v1", "v0"]
    assert "dataset" in [kind.name for kind in api().artifact_types(f"local/{PROJECT}")]
    assert [one.name for one in api().artifact_collections(f"local/{PROJECT}", "dataset")] == ["data"]


@part.step("Api.artifact_exists")
def _() -> None:
    assert api().artifact_exists(f"{DATA}:v1")
    assert not api().artifact_exists(f"{DATA}:v7")


@part.step("run.log_model, run.use_model")
def _() -> None:
    Path("model.bin").write_text("weights")
    with init("modeller") as run:
        run.log_model("model.bin", name="model")
    with init("modelled") as run:
        assert Path(run.use_model("model:latest")).read_text() == "weights"


@part.step("artifact.new_draft, checkout, ttl")
def _() -> None:
    draft = api().artifact(f"local/{PROJECT}/model:v0").new_draft()
    draft.add_file("data.txt")
    with init("drafter") as run:
        assert run.log_artifact(draft).wait().version == "v1"
    artifact = api().artifact(f"local/{PROJECT}/model:v1")
    assert {"model.bin", "data.txt"} <= {path.name for path in Path(artifact.checkout("copy")).iterdir()}
    artifact.ttl = timedelta(days=3)
    artifact.save()
    assert api().artifact(f"local/{PROJECT}/model:v1").ttl == timedelta(days=3)


@part.step("a collection's description and name are changed, and it is deleted")
def _() -> None:
    collection = api().artifact_collection("model", f"local/{PROJECT}/model")
    collection.description = "weights"
    collection.name = "weights"
    collection.save()
    found = api().artifact_collection("model", f"local/{PROJECT}/weights")
    assert found.description == "weights"
    found.delete()
    assert not api().artifact_collection_exists(f"local/{PROJECT}/weights", "model")


@part.step("tags of a sequence and of a portfolio are saved, and others removed")
def _() -> None:
    with init("tagger") as run:
        run.log_artifact("data.txt", name="tagged", type="dataset").wait()
    api().artifact(f"local/{PROJECT}/tagged:v0").link(f"local/{PROJECT}/tagged-best")
    for name in ("tagged", "tagged-best"):
        for tags in (["night run", "small"], ["small", "kept"], []):
            collection = api().artifact_collection("dataset", f"local/{PROJECT}/{name}")
            collection.tags = tags
            collection.save()
            found = api().artifact_collection("dataset", f"local/{PROJECT}/{name}")
            assert sorted(found.tags) == sorted(tags)
        found.delete()


@part.refused("an artifact with a storage region that isn't there", "no storage region 'coreweave-us'")
def _() -> None:
    artifact = wandb.Artifact("far", type="dataset", storage_region="coreweave-us")
    artifact.add_file("data.txt")
    with init("far") as run:
        run.log_artifact(artifact).wait()


@part.step("an artifact's files have W&B's folder in their addresses")
def _() -> None:
    files = [file for file in api().artifact(f"{DATA}:v0").files() if file.name == "data.txt"]
    assert ["/downloads/wandb_artifacts/" in file.direct_url for file in files] == [True]
    with files[0].download("by-file") as file:
        assert file.read() == "first"


@part.step("a collection's type is changed, by change_type and by save")
def _() -> None:
    with init("retyper") as run:
        run.log_artifact("data.txt", name="moved", type="model").wait()
    api().artifact_collection("model", f"local/{PROJECT}/moved").change_type("weights")
    collection = api().artifact_collection("weights", f"local/{PROJECT}/moved")
    assert api().artifact(f"local/{PROJECT}/moved:v0").type == "weights"
    collection.type = "network"
    collection.save()
    api().artifact_collection("network", f"local/{PROJECT}/moved").delete()


@part.refused("a collection's new name that another one has already", "has a collection 'data' already")
def _() -> None:
    with init("renamer") as run:
        run.log_artifact("data.txt", name="renamed", type="dataset").wait()
    rename("data")


@part.refused("a collection's new name with a colon", "without '/' and ':'")
def _() -> None:
    rename("a:b")


def rename(name: str) -> None:
    collection = api().artifact_collection("dataset", f"local/{PROJECT}/renamed")
    collection.name = name
    collection.save()


@part.step("run.link_artifact and artifact.link to a portfolio of the project, and use by its name")
def _() -> None:
    with init("linker") as run:
        linked = run.link_artifact(run.use_artifact("data:v1"), "best", aliases=["prod"])
        assert (linked.qualified_name, linked.is_link) == (f"{BEST}:v0", True)
        assert linked.source_name == "data:v1"
        assert sorted(linked.aliases) == ["latest", "prod"]
    again = api().artifact(f"{DATA}:v0").link(BEST)
    assert (again.name, again.aliases) == ("best:v1", ["latest"])
    with init("linked") as run:
        used = run.use_artifact("best:prod")
        assert Path(used.download(), "data.txt").read_text() == "second"
        assert (used.aliases, used.source_artifact.aliases) == (["prod"], ["latest"])


@part.step("a portfolio's versions and aliases; artifact.linked_artifacts")
def _() -> None:
    portfolio = api().artifact_collection("dataset", BEST)
    found = [(artifact.name, artifact.version, artifact.is_link) for artifact in portfolio.artifacts()]
    assert found == [("best:v1", "v1", True), ("best:v0", "v0", True)]
    assert sorted(portfolio.aliases) == ["latest", "prod"]
    artifact = api().artifact(f"{BEST}:prod")
    artifact.aliases = ["staging"]
    artifact.save()
    (linked,) = api().artifact(f"{DATA}:v1").linked_artifacts
    assert (linked.qualified_name, sorted(linked.aliases)) == (f"{BEST}:v0", ["staging", "v0"])
    assert api().artifact(f"{DATA}:v1").aliases == ["latest"]


@part.step("artifact.unlink, and artifact.delete of a link")
def _() -> None:
    api().artifact(f"{BEST}:v1").unlink()
    assert api().artifact(f"{BEST}:latest").source_name == "data:v1"
    api().artifact(f"{BEST}:v0").delete()
    assert not any(api().artifact_exists(f"{BEST}:v{number}") for number in (0, 1))
    assert all(api().artifact_exists(f"{DATA}:v{number}") for number in (0, 1))


@part.step("a portfolio is described, renamed and deleted")
def _() -> None:
    assert api().artifact(f"{DATA}:v0").link(BEST).version == "v2"
    portfolio = api().artifact_collection("dataset", BEST)
    portfolio.description, portfolio.name = "the best", "better"
    portfolio.save()
    found = api().artifact_collection("dataset", f"local/{PROJECT}/better")
    assert (found.description, found.is_sequence()) == ("the best", False)
    found.delete()
    assert not api().artifact_collection_exists(f"local/{PROJECT}/better", "dataset")
    assert api().artifact_exists(f"{DATA}:v0")


@part.step("run.link_model, and run.use_model by the registered name")
def _() -> None:
    Path("model.bin").write_text("weights")
    with init("registrar") as run:
        run.link_model("model.bin", registered_model_name="models", aliases=["prod"])
        assert Path(run.use_model("model-registry/models:prod")).read_text() == "weights"


@part.refused("a link to a registry", "it has no registries (wandb-registry-…); link to a portfolio")
def _() -> None:
    api().artifact(f"{DATA}:v0").link("wandb-registry-model/models")


@part.refused("run.upsert_artifact, run.finish_artifact", "artifacts that several runs write together")
def _() -> None:
    with init("together") as run:
        run.upsert_artifact(data("part"), distributed_id="all")
        run.finish_artifact(data("part"), distributed_id="all").wait()


@part.refused("artifact.delete of one with aliases", "delete_aliases=True")
def _() -> None:
    api().artifact(f"{DATA}:v0").delete()


@part.step("artifact.delete(delete_aliases=True)")
def _() -> None:
    api().artifact(f"{DATA}:v0").delete(delete_aliases=True)
    assert [artifact.version for artifact in api().artifacts("dataset", DATA)] == ["v1"]
    assert api().artifact(f"{DATA}:latest").version == "v1"


@part.refused("a name that has another type already", "already exists with type", "has the type")
def _() -> None:
    with init("typed") as run:
        run.log_artifact("data.txt", name="data", type="model").wait()


part.run()
