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
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from string import Template
from typing import Any, Final

import wandb
import yaml

from tests.contract.clients.surface.book import Book, arguments_of, documented

ENTITY: Final = "local"
PROJECT: Final = "uncategorized"


def _each(argument: str, *values: object) -> dict[str, dict[str, Any]]:
    return {f"{argument} {value}": {argument: value} for value in values}


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
    **_each("mode", "online", "offline", "disabled", "shared"),
    "force": {"force": True},
    **_each("reinit", "default", "return_previous", "finish_previous", "create_new", True, False),
    **_each("resume", "allow", "never", "must", "auto", True),
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
CALL_TYPES: Final = ("to_html", "status", "json_encode", "wait")
PLACES: Final = {"WANDB_RUN_ID": "RUN", "WANDB_DIR": "DIR"}
EXEMPT: Final = ("Api.sync_tensorboard",)
"""Not called: it waits forever without TensorBoard files."""


def perform(case: str) -> None:
    """Make the calls of a case, and write their results."""
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
    with suppress(Exception):  # a refused case has no open run: the sweep's run must end
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


def _call_all(book: Book, owner: Any, calls: str, values: Mapping[str, Any]) -> None:
    """Make the calls listed under a name in `calls.yaml`."""
    for call in yaml.safe_load(Path(__file__).with_suffix(".yaml").read_text())[calls]:
        ((name, arguments),) = call.items()
        given = {each: _filled(value, values) for each, value in arguments.items()}
        book.call(owner, name, only_type=name in CALL_TYPES, **given)


def _filled(value: Any, values: Mapping[str, Any]) -> Any:
    """Return an argument with its $name replaced."""
    if not isinstance(value, str) or not value.startswith("$"):
        return value
    return values[value[1:]] if value[1:] in values else Template(value).substitute(values)


def _read_all(book: Book, owner: Any, only_types: Sequence[str] = ()) -> None:
    """Read all properties."""
    for name, arguments in documented(type(owner)).items():
        if arguments is None:
            book.read(owner, name, only_type=name in only_types)


def _draft() -> wandb.Artifact:
    artifact = wandb.Artifact("logged", type="dataset")
    artifact.add_file("src/a.txt")
    return artifact


def _names(run: Any) -> dict[str, Any]:
    """Return the values of some $names of the calls."""
    place = f"{run.entity}/{run.project}"
    return {"place": place, "path": f"{place}/{run.id}", "project": run.project, "made": f"made-{run.id}"}


def _run(book: Book, run: Any) -> None:
    _read_all(book, run, RUN_TYPES)
    book.note("Run.settings (copied)", lambda: type(copy.deepcopy(run.settings)).__name__)
    book.note("Run.settings (pickled)", lambda: type(pickle.loads(pickle.dumps(run.settings))).__name__)
    book.note("Run (copied)", lambda: copy.deepcopy(run) is run)
    book.note("Run (pickled)", lambda: type(pickle.dumps(run)).__name__)
    for name, value in (("name", "another name"), ("notes", "other notes"), ("tags", ["t", "u"])):
        book.write(run, name, value)
        book.read(run, name)
    book.note("wandb.log", lambda: wandb.log({"m": 2.0}), arguments=["data"])
    book.note("wandb.log is run.log", lambda: wandb.log == run.log)
    names = _names(run)
    stored: Any = wandb.Api().run(names["path"])
    book.note("Api.run.upload_file", lambda: type(stored.upload_file("src/b.py")).__name__)
    functions = {"is_python": lambda path: path.endswith(".py"), "is_nothing": lambda path: False}
    logged = run.log_artifact(_draft()).wait(60)
    _call_all(book, run, "Run", names | functions | {"artifact": _draft(), "logged": logged})


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
    options |= {"name": "draft", "type": "dataset", "storage_region": None, "digest_algorithm": "MD5"}
    made = book.note("Artifact", lambda: wandb.Artifact(**options), arguments=[*options])
    new = {"name": "new.txt", "mode": "w", "encoding": "utf-8", "policy": "mutable"}
    with made.new_file(**new) as file:
        file.write("new")
    book.note("Artifact.new_file", lambda: "new.txt" in made.manifest.entries, arguments=[*new])
    files = {"table": wandb.Table(columns=["c"], data=[[1]]), "uri": Path("src/b.py").resolve().as_uri()}
    _call_all(book, made, "Draft", _names(run) | files)
    got = run.use_artifact("draft:latest")
    _read_all(book, got, ARTIFACT_TYPES)
    changes: dict[str, Any] = {"aliases": ["latest", "one"], "description": "e", "metadata": {"k": 2}}
    for name, value in (changes | {"tags": ["q"], "ttl": None, "distributed_id": "x"}).items():
        book.write(got, name, value)
    _call_all(book, got, "Artifact", {})
    linked = book.call(got, "link", target_path=f"{run.entity}/{run.project}/portfolio", aliases=["p"])
    for name in ("is_link", "linked_artifacts", "source_name", "source_project", "source_version"):
        book.read(linked, name)
    book.call(linked, "unlink")
    book.call(got, "delete", delete_aliases=True)


def _api(book: Book, run: Any) -> None:
    options: dict[str, Any] = {"overrides": {"project": run.project}, "timeout": 30}
    options |= {"api_key": os.environ["WANDB_API_KEY"]}
    api: Any = book.note("Api", lambda: wandb.Api(**options), arguments=[*options])
    run.log_artifact(_draft()).wait(60)
    _read_all(book, api)
    _call_all(book, api, "Api", _names(run))


CASES: Final[dict[str, Callable[[Book, Any], None]]] = {
    "Run": _run,
    "Settings": _settings,
    "Artifact": _artifact,
    "Api": _api,
}


def all_cases() -> list[str]:
    """Return all cases; each runs in its own run."""
    return [*CASES, *INITS]


def _missing(book: Book, case: str) -> list[str]:
    """Return the documented members that no call of this case used."""
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
    """Run the case in this run's parameters: the `main` of a sweep."""
    parameters = yaml.safe_load(Path(os.environ["WANDB_SWEEP_PARAM_PATH"]).read_text())
    perform(parameters["case"]["value"])


if __name__ == "__main__":
    perform(sys.argv[1].removeprefix("--case="))
