"""A sweep that is uploaded from one server of ours to another, by the real client."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.commanding import Command, CommandLine
from tests.contract.serving import Server, serving
from tests.processes.conftest import DEADLINE_S, RealSweep
from tests.processes.uploadable import KINDS, SWEEP
from tests.upload.likeness import Said, all_rows, number_in

MAINS = Path(__file__).with_name("uploadable.py")
MARK = "uploaded by parallel_hpo from sweep"


@dataclass
class Uploads:
    """A sweep, and a server to which it is brought."""

    commands: CommandLine
    directory: Path
    """Where the sweep's own server keeps its data."""
    sweep_id: str
    target: Server

    def start(self, *words: str, **more: str) -> Command:
        login = {"WANDB_BASE_URL": self.target.said["url"], "WANDB_API_KEY": self.target.said["api_key"]}
        line = ("upload", self.sweep_id, "--directory", str(self.directory), *words)
        return self.commands.start(*line, folder=self.directory, environment=self.target.env | login | more)

    def call(self, *words: str, code: int = 0, **more: str) -> str:
        """Upload, and return what is said on stdout, or on stderr where another code than 0 is expected."""
        command = self.start(*words, **more)
        stdout, stderr = command.communicate(DEADLINE_S)
        assert command.wait() == code, stderr
        return stderr if code else stdout

    def call_for_json(self, *words: str) -> Any:
        return json.loads(self.call("--json", *words))

    def here(self) -> Said:
        return Said(self.directory, self.sweep_id)

    def there(self, answer: Any) -> Said:
        return Said(self.target.folder, answer["target"].rpartition("/")[2])

    def number(self, table: str, project: str) -> int:
        """Return how many sweeps or runs the other server has in a project."""
        return number_in(self.target.folder, table, project)


@pytest.fixture(scope="module")
def uploads(
    new_sweep: Callable[[], RealSweep], tmp_path_factory: pytest.TempPathFactory, commands: CommandLine
) -> Iterator[Uploads]:
    """A sweep whose runs left all that they can, and ended in every way, on a server that is gone."""
    sweep = new_sweep()
    sweep.ends_its_runs = True
    ended = sweep.start("main", mains=MAINS, sweep=SWEEP, workers=1).finish()
    assert ended.code == 0, ended.stderr
    with serving(tmp_path_factory.mktemp("target"), sweep.env) as target:
        yield Uploads(commands, sweep.directory, ended.summary["sweep_id"], target)


@pytest.fixture(scope="module")
def uploaded(uploads: Uploads) -> Any:
    """What the first upload said."""
    return uploads.call_for_json()


def test_a_dry_run_says_what_would_go_and_changes_nothing(uploads: Uploads) -> None:
    before = all_rows(uploads.target.folder)
    answer = uploads.call_for_json("--dry-run", "--project", "dry")
    assert (len(answer["sent"]), answer["target"], answer["project"]) == (len(KINDS), None, "local/dry")
    assert all_rows(uploads.target.folder) == before


def test_each_run_is_there_with_all_that_it_was_here(uploads: Uploads, uploaded: Any) -> None:
    here, there = uploads.here(), uploads.there(uploaded)
    assert list(here.runs) == list(there.runs) == uploaded["sent"]
    assert {run["config"]["kind"]["value"] for run in there.runs.values()} == set(KINDS)
    for name, run in here.runs.items():
        # wandb client: `wandb sync` ends it so; the server is told that it crashed.
        told = {"exitcode": 1} if run["state"] == "crashed" else {}
        assert there.runs[name] == run | told
    assert all(run["events"] for run in here.runs.values())
    assert {run["state"] for run in here.runs.values()} == {"finished", "failed", "crashed", "killed"}


def test_artifacts_are_there_under_their_versions_and_aliases_by_the_runs_that_logged_and_used_them(
    uploads: Uploads, uploaded: Any
) -> None:
    here, there = uploads.here(), uploads.there(uploaded)
    assert here.artifacts == there.artifacts
    assert [each["version"] for each in there.artifacts if each["collection"] == "model"] == [0, 1, 2]
    assert here.uses == there.uses
    assert len(there.uses) == 1


def test_the_sweep_is_there_with_its_configuration_and_its_end(uploads: Uploads, uploaded: Any) -> None:
    here, there = uploads.here(), uploads.there(uploaded)
    assert there.configuration == here.configuration | {"description": f"{MARK} {uploaded['sweep']}"}
    assert (there.sweep["state"], uploaded["state"]) == (here.sweep["state"], "FINISHED")


def test_a_second_upload_changes_nothing_and_the_sweeps_own_data_is_untouched(
    uploads: Uploads, uploaded: Any
) -> None:
    before, own = all_rows(uploads.target.folder), all_rows(uploads.directory)
    again = uploads.call_for_json()
    assert (again["sent"], again["there"]) == ([], uploaded["sent"])
    assert all_rows(uploads.target.folder) == before
    assert all_rows(uploads.directory) == own
    assert not (uploads.directory / uploads.sweep_id / "upload").exists()


def test_an_upload_that_is_killed_is_gone_on_with_by_the_next(uploads: Uploads) -> None:
    project = ("--project", "killed")
    for table in ("sweeps", "runs"):
        command = uploads.start(*project)
        _wait_for(partial(uploads.number, table, "killed"), command)
        command.kill()
        command.communicate(DEADLINE_S)
    answer = uploads.call_for_json(*project)
    here, there = uploads.here(), uploads.there(answer)
    assert uploads.number("sweeps", "killed") == 1
    assert {name: run["history"] for name, run in there.runs.items()} == {
        name: run["history"] for name, run in here.runs.items()
    }
    assert {name: run["state"] for name, run in there.runs.items()} == {
        name: run["state"] for name, run in here.runs.items()
    }
    assert here.artifacts == there.artifacts


def _wait_for(condition: Callable[[], object], command: Command) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert command.poll() is None, command.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.01)


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
def elsewhere(uploads: Uploads, tmp_path: Path) -> Iterator[Elsewhere]:
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
    yield Elsewhere(stage, replace(uploads, directory=tmp_path, sweep_id=sweep), names)
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
