"""What an upload sends, how it is performed with a fake client, and its working folder."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from parallel_hpo.client.base import OpenedSweep, SweepRequest
from parallel_hpo.client.credentials import Credentials
from parallel_hpo.client.uploading import ArtifactUse, RemoteRun, UploadedState, UploadQuery
from parallel_hpo.core.errors import UsageError
from parallel_hpo.core.types import SweepId, SweepPath
from parallel_hpo.server.rules.runs import RunState
from parallel_hpo.server.rules.sweeps import SweepState
from parallel_hpo.upload.client import Client, client_in
from parallel_hpo.upload.perform import PAUSES_S, Upload, Uploaded
from parallel_hpo.upload.plan import (
    LocalArtifact,
    LocalRun,
    LocalSweep,
    RunUpload,
    SourceDatabase,
    UploadAction,
    action_for,
    configuration_of,
    exit_code_of,
    mark_of,
    sends,
    upload_folder,
)
from parallel_hpo.upload.sending import UploadTask, beginning_in

PATH = SweepPath("local", "p", SweepId("s"))
RUN = LocalRun(1, "r1", RunState.FINISHED, 10, 0, "train.py", 1000.0)
WHOLE = RemoteRun("finished", 10, "there", (), is_closed=True, logged_at=1000.0)
MODEL = LocalArtifact(1, "r1", "model", "digest")


def run(number: int) -> LocalRun:
    return replace(RUN, row=number, run_id=f"r{number}")


@pytest.mark.parametrize(
    ("there", "due"),
    [
        (None, UploadAction.SEND),
        (WHOLE, UploadAction.THERE),
        (replace(WHOLE, lines=4), UploadAction.GO_ON),
        (replace(WHOLE, state="running", is_closed=False), UploadAction.GO_ON),
        (replace(WHOLE, state="crashed", is_closed=False), UploadAction.GO_ON),
        (replace(WHOLE, state="crashed"), UploadAction.GO_ON),
        (replace(WHOLE, lines=11), UploadAction.CHANGED),
        (replace(WHOLE, logged_at=1001.0), UploadAction.CHANGED),
        (replace(WHOLE, logged_at=1000.0001), UploadAction.THERE),
        (replace(WHOLE, logged_at=None), UploadAction.THERE),
        (replace(WHOLE, lines=4, logged_at=999.0), UploadAction.GO_ON),
        (replace(WHOLE, sweep_id="another"), UploadAction.ELSEWHERE),
        (replace(WHOLE, sweep_id=None), UploadAction.ELSEWHERE),
    ],
)
def test_the_action_follows_from_the_state_at_the_destination(
    there: RemoteRun | None, due: UploadAction
) -> None:
    assert action_for(RUN, [], there, "there") is due


def test_an_active_run_is_left_for_another_upload() -> None:
    for state in (RunState.PENDING, RunState.RUNNING, RunState.PREEMPTING, RunState.PREEMPTED):
        assert action_for(replace(RUN, state=state), [], None, None) is UploadAction.OPEN


def test_a_run_is_incomplete_without_its_artifacts() -> None:
    one = replace(WHOLE, artifacts=(("model", "digest"),))
    assert action_for(RUN, [MODEL], WHOLE, "there") is UploadAction.GO_ON
    assert action_for(RUN, [MODEL], one, "there") is UploadAction.THERE
    assert action_for(RUN, [MODEL, replace(MODEL, row=3)], one, "there") is UploadAction.GO_ON


def test_an_uploaded_crashed_run_counts_as_complete() -> None:
    crashed, there = replace(RUN, state=RunState.CRASHED, exit_code=None), replace(WHOLE, state="crashed")
    assert action_for(crashed, [], replace(WHOLE, state="failed"), "there") is UploadAction.THERE
    assert action_for(crashed, [], there, "there") is UploadAction.THERE
    assert action_for(crashed, [], replace(there, is_closed=False), "there") is UploadAction.GO_ON


@pytest.mark.parametrize(
    ("state", "here", "there"),
    [
        (RunState.FINISHED, 0, 0),
        (RunState.FAILED, 3, 3),
        (RunState.FAILED, None, 1),
        (RunState.KILLED, 1, 255),
        (RunState.KILLED, None, 255),
        (RunState.CRASHED, None, None),
        (RunState.CRASHED, 1, None),
    ],
)
def test_an_exit_code_matches_the_runs_state(state: RunState, here: int | None, there: int | None) -> None:
    assert exit_code_of(replace(RUN, state=state, exit_code=here)) == there


def test_the_uploads_mark_is_a_line_of_the_description() -> None:
    sweep = LocalSweep(PATH, SweepState.FINISHED, None, {"method": "grid"}, (), (), ())
    assert configuration_of(sweep) == {"method": "grid", "description": mark_of(PATH)}
    own = replace(sweep, display_name="shown", configuration={"name": "told", "description": "mine"})
    assert configuration_of(own) == {"name": "shown", "description": f"mine\n{mark_of(PATH)}"}


def test_runs_are_sent_in_order_and_interrupted_ones_continue() -> None:
    found = {"r2": replace(WHOLE, lines=4, is_closed=False)}
    assert list(sends([run(1), run(2)], [], found)) == [
        RunUpload(run(1), (), 0, whole=True),
        RunUpload(run(2), (), 4, whole=True),
    ]


def test_a_run_is_sent_twice_only_for_interleaved_versions() -> None:
    between = [replace(MODEL, row=row, run_id=run_id) for row, run_id in ((1, "r1"), (2, "r2"), (3, "r1"))]
    assert list(sends([run(1), run(2)], between, {})) == [
        RunUpload(run(1), (1,), 0, whole=False),
        RunUpload(run(2), (2,), 0, whole=True),
        RunUpload(run(1), (3,), 0, whole=True),
    ]
    tables = [replace(each, name=each.run_id) for each in between]
    assert [send.whole for send in sends([run(1), run(2)], tables, {})] == [True, True]


def test_complete_runs_are_not_sent_again() -> None:
    logged = [replace(MODEL, row=row, digest=str(row)) for row in (1, 2)]
    found = {"r1": replace(WHOLE, is_closed=False, artifacts=(("model", "1"),))}
    assert [send.artifacts for send in sends([run(1)], logged, found)] == [(2,)]


@st.composite
def logs(draw: st.DrawFn) -> list[LocalArtifact]:
    names = draw(st.lists(st.tuples(st.integers(1, 4), st.sampled_from("abc")), max_size=12))
    return [LocalArtifact(row, f"r{number}", name, str(row)) for row, (number, name) in enumerate(names, 1)]


@given(logs())
def test_each_version_is_sent_once_and_in_order(logged: list[LocalArtifact]) -> None:
    runs = [run(number) for number in range(1, 5)]
    planned = list(sends(runs, logged, {}))
    sent = [row for send in planned for row in send.artifacts]
    assert sorted(sent) == [each.row for each in logged]
    for name in "abc":
        of_it = [each.row for each in logged if each.name == name]
        assert [row for row in sent if row in of_it] == of_it
    whole = Counter(send.run.run_id for send in planned if send.whole)
    assert whole == Counter(each.run_id for each in runs)
    last = {send.run.run_id: send for send in planned}
    assert all(send.whole for send in last.values())


@pytest.mark.parametrize(
    ("row", "began"),
    [
        ({"_timestamp": 10, "_runtime": 2.5}, 7.5),
        ({"_timestamp": 10}, None),
        ({"_timestamp": 10, "_runtime": "two"}, None),
        ({"_timestamp": [1], "_runtime": 2}, None),
        ({"_timestamp": float("nan"), "_runtime": 2}, None),
    ],
)
def test_invalid_logged_times_are_ignored(row: dict[str, Any], began: float | None) -> None:
    assert beginning_in(row) == began


TARGET = OpenedSweep(SweepPath("me", "p", SweepId("t")), "http://target", {})
THERE = replace(WHOLE, sweep_id="t")
NOTHING = UploadedState("me", is_source=False, sweep=None, state="", runs={})
ALL = replace(NOTHING, sweep=TARGET, state="PENDING", runs={"r1": THERE, "r2": THERE})


class Told(Client):
    """A client that returns the given states in turn, and can't send some runs."""

    def __init__(self, looks: list[UploadedState], why_not: dict[str, str]) -> None:
        self.credentials = Credentials("http://target", "the test")
        self.looks = looks
        self.why_not = why_not
        self.noted: list[str] = []
        self.verbs: list[str] = []

    def look(self, sought: UploadQuery) -> UploadedState:
        return self.looks.pop(0)

    def create(self, order: SweepRequest) -> OpenedSweep:
        return TARGET

    def send(self, errand: UploadTask) -> Sequence[str]:
        return [self.why_not.get(send.run.run_id, "") for send in errand.sends]

    def note_uses(self, path: SweepPath, uses: Sequence[ArtifactUse]) -> Sequence[ArtifactUse]:
        self.noted += [use.run_id for use in uses]
        return ()

    def set_state(self, path: SweepPath, verb: str) -> None:
        self.verbs.append(verb)


def performed(client: Client, waited: list[float]) -> Uploaded:
    runs = run(1), run(2)
    uses = tuple(ArtifactUse(one.run_id, "p", "data", "dataset", 0, "digest") for one in runs)
    sweep = LocalSweep(PATH, SweepState.FINISHED, None, {}, runs, (), uses)
    goes_to: dict[str, Any] = {"entity": None, "project": None, "server": None}
    upload = Upload(client, SourceDatabase("db"), sweep, **goes_to, say=lambda _: None, wait=waited.append)
    return upload.perform(Path("folder"))


def test_a_delayed_server_is_polled_again() -> None:
    waited: list[float] = []
    late = replace(ALL, runs={"r1": THERE, "r2": replace(THERE, lines=1)})
    client = Told([NOTHING, late, ALL], {})
    done = performed(client, waited)
    assert (done.sent, dict(done.failed), done.state) == (("r1", "r2"), {}, "FINISHED")
    assert waited == [PAUSES_S[0]]
    assert client.verbs == ["stop"]


def test_a_run_that_cannot_be_sent_keeps_the_sweep_open() -> None:
    waited: list[float] = []
    client = Told([NOTHING, replace(ALL, runs={"r2": THERE})], {"r1": "refused"})
    done = performed(client, waited)
    assert (done.sent, dict(done.failed), done.state) == (("r2",), {"r1": "refused"}, "PENDING")
    assert client.noted == ["r2"]
    assert (client.verbs, waited) == ([], [])


def test_a_run_that_stays_incomplete_is_reported_after_a_while() -> None:
    waited: list[float] = []
    part = replace(ALL, runs={"r1": THERE, "r2": replace(THERE, lines=1)})
    done = performed(Told([NOTHING, part, part, part, part], {}), waited)
    assert waited == list(PAUSES_S)
    assert list(done.failed) == ["r2"]


def test_the_destination_is_read_only_once_if_all_runs_are_there() -> None:
    ended = replace(ALL, state="FINISHED")
    client = Told([ended], {})
    assert performed(client, []).there == ("r1", "r2")
    assert client.verbs == []


def test_two_uploads_of_a_sweep_exclude_each_other(tmp_path: Path) -> None:
    with upload_folder(tmp_path, "s1") as folder, upload_folder(tmp_path, "s2"):
        with pytest.raises(UsageError, match="another upload of s1"), upload_folder(tmp_path, "s1"):
            pass
        assert folder.exists()


def test_files_of_a_killed_upload_are_removed(tmp_path: Path) -> None:
    left = tmp_path / "s1" / "upload" / "deep"
    left.mkdir(parents=True)
    (left / "file").touch()
    with suppress(KeyboardInterrupt), upload_folder(tmp_path, "s1") as folder:
        assert list(folder.iterdir()) == []
        (folder / "file").touch()
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []


def test_the_folder_of_the_sweep_is_kept(tmp_path: Path) -> None:
    (tmp_path / "s1").mkdir()
    (tmp_path / "s1" / "ledger.db").touch()
    with upload_folder(tmp_path, "s1"):
        pass
    assert [path.name for path in (tmp_path / "s1").iterdir()] == ["ledger.db"]


def test_an_unwritable_directory_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="name another --directory"), upload_folder(tmp_path / "file", "s1"):
        pass


def test_a_client_too_old_for_uploads_is_refused_with_its_version(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    metadata = tmp_path / "wandb-0.29.1.dist-info" / "METADATA"
    metadata.parent.mkdir()
    metadata.write_text("Metadata-Version: 2.1\nName: wandb\nVersion: 0.29.1\n")
    monkeypatch.syspath_prepend(tmp_path)
    too_old = pytest.raises(UsageError, match=r"upload needs wandb .*; this is 0\.29\.1")
    with too_old, client_in(tmp_path, {}):
        pass
