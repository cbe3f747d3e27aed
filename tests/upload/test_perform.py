"""An upload with a fake client."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from parallel_hpo.client.base import OpenedSweep, SweepRequest
from parallel_hpo.client.credentials import Credentials
from parallel_hpo.client.uploading import ArtifactUse, RemoteRun, UploadedState, UploadQuery
from parallel_hpo.core.types import SweepId, SweepPath
from parallel_hpo.server.rules.runs import RunState
from parallel_hpo.server.rules.sweeps import SweepState
from parallel_hpo.upload.client import Client
from parallel_hpo.upload.perform import PAUSES_S, Upload, Uploaded
from parallel_hpo.upload.plan import LocalRun, LocalSweep, SourceDatabase
from parallel_hpo.upload.sending import UploadTask

RUNS = tuple(LocalRun(row, f"r{row}", RunState.FINISHED, 3, 0, "train.py", 1000.0) for row in (1, 2))
USES = tuple(ArtifactUse(run.run_id, "p", "data", "dataset", 0, "digest") for run in RUNS)
SWEEP = LocalSweep(SweepPath("local", "p", SweepId("s")), SweepState.FINISHED, None, {}, RUNS, (), USES)
TARGET = OpenedSweep(SweepPath("me", "p", SweepId("t")), "http://target", {})
WHOLE = RemoteRun("finished", 3, "t", (), is_closed=True, logged_at=1000.0)
NOTHING = UploadedState("me", is_source=False, sweep=None, state="", runs={})
ALL = replace(NOTHING, sweep=TARGET, state="PENDING", runs={"r1": WHOLE, "r2": WHOLE})


class Told(Client):
    """Returns one state after the other, and can't send some runs."""

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
    upload = Upload(
        client,
        SourceDatabase("db"),
        SWEEP,
        entity=None,
        project=None,
        server=None,
        say=lambda _: None,
        wait=waited.append,
    )
    return upload.perform(Path("folder"))


def test_a_late_server_is_asked_again() -> None:
    waited: list[float] = []
    late = replace(ALL, runs={"r1": WHOLE, "r2": replace(WHOLE, lines=1)})
    client = Told([NOTHING, late, ALL], {})
    done = performed(client, waited)
    assert (done.sent, dict(done.failed), done.state) == (("r1", "r2"), {}, "FINISHED")
    assert waited == [PAUSES_S[0]]
    assert client.verbs == ["stop"]


def test_a_run_that_cannot_be_sent_keeps_the_sweep_open() -> None:
    waited: list[float] = []
    client = Told([NOTHING, replace(ALL, runs={"r2": WHOLE})], {"r1": "refused"})
    done = performed(client, waited)
    assert (done.sent, dict(done.failed), done.state) == (("r2",), {"r1": "refused"}, "PENDING")
    assert client.noted == ["r2"]
    assert (client.verbs, waited) == ([], [])


def test_a_run_that_stays_incomplete_is_reported_after_a_time() -> None:
    waited: list[float] = []
    part = replace(ALL, runs={"r1": WHOLE, "r2": replace(WHOLE, lines=1)})
    done = performed(Told([NOTHING, part, part, part, part], {}), waited)
    assert waited == list(PAUSES_S)
    assert list(done.failed) == ["r2"]


def test_the_destination_is_read_once() -> None:
    ended = replace(ALL, state="FINISHED")
    client = Told([ended], {})
    assert performed(client, []).there == ("r1", "r2")
    assert client.verbs == []
