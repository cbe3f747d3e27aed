"""A sweep that is uploaded from one server of ours to another, by the real client."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.commanding import Command, CommandLine
from tests.contract.serving import serving
from tests.processes.conftest import DEADLINE_S, RealSweep
from tests.processes.uploadable import KINDS, SWEEP
from tests.upload.likeness import all_rows
from tests.upload.uploads import MARK, Uploads

MAINS = Path(__file__).with_name("uploadable.py")


@pytest.fixture(scope="module")
def uploads(
    new_sweep: Callable[[], RealSweep], tmp_path_factory: pytest.TempPathFactory, commands: CommandLine
) -> Iterator[Uploads]:
    """A sweep whose runs left all that they can, and ended in every way, on a server that is gone."""
    sweep = new_sweep()
    sweep.ends_its_runs = True
    ended = sweep.start("main", mains=MAINS, sweep=SWEEP, workers=1).finish()
    assert ended.code == 0, ended.stderr
    outcomes = {run["parameters"]["kind"]: run["outcome"] for run in ended.summary["runs"]}
    assert (outcomes["rich"], outcomes["using"]) == ("finished", "finished"), ended.stderr
    with serving(tmp_path_factory.mktemp("target"), sweep.env, commands=commands) as target:
        yield Uploads(commands, sweep.directory, ended.summary["sweep_id"], target)


@pytest.fixture(scope="module")
def uploaded(uploads: Uploads) -> Any:
    """What the first upload said, from a shell that is set up for runs of its own."""
    own = {"WANDB_MODE": "offline", "WANDB_SILENT": "true", "WANDB_RUN_GROUP": "x", "WANDB_RUN_ID": "y"}
    return uploads.call_for_json(env=own)


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
