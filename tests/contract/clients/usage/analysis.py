"""wandb.Api(): runs, histories and files in an analysis notebook."""

from __future__ import annotations

from math import isnan, nan
from pathlib import Path
from typing import Any

import wandb

from tests.contract.clients.usage.steps import Part, api

NOT_HERE = "not supported by the parallel_hpo sweep server"
PROJECT = "analysis"
PATH = f"local/{PROJECT}"
ROWS = 1200
"""More lines than one page of the history."""
part = Part()


def stored(name: str) -> Any:
    return api().run(f"{PATH}/{name}")


def names_of(**options: Any) -> list[str]:
    return [run.id for run in api().runs(PATH, **options)]


def column(key: str, **options: Any) -> list[Any]:
    """Return a column of the long run's history."""
    return [row[key] for row in stored("long").scan_history(**options)]


def files_of(name: str, **options: Any) -> list[str]:
    return [file.name for file in stored(name).files(**options)]


@part.step("Api.runs: all, and their number")
def _() -> None:
    for name, loss in (("low", 1.0), ("high", 9.0), ("middle", 5.0), ("none", None), ("nan", nan)):
        with wandb.init(
            project=PROJECT, id=name, config={"kind": {"of": name}, "lr": loss or 0}, tags=[name]
        ) as run:
            run.log({} if loss is None else {"loss": loss})
    with wandb.init(project=PROJECT, id="long") as run:
        for value in range(ROWS):
            run.log({"a": value, "nan": nan} | ({"odd": value} if value % 2 else {}))
        print("the first line")
        print("the last line")
    assert len(api().runs(PATH)) == len(names_of()) == 6


part.finds(
    "Api.viewer, Api.default_entity",
    lambda: (api().viewer.username, api().default_entity),
    ("local", "local"),
)


@part.step("Api.projects, Api.project, Api.create_project")
def _() -> None:
    api().create_project("made", "local")
    assert {PROJECT, "made"} <= {project.name for project in api().projects("local")}
    assert api().project(PROJECT, "local").name == PROJECT


FILTERS: dict[str, tuple[dict[str, Any], list[str]]] = {
    "config": ({"config.kind.of": "low"}, ["low"]),
    "tags and state": ({"tags": {"$in": ["high"]}, "state": "finished"}, ["high"]),
    "$or of names": ({"$or": [{"name": "low"}, {"display_name": "none"}]}, ["low", "none"]),
    "summary metrics": ({"summary_metrics.loss": {"$gt": 2, "$lte": 5}}, ["middle"]),
    "$regex and $ne": ({"name": {"$regex": "^lo", "$ne": "long"}}, ["low"]),
}


@part.step(f"Api.runs with filters on {', '.join(FILTERS)}")
def _() -> None:
    for filters, found in FILTERS.values():
        assert names_of(filters=filters, order="+name") == found


part.finds(
    "Api.runs in the order of creation, page by page",
    lambda: names_of(order="+created_at", per_page=2),
    ["low", "high", "middle", "none", "nan", "long"],
)


@part.step("Api.runs in the order of a metric; missing and NaN last, both ways")
def _() -> None:
    upwards = names_of(order="+summary_metrics.loss")
    downwards = names_of(order="-summary_metrics.loss", per_page=2)
    assert upwards[:3] == ["low", "middle", "high"] == downwards[2::-1]
    assert set(upwards[3:]) == set(downwards[3:]) == {"none", "nan", "long"}


part.refuses("Api.run of one that isn't there", lambda: stored("nobody"), "Could not find run")
part.finds("run.history, sampled", lambda: len(stored("long").history(samples=100, pandas=False)), 100)
part.finds(
    "run.history with keys",
    lambda: [row["odd"] for row in stored("long").history(samples=2000, keys=["odd"], pandas=False)],
    list(range(1, ROWS, 2)),
)
part.finds(
    "run.scan_history: all rows, exactly",
    lambda: (column("a"), all(map(isnan, column("nan")))),
    (list(range(ROWS)), True),
)
part.finds(
    "run.scan_history with keys and steps",
    lambda: column("a", keys=["a"], page_size=100, min_step=500, max_step=700),
    list(range(500, 700)),
)
part.finds(
    "run.scan_history of a key that some rows have, page by page",
    lambda: column("odd", keys=["odd"], page_size=300),
    list(range(1, ROWS, 2)),
)
part.finds(
    "run.beta_scan_history",
    lambda: [row["a"] for row in stored("long").beta_scan_history(keys=["a"])],
    list(range(ROWS)),
)
part.finds("run.lastHistoryStep", lambda: stored("long").lastHistoryStep, ROWS - 1)
part.finds(
    "run.history_keys", lambda: {"a", "odd", "_step"} <= stored("long").history_keys["keys"].keys(), True
)


@part.step("run.files, run.file, file.download")
def _() -> None:
    assert {"config.yaml", "wandb-summary.json"} <= set(files_of("low"))
    stored("low").file("config.yaml").download(root="got", replace=True)
    assert "lr" in Path("got/config.yaml").read_text()


@part.step("run.files by names, by pattern, page by page")
def _() -> None:
    assert files_of("low", names=["config.yaml"]) == ["config.yaml"]
    assert all(name.endswith(".json") for name in files_of("low", pattern="%.json"))
    assert len(files_of("low", per_page=1)) == len(stored("low").files())


@part.step("run.upload_file, file.delete")
def _() -> None:
    Path("late.txt").write_text("late")
    stored("low").upload_file("late.txt")
    (file,) = stored("low").files(names=["late.txt"])
    assert (file.size, file.mimetype) == (4, "text/plain")
    file.delete()
    assert files_of("low", names=["late.txt"]) == []


@part.step("run.console_logs", needs="wandb.apis.public.runs:Run.console_logs")
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
    assert names_of(filters={"tags": "more", "config.lr": 1}) == ["low"]


part.refuses(
    "run.download_history_exports",
    lambda: stored("long").download_history_exports("exports"),
    "IncompleteRunHistoryError",
)


@part.step("run.wait_until_finished, run.to_html, Api.from_path")
def _() -> None:
    run = api().from_path(f"{PATH}/long")
    run.wait_until_finished()
    assert run.url in run.to_html()


@part.step("Api.create_run, run.update_state")
def _() -> None:
    made = api().create_run(project=PROJECT).id
    for state in ("pending", "failed"):
        assert stored(made).update_state(state)
        assert stored(made).state == state


@part.step("run.stop")
def _() -> None:
    run = wandb.init(project=PROJECT, id="stopped")
    stored("stopped").stop()
    run.finish(exit_code=1)
    assert stored("stopped").state == "killed"


part.refuses(
    "run.update_state of a run that has ended", lambda: stored("stopped").update_state("failed"), "invalid"
)


@part.step("run.delete, also of one that is deleted")
def _() -> None:
    run = stored("middle")
    run.delete()
    run.delete(delete_artifacts=True)
    assert "middle" not in names_of()


@part.step("run.delete(delete_artifacts=True)")
def _() -> None:
    Path("model.txt").write_text("weights")
    with wandb.init(project=PROJECT, id="owner") as run:
        run.log_artifact("model.txt", name="model", type="model").wait()
    stored("owner").delete(delete_artifacts=True)
    assert not api().artifact_exists(f"{PATH}/model:v0")


@part.step("Api.viewer.api_keys, teams")
def _() -> None:
    viewer = api().viewer
    assert (viewer.api_keys, viewer.teams, viewer.admin) == (["local"], ["local"], False)


@part.step("Api.team, Api.create_team: any entity is one")
def _() -> None:
    for team in (api().team("vision"), api().create_team("vision")):
        assert (team.name, repr(team.members[0])) == ("vision", "<Member local (USER)>")


@part.step("Api.user, Api.users")
def _() -> None:
    assert api().user("local").email == api().users("loc")[0].email == "local@localhost"
    assert (api().user("nobody"), api().users("nobody")) == (None, [])


part.refuses("Api.create_user", lambda: api().create_user("a@example.com"), NOT_HERE)
part.refuses(
    "Api.organization of a name that isn't there",
    lambda: api().organization("acme"),
    "Organization 'acme' not found",
)
part.refuses("Api.organization", lambda: api().organization(), "it has no organizations")
part.refuses(
    "Api.create_run_queue, Api.run_queue, Api.queued_run",
    lambda: api().create_run_queue("queue", "local-process", entity="local"),
    "launch queues",
)
part.refuses(
    "Api.create_custom_chart",
    lambda: api().create_custom_chart("local", "name", "Name", "vega2", "private", {}),
    NOT_HERE,
)
part.refuses("Api.integrations", lambda: list(api().integrations("local")), NOT_HERE)
part.refuses("Api.registries", lambda: list(api().registries()), "not enabled on this wandb server")
part.refuses("Api.automations", lambda: list(api().automations()), "upport")
part.refuses("Api.reports", lambda: list(api().reports(PATH)), NOT_HERE)
