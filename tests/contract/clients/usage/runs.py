"""Runs by wandb.init and wandb.log: what a training script does."""

from __future__ import annotations

import os
import wave
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import wandb

from tests.contract.clients.usage.steps import Part, client, command, wait_for

PROJECT = "usage"
part = Part()
os.chdir(os.environ["HOME"])


def stored(name: str) -> Any:
    api: Any = wandb.Api()
    return api.run(f"local/{PROJECT}/{name}")


def column(name: str) -> list[Any]:
    """Return what a run's history has under `a`."""
    return [row["a"] for row in stored(name).scan_history()]


def init(run_id: str, **options: Any) -> Any:
    return wandb.init(project=PROJECT, id=run_id, **options)


def log_one(name: str, value: Any) -> Any:
    """Log a value in a run of its own, and return what the last row of its history has of it."""
    with init(f"media-{name}") as run:
        run.log({name: value})
    return stored(f"media-{name}").history(pandas=False)[-1][name]


def downloads(name: str, path: str) -> bool:
    file = stored(f"media-{name}").file(path)
    file.download(root=f"got-{name}", replace=True)
    return bool(Path(f"got-{name}", path).stat().st_size == file.size > 0)


def knows_gzip() -> bool:
    return "x_file_stream_no_gzip" in wandb.Settings.model_fields


@part.step("wandb.login(verify=True)")
def _() -> None:
    assert wandb.login(verify=True)


@part.step("wandb.init with name, tags, notes, group, job type, config")
def _() -> None:
    names = {"name": "first", "tags": ["a", "b"], "notes": "why", "group": "g", "job_type": "train"}
    with init("base", config={"lr": 0.1, "nested": {"depth": 2}}, **names) as run:
        for step in range(10):
            run.log({"loss": 10 - step, "nan": float("nan"), "inf": float("inf")})
        run.config.update({"late": True})
        run.summary["best"] = 5
        print("a line of output")
    run = stored("base")
    assert (run.name, run.tags, run.notes, run.group, run.job_type) == tuple(names.values())
    assert run.state == "finished"


@part.step("run.config.update")
def _() -> None:
    assert stored("base").config == {"lr": 0.1, "nested": {"depth": 2}, "late": True}


@part.step("run.summary")
def _() -> None:
    summary = stored("base").summary
    assert (summary["best"], summary["loss"]) == (5, 1)


@part.step("run.log with NaN and Infinity")
def _() -> None:
    rows = list(stored("base").scan_history())
    assert [row["loss"] for row in rows] == list(range(10, 0, -1))
    assert all(row["nan"] != row["nan"] and row["inf"] == float("inf") for row in rows)


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
    rows = list(stored("nested").scan_history(keys=["val.loss", "_step"]))
    assert [(row["_step"], row["val.loss"]) for row in rows] == [(5, 1), (9, 2)]


@part.step("console output is kept")
def _() -> None:
    file = stored("base").file("output.log")
    file.download(replace=True)
    assert "a line of output" in Path("output.log").read_text()


@part.step("system metrics")
def _() -> None:
    settings = wandb.Settings(
        x_disable_stats=False, x_stats_sampling_interval=0.5, x_disable_machine_info=False
    )
    with init("system", settings=settings) as run:
        run.log({"a": 1})
        wait_for(lambda: stored("system").history(stream="system", pandas=False))
    assert any(key.startswith("system.") for key in stored("system").system_metrics)


@part.step("run.metadata")
def _() -> None:
    # Written by the client where it isn't told to leave the machine's description out, as tests tell it.
    settings = wandb.Settings(x_disable_machine_info=False, x_disable_meta=False)
    with init("described", settings=settings) as run:
        # The client writes it beside the run: one that ends at once has none.
        wait_for(lambda: Path(run.dir, "wandb-metadata.json").exists())
    found = stored("described").metadata
    assert Path(found["executable"]).name.startswith("python")
    assert {"host", "os", "python", "startedAt"} <= found.keys()


@part.step("run.save")
def _() -> None:
    Path("saved.txt").write_text("saved")
    with init("saving") as run:
        run.save("saved.txt")
    stored("saving").file("saved.txt").download(root="got", replace=True)
    assert Path("got/saved.txt").read_text() == "saved"


@part.step("wandb.restore")
def _() -> None:
    restored = wandb.restore("saved.txt", run_path=f"local/{PROJECT}/saving", root="restored")
    assert restored is not None
    assert restored.read() == "saved"


@part.step("run.log_code")
def _() -> None:
    Path("code").mkdir(exist_ok=True)
    Path("code/model.py").write_text("x = 1\n")
    with init("coding") as run:
        run.log_code("code", name="code")
    (artifact,) = stored("coding").logged_artifacts()
    assert [file.name for file in artifact.files()] == ["model.py"]


@part.step("wandb.Table")
def _() -> None:
    row = log_one("table", wandb.Table(columns=["x", "y"], data=[[1, "a"], [2, "b"]]))
    assert row["nrows"] == 2
    assert downloads("table", row["path"])


@part.step("wandb.Html")
def _() -> None:
    assert downloads("html", log_one("html", wandb.Html("<b>bold</b>"))["path"])


@part.step("wandb.Histogram")
def _() -> None:
    counts: Any = ([1, 2, 1], [0, 1, 2, 3])
    histogram = wandb.Histogram(np_histogram=counts)
    assert log_one("histogram", histogram)["values"] == [1, 2, 1]


@part.step("a key with a backslash")
def _() -> None:
    Path("beside.txt").write_text("beside")
    with init("backslash") as run:
        run.save("beside.txt")
        run.log({"train\\table": wandb.Html("<b>bold</b>")})
    path = stored("backslash").history(pandas=False)[-1]["train\\table"]["path"]
    assert "train\\table" in path
    for name in (path, "beside.txt"):
        stored("backslash").file(name).download(root="got-backslash", replace=True)
        assert Path("got-backslash", name).stat().st_size > 0


@part.step("run.log in streams packed by gzip", needs=knows_gzip)
def _() -> None:
    with init("packed", settings=wandb.Settings(x_file_stream_no_gzip=False)) as run:
        for value in range(5):
            run.log({"a": value})
    assert [row["a"] for row in stored("packed").scan_history()] == list(range(5))


@part.step("wandb.Audio")
def _() -> None:
    with wave.open("tone.wav", "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(8000)
        file.writeframes(bytes(1600))
    assert downloads("audio", log_one("audio", wandb.Audio("tone.wav"))["path"])


def log_image() -> None:
    image: Any = import_module("PIL.Image")
    logged = wandb.Image(image.new("RGB", (4, 4)), caption="black")
    assert downloads("image", log_one("image", logged)["path"])


if find_spec("PIL") is not None:  # wandb itself does without it
    part.step("wandb.Image")(log_image)


@part.step("run.alert")
def _() -> None:
    with init("alerting") as run:
        run.alert("title", "text")


@part.step("wandb.init(resume='allow') and 'must'")
def _() -> None:
    for how in ("allow", "must"):
        with init("again", resume=how) as run:
            run.log({"a": how})
            assert stored("again").state == "running"
    assert [row["a"] for row in stored("again").scan_history()] == ["allow", "must"]


@part.step("wandb.init(resume='auto')")
def _() -> None:
    script = "import os, wandb; run = wandb.init(project='usage', resume='auto'); print(run.id, flush=True); "
    alone = {name: value for name, value in os.environ.items() if name != "WANDB_SERVICE"}
    names = []
    for end in ("os._exit(1)", "run.finish()"):
        done = client(script + end, alone)
        assert done.stdout, done.stderr
        names.append(done.stdout.split()[0])
    assert names[0] == names[1]


@part.refused("wandb.init(resume='never') of a run that is there", "already exists")
def _() -> None:
    init("base", resume="never").finish()


@part.refused("wandb.init(resume='must') of a run that isn't there", "does not exist", "not a valid option")
def _() -> None:
    init("nobody", resume="must").finish()


@part.step("wandb.init(fork_from=…): a new run with another one's history")
def _() -> None:
    with init("trunk", config={"lr": 1}) as run:
        for value in range(10):
            run.log({"a": value} | ({"once": value} if value == 3 else {}))
    with init("fork", fork_from="trunk?_step=5") as run:
        run.log({"a": 60})
    init("silent fork", fork_from="trunk?_step=5").finish()
    assert column("fork") == [*range(6), 60]
    assert (stored("fork").summary["a"], stored("fork").summary["once"]) == (60, 3)
    assert (stored("silent fork").summary["a"], stored("silent fork").lastHistoryStep) == (5, 5)
    assert column("trunk") == list(range(10))


@part.step("wandb.init(resume_from=…): a run is rewound")
def _() -> None:
    with wandb.init(project=PROJECT, resume_from="trunk?_step=4", config={"more": 2}) as run:
        assert (run.id, run.config["lr"], stored("trunk").state) == ("trunk", 1, "running")
        for value in (50, 60):
            run.log({"a": value})
    assert column("trunk") == [*range(5), 50, 60]
    run = stored("trunk")
    assert (run.state, run.lastHistoryStep, run.summary["a"], run.summary["once"]) == ("finished", 6, 60, 3)
    assert dict(run.config) == {"lr": 1, "more": 2}


@part.step("a fork whose parent is rewound, and deleted, is whole")
def _() -> None:
    stored("trunk").delete()
    with init("fork", resume="must") as run:
        run.log({"a": 70})
    assert column("fork") == [*range(6), 60, 70]


@part.refused("wandb.init(fork_from=…) of a run that isn't there", "doesn't exist: fork_from names")
def _() -> None:
    init("orphan", fork_from="nobody?_step=5").finish()


@part.refused("wandb.init(resume_from=…) of a run that isn't there", "missing doesn't exist: resume_from")
def _() -> None:
    wandb.init(project=PROJECT, resume_from="missing?_step=5").finish()


@part.step("several runs at once in one process")
def _() -> None:
    runs = [init(f"at-once-{i}", reinit="create_new") for i in range(3)]
    for value in range(5):
        for run in runs:
            run.log({"a": value})
    for run in runs:
        run.finish()
    assert {len(list(stored(f"at-once-{i}").scan_history())) for i in range(3)} == {5}


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


@part.step("fork_from and resume_from offline, and `wandb sync`")
def _() -> None:
    branches = (("fork_from", "fork?_step=2", "late"), ("resume_from", "fork?_step=3", "fork"))
    script = f"import wandb\nfor how, point, name in {branches}:\n"
    script += "    with wandb.init(project='usage', id=name, **{how: point}) as run: run.log({'a': 80})\n"
    client(script, os.environ | {"WANDB_MODE": "offline"}).check_returncode()
    folders = [folder for _, _, name in branches for folder in Path("wandb").glob(f"offline-run-*-{name}")]
    assert len(folders) == 2
    command("sync", *map(str, folders))
    for _, point, name in branches:
        assert column(name)[-2:] == [int(point[-1]), 80]


@part.step("WANDB_MODE=offline and `wandb sync`")
def _() -> None:
    script = "import wandb\nwith wandb.init(project='usage', id='offline') as run:\n"
    script += "    for i in range(20): run.log({'a': i})\n"
    client(script, os.environ | {"WANDB_MODE": "offline"}).check_returncode()
    (folder,) = Path("wandb").glob("offline-run-*-offline")
    command("sync", str(folder))
    assert [row["a"] for row in stored("offline").scan_history()] == list(range(20))


part.run()
