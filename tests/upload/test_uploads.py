"""Uploads of sweeps that a test has made up: cut short, in the way of others, or not to be had."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from parallel_hpo.server.services import supervision
from parallel_hpo.server.services.file_stream import Batch, Chunk
from parallel_hpo.server.store.lines import Stream
from tests.commanding import CommandLine
from tests.conftest import clean_env_in
from tests.contract.serving import DEADLINE_S, Server, serving
from tests.server.acting import Clock, Stage, grid
from tests.upload.uploads import MARK, Uploads


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The server to which all is brought."""
    folder = tmp_path_factory.mktemp("target")
    with clean_env_in(folder / "home") as environment, serving(folder, environment) as server:
        yield server


@dataclass
class Elsewhere:
    """A sweep on a server that runs, cut short; what a client tells of its runs, the stage is told."""

    stage: Stage
    uploads: Uploads
    names: Mapping[str, str]
    """The runs, by how they ended."""

    def state_there(self) -> dict[str, str]:
        return {name: run["state"] for name, run in self.there.runs.items()}

    def upload(self, code: int) -> Any:
        """Upload, and keep what the other server says then."""
        command = self.uploads.start("--json", "--project", "cut")
        stdout, stderr = command.communicate(DEADLINE_S)
        assert command.wait() == code, stderr
        answer = json.loads(stdout)
        self.there = self.uploads.there(answer)
        return answer


@pytest.fixture
def elsewhere(target: Server, commands: CommandLine, tmp_path: Path) -> Iterator[Elsewhere]:
    """A sweep that Hyperband judged, and of which a run is not over."""
    stage = Stage(tmp_path, clock=Clock(time.time()))
    judging = {"type": "hyperband", "min_iter": 1, "eta": 2}
    sweep = stage.sweep(grid(4, early_terminate=judging, description="mine"))
    agent = stage.agent(sweep)
    names = {}
    for place, how in enumerate(("finished", "killed", "crashed", "running")):
        names[how] = stage.issued(agent)
        stage.start(sweep, names[how])
        stage.stream(names[how], told(stage.clock.now, loss=float(place)))
        if how != "running":
            supervision.end_run(stage.world, stage.at(sweep), names[how], how)
    yield Elsewhere(stage, Uploads(commands, tmp_path, sweep, target), names)
    stage.close()


def told(now: float, *, loss: float) -> Chunk:
    """Return what a run logs in three steps."""
    lines = [{"_step": step, "_timestamp": now + step, "_runtime": step, "loss": loss} for step in range(3)]
    return Chunk((Batch(Stream.HISTORY, 0, tuple(map(json.dumps, lines))),), summary=json.dumps(lines[-1]))


def test_a_sweep_that_goes_on_is_brought_as_far_as_it_is_and_its_rest_by_another_upload(
    elsewhere: Elsewhere,
) -> None:
    stage, names = elsewhere.stage, elsewhere.names
    with serving(stage.folder, elsewhere.uploads.target.env):  # its own server, meanwhile
        answer = elsewhere.upload(code=75)
        ended = {names[how]: how for how in ("finished", "killed", "crashed")}
        assert (elsewhere.state_there(), answer["open"]) == (ended, [names["running"]])
        assert elsewhere.there.sweep["state"] == "PENDING"
        stage.set_state(elsewhere.uploads.sweep_id, "CANCELED")
        stage.stream(names["running"], Chunk(exitcode=1))
        answer = elsewhere.upload(code=0)
    assert answer["sent"] == [names["running"]]
    assert elsewhere.state_there() == ended | {names["running"]: "killed"}
    assert elsewhere.there.sweep["state"] == answer["state"] == "CANCELED"
    assert elsewhere.there.configuration["description"] == f"mine\n{MARK} {answer['sweep']}"
    assert [run["history"] for run in elsewhere.there.runs.values()] == [
        run["history"] for run in elsewhere.uploads.here().runs.values()
    ]
