"""Which folders lie on file systems of the network."""

from __future__ import annotations

from pathlib import Path

import pytest

from parallel_hpo.supervisor.records.directory import network_file_system, why_unsafe


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
    assert why_unsafe(Path("/homes/x"), mounts) == (
        "/homes/x is on the network (nfs4), where a ledger's locks may not hold"
    )
    assert why_unsafe(Path("/var/x"), mounts) == ""
    assert why_unsafe(Path("/homes/x"), tmp_path / "no such file") == ""
