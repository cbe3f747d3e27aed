"""Folders of sweeps: valid directories, detection of network file systems, and removal."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import pytest

from parallel_hpo.core.errors import ConfigError, ExitCode, LedgerError
from parallel_hpo.core.messages import AttemptEnd
from parallel_hpo.core.types import Outcome, RunId
from parallel_hpo.records.folders import (
    CleanCandidate,
    clean_candidate,
    file_system_problem,
    find_sweep,
    network_file_system,
    prepare_directory,
    remove,
)
from parallel_hpo.records.ledger import Ledger
from tests.ledgers import record_end, record_start


def test_a_directory_is_created_and_left_empty(tmp_path: Path) -> None:
    prepare_directory(tmp_path / "new" / "one")
    assert list((tmp_path / "new" / "one").iterdir()) == []


@pytest.mark.parametrize("place", ["file/below", "/proc/nothing"])
def test_an_unwritable_directory_is_refused_with_the_reason(tmp_path: Path, place: str) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError) as refused:
        prepare_directory(tmp_path / place)
    assert str(refused.value).startswith(f"hpo.directory is {tmp_path / place}, which can't be written: ")


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP])
def test_a_file_system_without_locks_is_refused(tmp_path: Path, number: int) -> None:
    def knows_no_locks(fd: int) -> None:
        raise OSError(number, os.strerror(number))

    with pytest.raises(ConfigError, match="whose file system has no file locks") as refused:
        prepare_directory(tmp_path, lock=knows_no_locks)
    assert os.strerror(number) in str(refused.value)


@pytest.fixture
def mounts(tmp_path: Path) -> Path:
    """Mounts with homes on the network, a local disk in one of them, and a mount over another."""
    path = tmp_path / "mounts"
    homes = "server:/homes /homes nfs4 rw 0 0\n/dev/sdb1 /homes/me/fast xfs rw 0 0\n"
    covered = "server:/old /covered nfs rw 0 0\ntmpfs /covered tmpfs rw 0 0\n"
    spaced = "server:/two\\040words /two\\040words lustre rw 0 0\n"
    path.write_text(f"/dev/sda1 / ext4 rw 0 0\n{homes}{spaced}{covered}odd\n")
    return path


@pytest.mark.parametrize(
    ("folder", "kind"),
    [
        *(("/homes", "nfs4"), ("/homes/me/sweeps", "nfs4"), ("/two words/sweeps", "lustre")),
        *((folder, "") for folder in ("/homesick", "/homes/me/fast/sweeps", "/covered/sweeps", "/var")),
    ],
)
def test_the_innermost_and_latest_mount_determines_the_kind(mounts: Path, folder: str, kind: str) -> None:
    assert network_file_system(Path(folder), mounts) == kind


def test_a_symbolic_link_is_followed_to_its_file_system(mounts: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("/homes/me")
    assert network_file_system(tmp_path / "link" / "sweeps", mounts) == "nfs4"


def test_only_a_folder_on_the_network_is_reported(mounts: Path, tmp_path: Path) -> None:
    assert file_system_problem(Path("/homes/x"), mounts) == (
        "/homes/x is on the network (nfs4), where a ledger's locks may not hold"
    )
    assert file_system_problem(Path("/var/x"), mounts) is None
    assert file_system_problem(Path("/homes/x"), tmp_path / "no such file") is None


NOW = 2e9


def made(
    directory: Path, *, code: int | None = 0, outcome: Outcome | None = Outcome.FINISHED, part: str = ""
) -> Path:
    """Create the folder of a sweep with one run, and return it."""
    folder = directory / "sweep1" / part
    with Ledger(folder / "ledger.db") as ledger:
        record_start(ledger, "run1")
        if outcome is not None:
            record_end(ledger, RunId("run1"), 1, AttemptEnd(outcome=outcome, duration_s=1.0))
    if code is not None:
        (folder / "summary.json").write_text(json.dumps({"exit_code": code}))
    return folder


def client_folder(folder: Path, kind: str, *, synced: bool) -> None:
    """Create the files that a client leaves of the run."""
    own = folder / "worker-0" / "wandb" / f"{kind}-20260101_000000-run1"
    own.mkdir(parents=True)
    (own / "run-run1.wandb").touch()
    if synced:
        (own / "run-run1.wandb.synced").touch()


def seen(directory: Path) -> CleanCandidate:
    return clean_candidate(find_sweep(directory, "sweep1"), now=NOW)


@pytest.mark.parametrize(
    ("code", "losses"),
    [
        *((code, ()) for code in (ExitCode.COMPLETE, ExitCode.NO_RUN_FINISHED, ExitCode.FAILURE_POLICY)),
        *((code, ("it can be resumed",)) for code in (ExitCode.RESUMABLE, 130, ExitCode.SWEEP_TIMEOUT, None)),
    ],
)
def test_only_a_sweep_that_can_be_resumed_counts_as_a_loss(
    tmp_path: Path, code: int | None, losses: tuple[str, ...]
) -> None:
    made(tmp_path, code=code)
    assert seen(tmp_path).losses == losses


def test_an_unfinished_share_keeps_the_sweep_resumable(tmp_path: Path) -> None:
    made(tmp_path, part="share-1-of-2")
    made(tmp_path, part="share-2-of-2", code=75)
    assert seen(tmp_path).losses == ("it can be resumed",)


@pytest.mark.parametrize("outcome", [Outcome.CRASHED, None])
def test_an_interrupted_run_is_reported_unless_its_data_is_synced(
    tmp_path: Path, outcome: Outcome | None
) -> None:
    folder = made(tmp_path, outcome=outcome)
    assert seen(tmp_path).losses == ()  # its client had not begun
    client_folder(folder, "run", synced=False)
    assert seen(tmp_path).losses == ("its server may lack the last lines of run1",)
    next(folder.rglob("*.wandb")).with_name("run-run1.wandb.synced").touch()
    assert seen(tmp_path).losses == ()


def test_synced_data_of_an_earlier_attempt_does_not_count_for_the_last_one(tmp_path: Path) -> None:
    folder = made(tmp_path, outcome=Outcome.CRASHED)
    client_folder(folder, "run", synced=True)
    last = folder / "worker-0" / "wandb" / "run-20260101_000000-run1-1"
    last.mkdir()
    (last / "run-run1.wandb").touch()
    assert seen(tmp_path).losses == ("its server may lack the last lines of run1",)


@pytest.mark.parametrize("synced", [True, False])
def test_offline_runs_are_reported_until_they_are_synced(tmp_path: Path, synced: bool) -> None:
    client_folder(made(tmp_path), "offline-run", synced=synced)
    assert seen(tmp_path).losses == (() if synced else ("1 offline runs are not synced",))


def test_reading_a_sweep_does_not_change_its_age(tmp_path: Path) -> None:
    for path in made(tmp_path).iterdir():
        os.utime(path, (NOW - 100, NOW - 100))
    assert [seen(tmp_path).age_s for _ in range(2)] == [100.0, 100.0]


def test_a_folder_is_removed_as_a_whole_and_what_a_link_leads_to_is_neither_counted_nor_removed(
    tmp_path: Path,
) -> None:
    elsewhere = tmp_path / "data.bin"
    elsewhere.write_bytes(bytes(2**20))
    (made(tmp_path) / "data").symlink_to(elsewhere)
    candidate = seen(tmp_path)
    remove(candidate)
    assert candidate.size_mb < 1
    assert list(tmp_path.iterdir()) == [elsewhere]


def test_a_folder_with_an_active_supervisor_is_not_removed(tmp_path: Path) -> None:
    made(tmp_path, part="share-1-of-2")
    folder = made(tmp_path, part="share-2-of-2")
    with Ledger(folder / "ledger.db"), pytest.raises(LedgerError):
        remove(seen(tmp_path))
    assert (tmp_path / "sweep1" / "share-1-of-2" / "summary.json").exists()
