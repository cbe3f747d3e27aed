"""Runs by wandb.init and wandb.log, as in a training script."""

from __future__ import annotations

import math
import os
import wave
from pathlib import Path
from typing import Any

import wandb
from PIL import Image

from tests.contract.clients.usage.steps import Part, api, command, in_process, wait_for

PROJECT = "usage"
NAMES = {"name": "first", "tags": ["a", "b"], "notes": "why", "group": "g", "job_type": "train"}
part = Part()


def stored(name: str) -> Any:
    return api().run(f"local/{PROJECT}/{name}")


def column(name: str) -> list[Any]:
    """Return the column `a` of a run's history."""
    return [row["a"] for row in stored(name).scan_history()]


def init(run_id: str, **options: Any) -> Any:
    return wandb.init(project=PROJECT, id=run_id, **options)


def log(run_id: str, *values: Any, **options: Any) -> Any:
    """Log values under `a` in a run, and return it."""
    with init(run_id, **options) as run:
        for value in values:
            run.log({"a": value})
    return run


def log_one(name: str, value: Any) -> Any:
    """Log a value in its own run, and return it from the last row of its history."""
    with init(f"media-{name}") as run:
        run.log({name: value})
    return stored(f"media-{name}").history(pandas=False)[-1][name]


def size_of(run_id: str, path: str) -> int:
    """Return the size of a run's file, once downloaded."""
    stored(run_id).file(path).download(root=f"got-{run_id}", replace=True)
    return Path(f"got-{run_id}", path).stat().st_size


def arrives(name: str, value: Any) -> bool:
    """Log a value with a file, and return whether the file can be downloaded."""
    return size_of(f"media-{name}", log_one(name, value)["path"]) > 0


part.finds("wandb.login(verify=True)", lambda: wandb.login(verify=True), True)


@part.step("wandb.init with name, tags, notes, group, job type, config")
def _() -> None:
    with init("base", config={"lr": 0.1, "nested": {"depth": 2}}, **NAMES) as run:
        for step in range(10):
            run.log({"loss": 10 - step, "nan": math.nan, "inf": math.inf})
        run.config.update({"late": True})
        run.summary["best"] = 5
        print("a line of output")
    run = stored("base")
    assert {name: getattr(run, name) for name in NAMES} == NAMES
    assert run.state == "finished"


part.finds(
    "run.config.update",
    lambda: stored("base").config,
    {"lr": 0.1, "nested": {"depth": 2}, "late": True},
)
part.finds("run.summary", lambda: [stored("base").summary[name] for name in ("best", "loss")], [5, 1])


@part.step("run.log with NaN and Infinity")
def _() -> None:
    rows = list(stored("base").scan_history())
    assert [row["loss"] for row in rows] == list(range(10, 0, -1))
    assert all(math.isnan(row["nan"]) and row["inf"] == math.inf for row in rows)


@part.step("run.define_metric(summary='min')")
def _() -> None:
    with init("defined") as run:
        run.define_metric("loss", summary="min")
        for loss in (3, 1, 2):
            run.log({"loss": loss})
    assert dict(stored("defined").summary["loss"]) == {"min": 1}


@part.step("run.log of nested values and own steps")
def _() -> None:
    with init("nested") as run:
        run.log({"val": {"loss": 1}}, step=5)
        run.log({"val": {"loss": 2}}, step=9)
    found = stored("nested")
    rows = list(found.scan_history(keys=["val.loss", "_step"]))
    assert [(row["_step"], row["val.loss"]) for row in rows] == [(5, 1), (9, 2)]
    assert [row["val.loss"] for row in found.history(keys=["val.loss"], pandas=False)] == [1, 2]
    assert found.summary["val"]["loss"] == 2


@part.step("console output is kept")
def _() -> None:
    size_of("base", "output.log")
    assert "a line of output" in Path("got-base/output.log").read_text()


@part.step("system metrics, run.metadata")
def _() -> None:
    # The client writes it unless it is configured to omit the machine's description, as in tests.
    settings = wandb.Settings(
        x_disable_stats=False,
        x_stats_sampling_interval=0.5,
        x_disable_machine_info=False,
        x_disable_meta=False,
    )
    with init("system", settings=settings) as run:
        run.log({"a": 1})
        wait_for(lambda: stored("system").history(stream="system", pandas=False))
        # The client writes it in the background: a run that ends at once has none.
        wait_for(lambda: Path(run.dir, "wandb-metadata.json").exists())
    found = stored("system")
    assert any(key.startswith("system.") for key in found.system_metrics)
    assert Path(found.metadata["executable"]).name.startswith("python")
    assert {"host", "os", "python", "startedAt"} <= found.metadata.keys()


@part.step("run.save, wandb.restore")
def _() -> None:
    Path("saved.txt").write_text("saved")
    with init("saving") as run:
        run.save("saved.txt")
    restored = wandb.restore("saved.txt", run_path=f"local/{PROJECT}/saving", root="restored")
    assert restored is not None
    assert restored.read() == "saved"


@part.step("run.log_code")
def _() -> None:
    Path("code").mkdir()
    Path("code/model.py").write_text("x = 1\n")
    with init("coding") as run:
        run.log_code("code", name="code")
    (artifact,) = stored("coding").logged_artifacts()
    assert [file.name for file in artifact.files()] == ["model.py"]


@part.step("wandb.Table")
def _() -> None:
    row = log_one("table", wandb.Table(columns=["x", "y"], data=[[1, "a"], [2, "b"]]))
    assert (row["nrows"], size_of("media-table", row["path"]) > 0) == (2, True)


part.finds("wandb.Html", lambda: arrives("html", wandb.Html("<b>bold</b>")), True)


@part.step("wandb.Histogram")
def _() -> None:
    counts: Any = ([1, 2, 1], [0, 1, 2, 3])
    assert log_one("histogram", wandb.Histogram(np_histogram=counts))["values"] == [1, 2, 1]


@part.step("a key with a backslash")
def _() -> None:
    with init("backslash") as run:
        run.save("saved.txt")
        run.log({"train\\table": wandb.Html("<b>bold</b>")})
    path = stored("backslash").history(pandas=False)[-1]["train\\table"]["path"]
    assert "train\\table" in path
    assert size_of("backslash", path) and size_of("backslash", "saved.txt")


@part.step("run.log in streams packed by gzip")
def _() -> None:
    log("packed", *range(5), settings=wandb.Settings(x_file_stream_no_gzip=False))
    assert column("packed") == list(range(5))


@part.step("wandb.Audio")
def _() -> None:
    with wave.open("tone.wav", "wb") as file:
        file.setparams((1, 2, 8000, 0, "NONE", ""))
        file.writeframes(bytes(1600))
    assert arrives("audio", wandb.Audio("tone.wav"))


@part.step("wandb.Image")
def _() -> None:
    assert arrives("image", wandb.Image(Image.new("RGB", (4, 4)), caption="black"))


@part.step("run.alert")
def _() -> None:
    with init("alerting") as run:
        run.alert("title", "text")


@part.step("wandb.init(resume='allow') and 'must'")
def _() -> None:
    assert not log("again", "one", 2, resume="allow").resumed
    with init("again", resume="must") as run:
        run.log({"a": 3})
        assert (run.resumed, stored("again").state) == (True, "running")
    rows = [(row["_step"], row["a"]) for row in stored("again").scan_history()]
    assert (rows, stored("again").state) == ([(0, "one"), (1, 2), (2, 3)], "finished")


def resume_and_die(word: str) -> None:
    run = wandb.init(project=PROJECT, resume="auto")
    Path(word).write_text(run.id)
    if word == "first":
        os._exit(1)
    run.finish()


@part.step("wandb.init(resume='auto')")
def _() -> None:
    for word in ("first", "second"):
        in_process(resume_and_die, word)
    assert Path("first").read_text() == Path("second").read_text()


part.refuses(
    "wandb.init(resume='never') of a run that is there",
    lambda: log("base", resume="never"),
    "already exists",
)
part.refuses(
    "wandb.init(resume='must') of a run that isn't there",
    lambda: log("nobody", resume="must"),
    *("does not exist", "not a valid option"),
)


@part.step("wandb.init(fork_from=…): a new run with another one's history")
def _() -> None:
    with init("trunk", config={"lr": 1}) as run:
        for value in range(10):
            run.log({"a": value} | ({"once": value} if value == 3 else {}))
    log("fork", 60, fork_from="trunk?_step=5")
    log("silent fork", fork_from="trunk?_step=5")
    assert (column("fork"), column("trunk")) == ([*range(6), 60], list(range(10)))
    assert (stored("fork").summary["a"], stored("fork").summary["once"]) == (60, 3)
    assert (stored("silent fork").summary["a"], stored("silent fork").lastHistoryStep) == (5, 5)


@part.step("wandb.init(resume_from=…): a run is rewound")
def _() -> None:
    with wandb.init(project=PROJECT, resume_from="trunk?_step=4", config={"more": 2}) as run:
        assert (run.id, run.config["lr"], stored("trunk").state) == ("trunk", 1, "running")
        for value in (50, 60):
            run.log({"a": value})
    assert column("trunk") == [*range(5), 50, 60]
    found = stored("trunk")
    assert (found.state, found.lastHistoryStep, found.summary["a"]) == ("finished", 6, 60)
    assert (found.summary["once"], dict(found.config)) == (3, {"lr": 1, "more": 2})


@part.step("a fork whose parent is rewound, and deleted, is whole")
def _() -> None:
    stored("trunk").delete()
    log("fork", 70, resume="must")
    assert column("fork") == [*range(6), 60, 70]


part.refuses(
    "wandb.init(fork_from=…) of a run that isn't there",
    lambda: log("orphan", fork_from="nobody?_step=5"),
    "doesn't exist: fork_from names",
)
part.refuses(
    "wandb.init(resume_from=…) of a run that isn't there",
    lambda: wandb.init(project=PROJECT, resume_from="missing?_step=5"),
    "missing doesn't exist: resume_from",
)


@part.step("several runs at once in one process")
def _() -> None:
    runs = [init(f"at-once-{i}", reinit="create_new") for i in range(3)]
    for value in range(5):
        for run in runs:
            run.log({"a": value})
    for run in runs:
        run.finish()
    assert [column(f"at-once-{i}") for i in range(3)] == [list(range(5))] * 3


@part.step("a run that ends with an exception is failed")
def _() -> None:
    try:
        with init("failing"):
            raise ValueError("on purpose")
    except ValueError:
        pass
    assert stored("failing").state == "failed"


@part.step("run.mark_preempting")
def _() -> None:
    run = init("preempted")
    run.mark_preempting()
    run.finish(exit_code=1)
    assert stored("preempted").state == "preempted"


@part.step("WANDB_MODE=offline, also with fork_from and resume_from, and `wandb sync`")
def _() -> None:
    log("offline", *range(20), mode="offline")
    log("late", 80, mode="offline", fork_from="fork?_step=2")
    with wandb.init(project=PROJECT, mode="offline", resume_from="fork?_step=3") as run:
        run.log({"a": 80})
    folders = [*map(str, sorted(Path("wandb").glob("offline-run-*")))]
    assert len(folders) == 3
    command("sync", *folders)
    assert column("offline") == list(range(20))
    assert (column("late")[-2:], column("fork")[-2:]) == ([2, 80], [3, 80])


part.refuses(
    "wandb.login(verify=True) with a wrong key",
    lambda: wandb.login(key="b" * 40, verify=True, relogin=True),
    "key",
)
