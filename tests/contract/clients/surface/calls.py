"""Calls all that the wandb client documents, in this process's run: `main` of a sweep, a program, a script.

The case is the run's parameter `case`, or the argument `--case`; what each call brought is written as JSON
into the folder that SURFACE names. Workers import this, so that little else of the tests is imported.
"""

from __future__ import annotations

import copy
import json
import os
import pickle
import sys
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, Final

import wandb
import yaml

from tests.contract.clients.surface.book import Book, arguments_of, documented

ENTITY: Final = "local"
PROJECT: Final = "uncategorized"
INITS: Final[dict[str, dict[str, Any]]] = {
    "entity": {"entity": ENTITY},
    "project": {"project": PROJECT},
    "dir": {"dir": "elsewhere"},
    "id": {"id": "own-id"},
    "name": {"name": "a name"},
    "notes": {"notes": "some notes"},
    "tags": {"tags": ["a", "b"]},
    "config": {"config": {"depth": 2}},
    "config of a file": {"config": "defaults.yaml"},
    "config_exclude_keys": {"config": {"a": 1, "b": 2}, "config_exclude_keys": ["a"]},
    "config_include_keys": {"config": {"a": 1, "b": 2}, "config_include_keys": ["a"]},
    "allow_val_change": {"config": {"a": 1}, "allow_val_change": True},
    "group": {"group": "g"},
    "job_type": {"job_type": "train"},
    "mode online": {"mode": "online"},
    "mode offline": {"mode": "offline"},
    "mode disabled": {"mode": "disabled"},
    "mode shared": {"mode": "shared"},
    "force": {"force": True},
    "reinit default": {"reinit": "default"},
    "reinit return_previous": {"reinit": "return_previous"},
    "reinit finish_previous": {"reinit": "finish_previous"},
    "reinit create_new": {"reinit": "create_new"},
    "reinit True": {"reinit": True},
    "reinit False": {"reinit": False},
    "resume allow": {"resume": "allow"},
    "resume never": {"resume": "never"},
    "resume must": {"resume": "must"},
    "resume auto": {"resume": "auto"},
    "resume True": {"resume": True},
    "resume_from": {"resume_from": "no-run?_step=1"},
    "fork_from": {"fork_from": "no-run?_step=1"},
    "save_code": {"save_code": True},
    "tensorboard": {"tensorboard": True},
    "sync_tensorboard": {"sync_tensorboard": True},
    "monitor_gym": {"monitor_gym": True},
    "anonymous": {"anonymous": "never"},
    "settings as a dict": {"settings": {"run_notes": "by settings", "x_label": "l"}},
    "settings as an object": {"settings": wandb.Settings(run_notes="by settings", x_label="l")},
    "settings with stop_fn": {"settings": wandb.Settings(stop_fn=print)},
}
FACTS: Final = ("notes", "tags", "group", "job_type", "resumed", "offline", "disabled", "project", "dir")
RUN_TYPES: Final = ("start_time", "step", "status", "to_html", "project_url", "sweep_url", "url")
ARTIFACT_TYPES: Final = ("id", "created_at", "updated_at", "linked_at", "commit_hash", "url", "wait")
SETTINGS_TYPES: Final = ("x_start_time", "x_stats_pid", "api_key", "timespec")
PLACES: Final = {"WANDB_RUN_ID": "RUN", "WANDB_DIR": "DIR"}
EXEMPT: Final = ("Api.sync_tensorboard",)
"""What is not called: it waits for ever where there are no TensorBoard files."""


def perform(case: str) -> None:
    """Make the calls of a case and write down what they brought."""
    book = Book()
    for folder in ("src", "got"):
        Path(folder).mkdir(exist_ok=True)
    Path("src/a.txt").write_text("a")
    Path("src/b.py").write_text("b = 1\n")
    Path("defaults.yaml").write_text("depth:\n  value: 2\n")
    first: Any = None
    if case in CASES:
        run = wandb.init(notes="n", tags=["t"], group="g", job_type="j", config={"given": 1})
        book.know(run)
        run.log({"loss": 1.0})
        CASES[case](book, run)
        run.finish()
    else:
        first = _init(book, case)
    text = json.dumps({"rows": book.rows, "missing": _missing(book, case)}, default=str)
    Path(os.environ["SURFACE"], f"{case}.json").write_text(text)
    with suppress(Exception):  # a case that was refused has left no run open: the sweep's is to end
        run = first or wandb.run or wandb.init(resume="allow")
        run.log({"loss": 1.0})
        run.finish()


def _init(book: Book, case: str) -> Any:
    arguments = INITS[case]
    book.names |= {os.environ[name]: word for name, word in PLACES.items() if name in os.environ}
    book.names |= {str(Path.cwd()): "CWD"}
    first = wandb.init() if case.startswith("reinit") else None
    name = f"init({case})"

    def act() -> dict[str, object]:
        run = wandb.init(**arguments)
        book.know(run)
        facts = {name: getattr(run, name) for name in FACTS} | {
            "x_label": case.startswith("settings") and run.settings.x_label
        }
        facts |= {"the first": run is first, "stop_fn": run.settings.stop_fn is not None}
        config: Any = run.config
        facts |= {key: config.get(key) for key in ("a", "b", "depth")}
        run.log({"loss": 1.0})
        run.finish()
        return {name: value for name, value in facts.items() if value}

    book.note(name, act, arguments=list(arguments))
    return first


def _run(book: Book, run: Any) -> None:
    for name, arguments in documented(wandb.Run).items():
        if arguments is None:
            book.read(run, name, only_type=name in RUN_TYPES)
    book.note("Run.settings (copied)", lambda: type(copy.deepcopy(run.settings)).__name__)
    book.note("Run.settings (pickled)", lambda: type(pickle.loads(pickle.dumps(run.settings))).__name__)
    book.note("Run (copied)", lambda: copy.deepcopy(run) is run)
    book.note("Run (pickled)", lambda: type(pickle.dumps(run)).__name__)
    for name, value in (("name", "another name"), ("notes", "other notes"), ("tags", ["t", "u"])):
        book.write(run, name, value)
        book.read(run, name)
    book.call(run, "alert", title="t", text="x", level="WARN", wait_duration=1)
    book.call(
        run,
        "define_metric",
        name="m",
        step_metric="s",
        step_sync=True,
        hidden=False,
        summary="min",
        overwrite=True,
    )
    book.call(run, "display", height=100, hidden=True)
    book.call(run, "to_html", height=100, hidden=True, only_type=True)
    book.call(run, "status", only_type=True)
    book.call(run, "pin_config_keys", keys=["given"])
    book.call(run, "log", data={"m": 1.0, "s": 1}, step=3, commit=True)
    book.note("wandb.log", lambda: wandb.log({"m": 2.0}), arguments=["data"])
    book.note("wandb.log is run.log", lambda: wandb.log == run.log)
    book.call(run, "write_logs", text="a line")
    book.call(run, "save", glob_str="src/*.txt", base_path="src", policy="now", glob=True)
    path = f"{run.entity}/{run.project}/{run.id}"
    book.note("Api.run.upload_file", lambda: type(wandb.Api().run(path).upload_file("src/b.py")).__name__)
    book.call(run, "restore", name="src/b.py", run_path=path, replace=True, root="got")
    book.call(
        run,
        "log_code",
        root="src",
        name="code",
        include_fn=lambda p: p.endswith(".py"),
        exclude_fn=lambda p: False,
    )
    book.call(run, "log_code")
    artifact = wandb.Artifact("logged", type="dataset")
    artifact.add_file("src/a.txt")
    book.call(run, "log_artifact", artifact_or_path=artifact, aliases=["best"], tags=["x"])
    book.call(run, "log_artifact", artifact_or_path="src/a.txt", name="path", type="dataset")
    artifact.wait(60)
    book.call(
        run, "use_artifact", artifact_or_name="logged:best", type="dataset", aliases=["u"], use_as="data"
    )
    book.call(
        run,
        "link_artifact",
        artifact=artifact,
        target_path=f"{run.entity}/{run.project}/linked",
        aliases=["l"],
    )
    book.call(
        run,
        "upsert_artifact",
        artifact_or_path="src/a.txt",
        name="up",
        type="d",
        aliases=["a"],
        distributed_id="d",
    )
    book.call(
        run,
        "finish_artifact",
        artifact_or_path="src/a.txt",
        name="up",
        type="d",
        aliases=["a"],
        distributed_id="d",
    )
    book.call(run, "log_model", path="src/a.txt", name="model", aliases=["m"])
    book.call(run, "use_model", name="model:m")
    book.call(
        run, "link_model", path="src/a.txt", registered_model_name="registered", name="model", aliases=["r"]
    )
    book.call(run, "watch", models=None, criterion=None, log="all", log_freq=10, idx=0, log_graph=False)
    book.call(run, "unwatch", models=None)
    book.call(run, "mark_preempting")
    book.call(run, "finish", exit_code=0)
    book.call(run, "finish")


def _settings(book: Book, run: Any) -> None:
    settings = run.settings
    for name in _settings_names():
        book.read(settings, name, only_type=name in SETTINGS_TYPES)
    for name, field in wandb.Settings.model_fields.items():
        value = field.default
        if name not in {"anonymous", "x_executable"}:
            book.note(f"Settings.{name}", partial(_kept, name, value), arguments=[name])
    book.note("Settings (pickled)", lambda: type(pickle.loads(pickle.dumps(settings))).__name__)
    book.note("Settings.model_copy", lambda: type(settings.model_copy(deep=True)).__name__)
    book.note("Settings.model_dump", lambda: sorted(settings.model_dump())[:5])
    book.note("Settings.to_proto", lambda: type(settings.to_proto()).__name__)


def _kept(name: str, value: object) -> bool:
    options: dict[str, Any] = {name: value}
    made = wandb.Settings(**options)
    setattr(made, name, getattr(made, name))
    return True


def _settings_names() -> list[str]:
    base = set(dir(wandb.Settings.__mro__[1])) - set(wandb.Settings.model_fields)
    read = [name for name in dir(wandb.Settings) if isinstance(getattr(wandb.Settings, name), property)]
    own = sorted({*wandb.Settings.model_fields, *read, *wandb.Settings.model_computed_fields})
    return [name for name in own if not name.startswith("_") and name not in base]


def _artifact(book: Book, run: Any) -> None:
    options: dict[str, Any] = {"description": "d", "metadata": {"k": 1}, "incremental": False, "use_as": None}
    options |= {"storage_region": None, "digest_algorithm": "MD5"}
    made = book.note(
        "Artifact",
        lambda: wandb.Artifact("draft", type="dataset", **options),
        arguments=["name", "type", *options],
    )
    with made.new_file(name="new.txt", mode="w", encoding="utf-8", policy="mutable") as file:
        file.write("new")
    book.note(
        "Artifact.new_file",
        lambda: "new.txt" in made.manifest.entries,
        arguments=["name", "mode", "encoding", "policy"],
    )
    book.call(made, "add", obj=wandb.Table(columns=["c"], data=[[1]]), name="table", overwrite=True)
    book.call(made, "add_dir", local_path="src", name="dir", skip_cache=True, policy="immutable", merge=True)
    book.call(
        made,
        "add_file",
        local_path="src/a.txt",
        name="a.txt",
        is_tmp=False,
        skip_cache=True,
        policy="mutable",
        overwrite=True,
    )
    book.call(made, "add_file", local_path="src/a.txt", name="away.txt")
    book.call(
        made,
        "add_reference",
        uri=Path("src/b.py").resolve().as_uri(),
        name="ref",
        checksum=True,
        max_objects=1,
    )
    book.call(made, "get_added_local_path_name", local_path="src/a.txt")
    book.call(made, "remove", item="away.txt")
    book.call(made, "json_encode", only_type=True)
    book.call(made, "is_draft")
    book.call(made, "save", project=run.project, settings=None)
    book.call(made, "wait", timeout=60, only_type=True)
    book.call(made, "finalize")
    got = run.use_artifact("draft:latest")
    for name, arguments in documented(wandb.Artifact).items():
        if arguments is None:
            book.read(got, name, only_type=name in ARTIFACT_TYPES)
    given = {
        "aliases": ["latest", "one"],
        "description": "e",
        "metadata": {"k": 2},
        "tags": ["q"],
        "ttl": None,
    }
    for name, value in given.items():
        book.write(got, name, value)
    book.write(got, "distributed_id", "x")
    book.call(got, "save")
    # wandb client: with skip_cache its threads share one target path, and files land in each other's place.
    book.call(
        got,
        "download",
        root="got/d",
        allow_missing_references=True,
        skip_cache=False,
        path_prefix="dir",
        multipart=False,
    )
    book.call(got, "checkout", root="got/c")
    book.call(got, "verify", root="got/c")
    book.call(got, "file", root="got/f")
    book.call(got, "files", names=["a.txt"], per_page=5, start=None)
    book.call(got, "get", name="table")
    book.call(got, "get_entry", name="a.txt")
    book.call(got, "get_path", name="a.txt")
    book.call(got, "logged_by")
    book.call(got, "used_by")
    book.call(got, "new_draft")
    linked = book.call(got, "link", target_path=f"{run.entity}/{run.project}/portfolio", aliases=["p"])
    for name in ("is_link", "linked_artifacts", "source_name", "source_project", "source_version"):
        book.read(linked, name)
    book.call(linked, "unlink")
    book.call(got, "delete", delete_aliases=True)


def _api(book: Book, run: Any) -> None:
    api: Any = book.note(
        "Api",
        lambda: wandb.Api(
            overrides={"project": run.project}, timeout=30, api_key=os.environ["WANDB_API_KEY"]
        ),
        arguments=["overrides", "timeout", "api_key"],
    )
    entity, project, path = run.entity, run.project, f"{run.entity}/{run.project}/{run.id}"
    artifact = wandb.Artifact("for-api", type="dataset")
    artifact.add_file("src/a.txt")
    run.log_artifact(artifact).wait(60)
    name = f"{entity}/{project}/for-api"
    for member in ("default_entity", "user_agent", "viewer"):
        book.read(api, member)
    book.call(api, "artifact", name=f"{name}:latest", type="dataset")
    book.call(api, "artifact_collection", type_name="dataset", name=name)
    book.call(api, "artifact_collection_exists", name=name, type="dataset")
    book.call(
        api,
        "artifact_collections",
        project_name=f"{entity}/{project}",
        type_name="dataset",
        order="name",
        per_page=5,
        start=None,
    )
    book.call(api, "artifact_exists", name=f"{name}:latest", type="dataset")
    book.call(api, "artifact_type", type_name="dataset", project=f"{entity}/{project}")
    book.call(api, "artifact_types", project=f"{entity}/{project}", start=None)
    book.call(api, "artifact_versions", type_name="dataset", name=name, per_page=5)
    book.call(
        api,
        "artifacts",
        type_name="dataset",
        name=name,
        order="version_index",
        per_page=5,
        tags=None,
        start=None,
    )
    book.call(api, "automation", name="none", entity=entity)
    book.call(api, "automations", entity=entity, name="none", per_page=5, start=None)
    book.call(api, "create_automation", obj=None, fetch_existing=True)
    book.call(api, "update_automation", obj=None, create_missing=False)
    book.call(api, "delete_automation", obj="none")
    book.call(
        api,
        "create_custom_chart",
        entity=entity,
        name="c",
        display_name="c",
        spec_type="vega2",
        access="private",
        spec={},
    )
    book.call(api, "create_project", name="made", entity=entity)
    book.call(
        api,
        "create_registry",
        name="r",
        visibility="restricted",
        organization="o",
        description="d",
        artifact_types=["t"],
    )
    book.call(api, "create_run", run_id=f"made-{run.id}", project="made", entity=entity)
    book.call(
        api,
        "create_run_queue",
        name="q",
        type="local-container",
        entity=entity,
        prioritization_mode="V0",
        config={},
        template_variables={},
    )
    book.call(
        api,
        "upsert_run_queue",
        name="q",
        resource_config={},
        resource_type="local-container",
        entity=entity,
        template_variables={},
        external_links={},
        prioritization_mode="V0",
    )
    book.call(api, "create_team", team="team", admin_username="admin")
    book.call(api, "create_user", email="a@example.org", admin=False)
    book.call(api, "flush")
    book.call(api, "from_path", path=path)
    book.call(api, "integrations", entity=entity, per_page=5, start=None)
    book.call(api, "slack_integrations", entity=entity, per_page=5, start=None)
    book.call(api, "webhook_integrations", entity=entity, per_page=5, start=None)
    book.call(api, "job", name="none", path="got")
    book.call(api, "list_jobs", entity=entity, project=project)
    book.call(api, "organization", name="o")
    book.call(api, "project", name=project, entity=entity)
    book.call(api, "projects", entity=entity, per_page=5)
    book.call(
        api,
        "queued_run",
        entity=entity,
        project=project,
        queue_name="q",
        run_queue_item_id="i",
        project_queue="p",
        priority=1,
    )
    book.call(api, "registries", organization="o", filter={}, order=None, per_page=5, start=None)
    book.call(api, "registry", name="r", organization="o")
    book.call(api, "reports", path=f"{entity}/{project}", name="r", per_page=5)
    book.call(api, "run", path=path)
    book.call(api, "run_queue", entity=entity, name="q")
    book.call(
        api,
        "runs",
        path=f"{entity}/made",
        filters={"state": "running"},
        order="+created_at",
        per_page=5,
        include_sweeps=True,
        lazy=False,
    )
    book.call(api, "sweep", path=f"{entity}/{project}/no-sweep")
    book.call(api, "team", team=entity)
    book.call(api, "user", username_or_email="nobody")
    book.call(api, "users", username_or_email="nobody")


CASES: Final[dict[str, Callable[[Book, Any], None]]] = {
    "Run": _run,
    "Settings": _settings,
    "Artifact": _artifact,
    "Api": _api,
}


def all_cases() -> list[str]:
    """Return all cases, each to be performed in a run of its own."""
    return [*CASES, *INITS]


def _missing(book: Book, case: str) -> list[str]:
    """Return what the client documents and no call of this case has used."""
    if case == "Settings":
        return [f"Settings.{name}" for name in _settings_names() if f"Settings.{name}" not in book.rows]
    if case in INITS:
        given = {name for arguments in INITS.values() for name in arguments}
        return [f"wandb.init({name}=)" for name in arguments_of(wandb.init) if name not in given]
    missing = []
    for name, arguments in documented(getattr(wandb, case)).items():
        if f"{case}.{name}" in EXEMPT:
            continue
        row = book.rows.get(f"{case}.{name}")
        if row is None:
            missing.append(f"{case}.{name}")
        missing += [
            f"{case}.{name}({one}=)" for one in arguments or () if one not in (row or {}).get("arguments", ())
        ]
    return missing


def main() -> None:
    """Perform the case that this run's parameters name: the `main` of a sweep."""
    parameters = yaml.safe_load(Path(os.environ["WANDB_SWEEP_PARAM_PATH"]).read_text())
    perform(parameters["case"]["value"])


if __name__ == "__main__":
    perform(sys.argv[1].removeprefix("--case="))
