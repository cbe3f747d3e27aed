"""What a share does and says of a run that a sibling has, over real ledgers and a backend that records."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from parallel_hpo.client.base import UnstartedRun
from parallel_hpo.core.messages import AttemptEnd
from parallel_hpo.core.notices import Message
from parallel_hpo.core.types import Outcome, RunId, Slot
from parallel_hpo.processes.reaper import new_owner_id
from parallel_hpo.records.ledger import Ledger
from parallel_hpo.records.ledger_views import LEDGER
from parallel_hpo.session.other_launches import OtherLaunches
from parallel_hpo.session.signals import CommandPipe
from tests.session.test_server_calls import PATH, RUN, RecordingBackend

DEAD = "12_t34_56_boot_aa"
OURS = "12_t99_56_boot_bb"


def of(mark: str) -> UnstartedRun:
    """RUN, which slot 0 of the supervisor with this mark has."""
    return UnstartedRun(RUN, f"{mark}_0_1" if mark else "", "elsewhere")


def look(directory: Path, *others: UnstartedRun) -> tuple[list[tuple[str, ...]], list[Message]]:
    """Look once; return what the backend was told, and what is said."""
    backend = RecordingBackend(others=list(others))
    said = list(OtherLaunches(backend, PATH, directory=directory, mark=OURS).look())
    return backend.asked[1:], said


@pytest.fixture
def share(tmp_path: Path) -> Path:
    """The folder of share 1/2, whose supervisor had the mark DEAD."""
    folder = tmp_path / PATH.sweep_id / "share-1-of-2"
    with Ledger(folder / LEDGER) as ledger:
        ledger.record_facts({"marks": ["12_t11_56_boot_aa", DEAD]})
    return folder


def begin(folder: Path, run_id: RunId, **end: Any) -> None:
    with Ledger(folder / LEDGER) as ledger:
        ledger.record_start(run_id, parameters={}, attempt=1, slot=Slot(0), device=None)
        if end:
            ledger.record_end(run_id, 1, AttemptEnd(**end))


def test_what_a_killed_share_had_not_begun_is_given_out_again_and_said(tmp_path: Path, share: Path) -> None:
    begin(share, RunId("other"))
    told, (message,) = look(tmp_path, of(DEAD))
    assert told == [("requeue_runs", DEAD, "other")]
    assert message.warning
    assert message.text.startswith(f"share 1/2 was killed before it started run {RUN}")


@pytest.mark.parametrize("end", [{}, {"outcome": Outcome.FINISHED}])
def test_what_a_killed_share_had_begun_stays_its_own(
    tmp_path: Path, share: Path, end: dict[str, Any]
) -> None:
    begin(share, RUN, **end)
    told, (message,) = look(tmp_path, of(DEAD))
    assert told == [("requeue_runs", DEAD, RUN)]
    assert "the next launch of that share continues it" in message.text


def test_a_living_share_keeps_what_it_was_given_however_slow_it_is(tmp_path: Path, share: Path) -> None:
    backend = RecordingBackend(others=[of(DEAD)])
    siblings = OtherLaunches(backend, PATH, directory=tmp_path, mark=OURS)
    with CommandPipe(share):
        said = [*siblings.look(), *siblings.look()]
    words = "waiting for share 1/2, which has it and has not started it"
    assert [message.text for message in said] == [f"no more runs, except run {RUN}: {words}"]
    assert backend.asked == [("unstarted_runs",)] * 2


def test_what_our_own_workers_have_is_no_matter(tmp_path: Path, share: Path) -> None:
    assert look(tmp_path, of(OURS)) == ([], [])


def test_a_strangers_run_is_waited_for_by_name(tmp_path: Path, share: Path) -> None:
    told, (message,) = look(tmp_path, of(""))
    assert told == []
    assert f"run {RUN}: waiting for an agent on elsewhere" in message.text


def test_a_launch_without_a_ledger_is_known_by_its_mark(tmp_path: Path, share: Path) -> None:
    dead = subprocess.run(
        [
            sys.executable,
            "-c",
            f"from {new_owner_id.__module__} import new_owner_id; print(new_owner_id())",
        ],
        check=True,
        capture_output=True,
        text=True,
    ).stdout.strip()
    assert look(tmp_path, of(dead))[0] == [("requeue_runs", dead)]
    assert look(tmp_path, of(new_owner_id()))[0] == []
    (share / LEDGER).write_text("no ledger at all, but long enough to be seen as none" * 20)
    assert look(tmp_path, of(dead))[0] == []
