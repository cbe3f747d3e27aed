"""A sweep that is uploaded from one server of ours to another, by the real client."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.contract.serving import serving
from tests.processes.conftest import DEADLINE_S, RealSweep
from tests.processes.uploadable import KINDS, SWEEP
from tests.upload.uploads import MARK, Uploads, all_rows

MAINS = Path(__file__).with_name("uploadable.py")


@pytest.fixture(scope="module")
def uploads(
    new_sweep: Callable[[], RealSweep], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Uploads]:
    """A sweep that was stopped and resumed, whose runs ended in every way; its server is gone."""
    sweep = new_sweep()
    sweep.ends_its_runs = True
    sweep.start("main", mains=MAINS, sweep=SWEEP, workers=1)
    sweep.wait_until(sweep.journal.exists, "the first run")
    sweep.signal(signal.SIGINT)
    assert sweep.finish().code == 130
    resume = ("--resume", sweep.sweep_id)
    ended = sweep.start("main", mains=MAINS, sweep=SWEEP, workers=1, arguments=resume).finish()
    assert ended.code == 0, ended.stderr
    with serving(tmp_path_factory.mktemp("target"), sweep.env) as target:
        yield Uploads(sweep.directory, sweep.sweep_id, target)


@pytest.fixture(scope="module")
def uploaded(uploads: Uploads) -> Any:
    """The output of the first upload, from a shell that is set up for runs of its own."""
    own = {"WANDB_MODE": "offline", "WANDB_SILENT": "true", "WANDB_RUN_GROUP": "x", "WANDB_RUN_ID": "y"}
    return uploads.call_for_json(env=own)


def test_an_upload_copies_the_sweep_with_its_configuration_and_all_data_of_each_run(
    uploads: Uploads, uploaded: Any
) -> None:
    here, there = uploads.here(), uploads.there(uploaded)
    assert here.runs.keys() == there.runs.keys() == set(uploaded["sent"])
    assert {run["config"]["kind"]["value"] for run in there.runs.values()} == set(KINDS)
    for name, run in here.runs.items():
        # wandb client: `wandb sync` ends it so; the server is told that it crashed.
        told = {"exitcode": 1} if run["state"] == "crashed" else {}
        assert there.runs[name] == run | told
    assert {run["state"] for run in here.runs.values()} == {"finished", "failed", "crashed", "killed"}
    assert there.configuration == here.configuration | {"description": f"{MARK} {uploaded['sweep']}"}
    assert (there.sweep["state"], uploaded["state"]) == (here.sweep["state"], "FINISHED")


def test_an_upload_copies_artifacts_with_versions_aliases_and_the_runs_that_use_them(
    uploads: Uploads, uploaded: Any
) -> None:
    here, there = uploads.here(), uploads.there(uploaded)
    assert here.artifacts == there.artifacts
    assert [each["version"] for each in there.artifacts if each["collection"] == "model"] == [0, 1, 2]
    assert here.uses == there.uses
    assert len(there.uses) == 1


def test_a_second_upload_changes_neither_server(uploads: Uploads, uploaded: Any) -> None:
    before, own = all_rows(uploads.target.folder), all_rows(uploads.directory)
    again = uploads.call_for_json()
    assert (again["sent"], again["there"]) == ([], uploaded["sent"])
    assert all_rows(uploads.target.folder) == before
    assert all_rows(uploads.directory) == own


def test_a_killed_upload_is_continued_by_the_next_one(uploads: Uploads, uploaded: Any) -> None:
    project = ("--project", "killed")
    for table in ("sweeps", "runs"):
        command = uploads.start(*project)
        while not uploads.number(table, "killed"):
            assert command.poll() is None, command.communicate()
            time.sleep(0.01)
        command.kill()
        command.communicate(timeout=DEADLINE_S)
    there = uploads.there(uploads.call_for_json(*project))
    assert uploads.number("sweeps", "killed") == 1
    known = uploads.here()
    for field in ("history", "state"):
        assert {name: run[field] for name, run in there.runs.items()} == {
            name: run[field] for name, run in known.runs.items()
        }
    assert there.artifacts == known.artifacts
