"""Uploads of artificial sweeps: interrupted, concurrent, impossible."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from parallel_hpo.server.artifacts.contents import digest_of
from parallel_hpo.server.services import supervision
from parallel_hpo.server.services.file_stream import Batch, Chunk
from parallel_hpo.server.store.artifacts import Entry
from parallel_hpo.server.store.lines import Stream
from tests.cli.folders import leave_sweep
from tests.conftest import clean_env_in
from tests.contract.serving import Server, serving
from tests.server.application import Web
from tests.server.artifacts.test_artifacts import commit, created, md5, send_file_of_artifact, send_manifest
from tests.server.server_logic import Clock, Services, grid
from tests.upload.uploads import MARK, Uploads, all_rows


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The destination server."""
    folder = tmp_path_factory.mktemp("target")
    with clean_env_in(folder / "home") as environment, serving(folder, environment) as server:
        yield server


@pytest.fixture
def services(tmp_path: Path) -> Iterator[Services]:
    made = Services(tmp_path, clock=Clock(time.time()))
    yield made
    made.close()


def told(now: float, *, loss: float) -> Chunk:
    """Return a run's history of three steps, and its machine's facts."""
    lines = [{"_step": step, "_timestamp": now + step, "_runtime": step, "loss": loss} for step in range(3)]
    event = {"_wandb": True, "_timestamp": now + 1.25, "_runtime": 1.25, "system.cpu": 12.5}
    batches = (
        Batch(Stream.HISTORY, 0, tuple(map(json.dumps, lines))),
        Batch(Stream.EVENTS, 0, (json.dumps(event),)),
    )
    return Chunk(batches, summary=json.dumps(lines[-1]))


def ended(services: Services, sweep: str, name: str, *, began: float = 0.0) -> None:
    """Perform a run."""
    services.start(sweep, name)
    services.stream(name, told(services.clock.now + began, loss=1.0))
    services.stream(name, Chunk(exitcode=0))


def test_a_running_sweep_is_uploaded_in_parts(target: Server, services: Services) -> None:
    """It has Hyperband, and an active run."""
    judging = {"type": "hyperband", "min_iter": 1, "eta": 2}
    sweep = services.sweep(grid(4, early_terminate=judging, description="mine"))
    agent = services.agent(sweep)
    names = {}
    for place, how in enumerate(("finished", "killed", "crashed", "running")):
        names[how] = services.issued(agent)
        services.start(sweep, names[how])
        services.stream(names[how], told(services.clock.now, loss=float(place)))
        if how != "running":
            supervision.end_run(services.world, services.at(sweep), names[how], how)
    ended = {name: how for how, name in names.items() if how != "running"}
    uploads = Uploads(services.folder, sweep, target)
    with serving(services.folder, target.env):  # its own server, at the same time
        answer = uploads.call_for_json("--project", "cut", code=75)
        there = uploads.there(answer)
        assert ({name: run["state"] for name, run in there.runs.items()}, answer["open"]) == (
            ended,
            [names["running"]],
        )
        assert there.sweep["state"] == "PENDING"
        services.set_state(sweep, "CANCELED")
        services.stream(names["running"], Chunk(exitcode=1))
        answer = uploads.call_for_json(
            *("--project", "cut", "--database", "server.db", "--files", "server-files")
        )
    assert answer["sent"] == [names["running"]]
    there, runs = uploads.there(answer), uploads.here().runs
    assert {name: run["state"] for name, run in there.runs.items()} == ended | {names["running"]: "killed"}
    assert there.sweep["state"] == answer["state"] == "CANCELED"
    assert there.configuration["description"] == f"mine\n{MARK} {answer['sweep']}"
    for name, run in there.runs.items():
        assert (run["history"], run["events"]) == (runs[name]["history"], runs[name]["events"])
    assert all(run["events"] for run in runs.values())


def test_an_abandoned_run_is_reported_with_advice(target: Server, services: Services) -> None:
    sweep = services.sweep(grid(4))
    done, left, _given_out = (services.issued(services.agent(sweep)) for _ in range(3))
    ended(services, sweep, done)
    uploads = Uploads(services.folder, sweep, target)
    answer = uploads.call_for_json("--project", "given-out")
    assert (answer["sent"], answer["open"]) == ([done], [])
    leave_sweep(services.folder / sweep, [0.5])
    services.start(sweep, left)
    said = uploads.call("--project", "given-out", code=75)
    assert f"not over, so not sent: {left}; upload again when they are" in said
    assert f"no process runs them any more: resume the sweep by run --resume {sweep}" in said


@pytest.mark.thorough
def test_runs_that_conflict_with_the_destination_are_reported(target: Server, services: Services) -> None:
    one, other = services.sweep(grid(2)), services.sweep(grid(2))
    ended(services, one, "again")
    Uploads(services.folder, one, target).call("--project", "shared")
    ended(services, one, "again", began=60)
    before = all_rows(target.folder)
    said = Uploads(services.folder, one, target).call("--project", "shared", code=1)
    assert "run again was not uploaded: the destination has an earlier attempt of it" in said
    assert all_rows(target.folder) == before
    services.delete("again")
    ended(services, other, "again")
    said = Uploads(services.folder, other, target).call("--project", "shared", code=1)
    assert (
        "run again was not uploaded: the project has another run of that id: name another --project" in said
    )


def log(web: Web, run: str, content: bytes) -> None:
    """Log a version with this content, as the client does."""
    entry = Entry("a.txt", md5(content), len(content), None)
    artifact = created(web, "model", digest_of([entry]), runName=run)
    send_file_of_artifact(web, artifact, content)
    send_manifest(web, artifact, {entry.path: {"digest": entry.digest, "size": entry.size}})
    assert commit(web, artifact).get("errors") is None


def test_a_run_with_missing_files_is_reported(target: Server, services: Services) -> None:
    sweep = services.sweep(grid(2))
    for name in ("bare", "whole"):
        ended(services, sweep, name)
    with Web(services) as web:
        log(web, "bare", b"1")
    shutil.rmtree(services.folder / "server-files" / "manifests")
    said = Uploads(services.folder, sweep, target).call("--project", "bare", code=1)
    assert "run bare was not uploaded: the server's files are missing (" in said
    assert "1 of 2 runs are there, 1 sent now" in said


def test_errors_are_reported_before_anything_is_created(target: Server, services: Services) -> None:
    sweep = services.sweep(grid(2))
    ended(services, sweep, "r")
    uploads = Uploads(services.folder, sweep, target)
    before = all_rows(target.folder)
    unknown = replace(uploads, sweep_id="nowhere").refused()
    assert "there is no sweep nowhere in" in unknown
    assert "set WANDB_API_KEY or run `wandb login`" in uploads.refused({"WANDB_API_KEY": ""})
    away = uploads.call(code=1, env={"WANDB_BASE_URL": "http://127.0.0.1:9"})
    assert "http://127.0.0.1:9 can't be reached" in away
    with serving(services.folder, target.env) as own:
        said = replace(uploads, target=own).refused()
    assert f"is the server that local/p/{sweep} is on" in said
    assert all_rows(target.folder) == before
    assert not (services.folder / sweep).exists()
