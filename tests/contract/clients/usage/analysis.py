"""wandb.Api(): what an analysis notebook does with runs, histories and files."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import wandb

from tests.contract.clients.usage.steps import Part

NOT_HERE = "not supported by the parallel_hpo sweep server"
PROJECT = "analysis"
PATH = f"local/{PROJECT}"
ROWS = 1200
part = Part()
os.chdir(os.environ["HOME"])

for name, loss in (("low", 1.0), ("high", 9.0), ("middle", 5.0), ("none", None), ("nan", float("nan"))):
    with wandb.init(
        project=PROJECT, id=name, config={"kind": {"of": name}, "lr": loss or 0}, tags=[name]
    ) as run:
        run.log({} if loss is None else {"loss": loss})
with wandb.init(project=PROJECT, id="long") as run:
    for value in range(ROWS):
        run.log({"a": value, "nan": float("nan")} | ({"odd": value} if value % 2 else {}))
    print("the first line")
    print("the last line")


def api() -> Any:
    return wandb.Api()


def stored(name: str) -> Any:
    return api().run(f"{PATH}/{name}")


def names_of(**options: Any) -> list[str]:
    return [run.id for run in api().runs(PATH, **options)]


def has(method: str) -> bool:
    return hasattr(stored("long"), method)


@part.step("Api.viewer, Api.default_entity")
def _() -> None:
    assert (api().viewer.username, api().default_entity) == ("local", "local")


@part.step("Api.projects, Api.project, Api.create_project")
def _() -> None:
    api().create_project("made", "local")
    assert {PROJECT, "made"} <= {project.name for project in api().projects("local")}
    assert api().project(PROJECT, "local").name == PROJECT


@part.step("Api.runs: all, and their number")
def _() -> None:
    assert len(api().runs(PATH)) == len(names_of()) == 6


@part.step("Api.runs with filters on config, tags, state, name")
def _() -> None:
    assert names_of(filters={"config.kind.of": "low"}) == ["low"]
    assert names_of(filters={"tags": {"$in": ["high"]}, "state": "finished"}) == ["high"]
    assert names_of(filters={"$or": [{"name": "low"}, {"display_name": "none"}]}, order="+name") == [
        "low",
        "none",
    ]


@part.step("Api.runs with filters on summary metrics, $regex, $ne")
def _() -> None:
    assert names_of(filters={"summary_metrics.loss": {"$gt": 2, "$lte": 5}}) == ["middle"]
    assert names_of(filters={"name": {"$regex": "^lo", "$ne": "long"}}) == ["low"]


@part.step("Api.runs in an order; missing and NaN last, both ways")
def _() -> None:
    upwards = names_of(order="+summary_metrics.loss")
    downwards = names_of(order="-summary_metrics.loss", per_page=2)
    assert upwards[:3] == ["low", "middle", "high"] == downwards[2::-1]
    assert set(upwards[3:]) == set(downwards[3:]) == {"none", "nan", "long"}


@part.step("Api.runs in the order of creation, page by page")
def _() -> None:
    assert names_of(order="+created_at", per_page=2) == ["low", "high", "middle", "none", "nan", "long"]


@part.refused("Api.run of one that isn't there", "Could not find run")
def _() -> None:
    stored("nobody")


@part.step("run.history, sampled")
def _() -> None:
    assert len(stored("long").history(samples=100, pandas=False)) == 100


@part.step("run.history with keys")
def _() -> None:
    rows = stored("long").history(samples=2000, keys=["odd"], pandas=False)
    assert [row["odd"] for row in rows] == list(range(1, ROWS, 2))


@part.step("run.scan_history: all rows, exactly")
def _() -> None:
    rows = list(stored("long").scan_history())
    assert [row["a"] for row in rows] == list(range(ROWS))
    assert all(row["nan"] != row["nan"] for row in rows)


@part.step("run.scan_history with keys and steps")
def _() -> None:
    rows = stored("long").scan_history(keys=["a"], page_size=100, min_step=500, max_step=700)
    assert [row["a"] for row in rows] == list(range(500, 700))


@part.step("run.lastHistoryStep, run.history_keys")
def _() -> None:
    run = stored("long")
    assert run.lastHistoryStep == ROWS - 1
    assert {"a", "odd", "_step"} <= run.history_keys["keys"].keys()


@part.step("run.files, run.file, file.download")
def _() -> None:
    run = stored("low")
    assert {"config.yaml", "wandb-summary.json"} <= {file.name for file in run.files()}
    run.file("config.yaml").download(root="got", replace=True)
    assert "lr" in Path("got/config.yaml").read_text()


@part.step("run.files by names, by pattern, page by page")
def _() -> None:
    run = stored("low")
    assert [file.name for file in run.files(names=["config.yaml"])] == ["config.yaml"]
    assert all(file.name.endswith(".json") for file in run.files(pattern="%.json"))
    assert len(list(run.files(per_page=1))) == len(run.files())


@part.step("run.upload_file, file.delete")
def _() -> None:
    Path("late.txt").write_text("late")
    stored("low").upload_file("late.txt")
    (file,) = stored("low").files(names=["late.txt"])
    assert (file.size, file.mimetype) == (4, "text/plain")
    file.delete()
    assert list(stored("low").files(names=["late.txt"])) == []


@part.step("run.console_logs", needs=lambda: has("console_logs"))
def _() -> None:
    contents = [line.content for line in stored("long").console_logs()]
    assert contents[-2:] == ["the first line", "the last line"]
    assert [line.content for line in stored("long").console_logs(last=1)] == ["the last line"]


@part.step("run.update of name, tags, notes, config, summary")
def _() -> None:
    run = stored("low")
    run.name, run.notes = "renamed", "noted"
    run.tags.append("more")
    run.config["extra"] = [1, 2]
    run.summary["score"] = 3.5
    run.update()
    run = stored("low")
    assert (run.name, run.notes, run.tags) == ("renamed", "noted", ["low", "more"])
    assert (run.config["extra"], run.summary["score"]) == ([1, 2], 3.5)


@part.step("run.beta_scan_history", needs=lambda: has("beta_scan_history"))
def _() -> None:
    assert [row["a"] for row in stored("long").beta_scan_history(keys=["a"])] == list(range(ROWS))


@part.refused(
    "run.download_history_exports", "IncompleteRunHistoryError", needs=lambda: has("download_history_exports")
)
def _() -> None:
    stored("long").download_history_exports("exports")


@part.step("run.wait_until_finished, run.to_html, Api.from_path")
def _() -> None:
    run = api().from_path(f"{PATH}/long")
    run.wait_until_finished()
    assert run.url in run.to_html()


@part.step("Api.create_run")
def _() -> None:
    made = api().create_run(project=PROJECT)
    assert stored(made.id).id == made.id


@part.step("run.stop", needs=lambda: has("stop"))
def _() -> None:
    run = wandb.init(project=PROJECT, id="stopped")
    stored("stopped").stop()
    run.finish(exit_code=1)
    assert stored("stopped").state == "killed"


@part.step("run.delete")
def _() -> None:
    stored("middle").delete()
    assert "middle" not in names_of()


@part.step("run.delete(delete_artifacts=True)")
def _() -> None:
    Path("model.txt").write_text("weights")
    with wandb.init(project=PROJECT, id="owner") as run:
        run.log_artifact("model.txt", name="model", type="model").wait()
    stored("owner").delete(delete_artifacts=True)
    assert not api().artifact_exists(f"{PATH}/model:v0")


@part.step("run.delete of one that is deleted")
def _() -> None:
    made = api().create_run(project=PROJECT)
    run = stored(made.id)
    run.delete()
    run.delete(delete_artifacts=True)


@part.step("run.update_state", needs=lambda: has("update_state"))
def _() -> None:
    made = api().create_run(project=PROJECT)
    for state in ("pending", "failed"):
        assert stored(made.id).update_state(state)
        assert stored(made.id).state == state


@part.refused("run.update_state of a run that has failed", "invalid", needs=lambda: has("update_state"))
def _() -> None:
    made = api().create_run(project=PROJECT)
    for _ in range(2):
        stored(made.id).update_state("failed")


@part.step("Api.viewer.api_keys, teams")
def _() -> None:
    viewer = api().viewer
    assert (viewer.api_keys, viewer.teams, viewer.admin) == (["local"], ["local"], False)


@part.step("Api.team, Api.create_team: any entity is one")
def _() -> None:
    for team in (api().team("vision"), api().create_team("vision")):
        assert team.name == "vision"
        assert repr(team.members[0]) == "<Member local (USER)>"


@part.step("Api.user, Api.users")
def _() -> None:
    assert api().user("local").email == api().users("loc")[0].email == "local@localhost"
    assert (api().user("nobody"), api().users("nobody")) == (None, [])


@part.refused("Api.create_user", NOT_HERE)
def _() -> None:
    api().create_user("a@example.com")


@part.refused(
    "Api.organization of a name that isn't there",
    "Organization 'acme' not found",
    needs=lambda: hasattr(api(), "organization"),
)
def _() -> None:
    api().organization("acme")


@part.refused("Api.organization", "it has no organizations", needs=lambda: hasattr(api(), "organization"))
def _() -> None:
    api().organization()


@part.refused("Api.create_run_queue, Api.run_queue, Api.queued_run", "launch queues")
def _() -> None:
    api().create_run_queue("queue", "local-process", entity="local")


@part.refused("Api.create_custom_chart", NOT_HERE)
def _() -> None:
    api().create_custom_chart("local", "name", "Name", "vega2", "private", {})


@part.refused("Api.integrations", NOT_HERE)
def _() -> None:
    list(api().integrations("local"))


@part.refused("Api.registries", "not enabled on this wandb server")
def _() -> None:
    list(api().registries())


@part.refused("Api.automations", "upport")
def _() -> None:
    list(api().automations())


@part.refused("Api.reports", NOT_HERE)
def _() -> None:
    list(api().reports(PATH))


part.run()
