"""In which folders sweeps are kept, and which of them lie on file systems of the network."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from parallel_hpo.core.errors import ConfigError
from parallel_hpo.records.folders import file_system_problem, network_file_system, prepare_directory


def test_a_directory_is_made_and_left_empty(tmp_path: Path) -> None:
    prepare_directory(tmp_path / "new" / "one")
    assert list((tmp_path / "new" / "one").iterdir()) == []


@pytest.mark.parametrize("place", ["file/below", "/proc/nothing"])
def test_a_directory_that_cannot_be_is_named_with_the_reason(tmp_path: Path, place: str) -> None:
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
    """A machine whose homes are on a network, with a local disk in one, and one over another."""
    path = tmp_path / "mounts"
    path.write_text(
        "/dev/sda1 / ext4 rw 0 0\n"
        "server:/homes /homes nfs4 rw 0 0\n"
        "/dev/sdb1 /homes/me/fast xfs rw 0 0\n"
        "server:/two\\040words /two\\040words lustre rw 0 0\n"
        "server:/old /covered nfs rw 0 0\n"
        "tmpfs /covered tmpfs rw 0 0\n"
        "odd\n"
    )
    return path


@pytest.mark.parametrize(
    ("folder", "kind"),
    [
        ("/homes/me/sweeps", "nfs4"),
        ("/homes", "nfs4"),
        ("/homesick", ""),
        ("/homes/me/fast/sweeps", ""),
        ("/two words/sweeps", "lustre"),
        ("/covered/sweeps", ""),
        ("/var/sweeps", ""),
    ],
)
def test_the_innermost_and_latest_mount_says_the_kind(mounts: Path, folder: str, kind: str) -> None:
    assert network_file_system(Path(folder), mounts) == kind


def test_a_link_is_followed_to_where_the_folder_is(mounts: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("/homes/me")
    assert network_file_system(tmp_path / "link" / "sweeps", mounts) == "nfs4"


def test_only_a_folder_on_the_network_is_spoken_of(mounts: Path, tmp_path: Path) -> None:
    assert file_system_problem(Path("/homes/x"), mounts) == (
        "/homes/x is on the network (nfs4), where a ledger's locks may not hold"
    )
    assert file_system_problem(Path("/var/x"), mounts) is None
    assert file_system_problem(Path("/homes/x"), tmp_path / "no such file") is None
