"""Artifacts: logged, used, downloaded, named, found, deleted."""

from __future__ import annotations

import os
from datetime import timedelta
from pathlib import Path
from typing import Any

import wandb

from tests.contract.clients.usage.steps import Part

NOT_HERE = "not supported by the parallel_hpo sweep server"
PROJECT = "artifacts"
DATA = f"local/{PROJECT}/data"
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


@part.step("artifact.metadata, description, size, file_count")
def _() -> None:
    artifact = api().artifact(f"{DATA}:v0")
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


@part.refused("run.link_model", NOT_HERE)
def _() -> None:
    with init("linker") as run:
        run.link_model("data.txt", registered_model_name="models")


@part.refused("run.upsert_artifact, run.finish_artifact", "artifacts that several runs write together")
def _() -> None:
    with init("together") as run:
        run.upsert_artifact(data("part"), distributed_id="all")
        run.finish_artifact(data("part"), distributed_id="all").wait()


@part.refused("run.link_artifact", NOT_HERE)
def _() -> None:
    with init("linker") as run:
        run.link_artifact(run.use_artifact("data:v1"), "model-registry/models")


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
