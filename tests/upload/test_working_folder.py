from __future__ import annotations

from pathlib import Path

import pytest

from parallel_hpo.core.errors import UsageError
from parallel_hpo.upload.client import client_in
from parallel_hpo.upload.plan import upload_folder


def test_two_uploads_of_a_sweep_exclude_each_other(tmp_path: Path) -> None:
    with upload_folder(tmp_path, "s1") as folder, upload_folder(tmp_path, "s2"):
        with pytest.raises(UsageError, match="another upload of s1"), upload_folder(tmp_path, "s1"):
            pass
        assert folder.exists()


def test_files_of_a_killed_upload_are_removed(tmp_path: Path) -> None:
    left = tmp_path / "s1" / "upload" / "deep"
    left.mkdir(parents=True)
    (left / "file").touch()
    with pytest.raises(KeyboardInterrupt):
        _interrupted_in(tmp_path)
    assert list(tmp_path.iterdir()) == []


def _interrupted_in(directory: Path) -> None:
    with upload_folder(directory, "s1") as folder:
        assert list(folder.iterdir()) == []
        (folder / "file").touch()
        raise KeyboardInterrupt


def test_a_sweeps_own_folder_stays(tmp_path: Path) -> None:
    (tmp_path / "s1").mkdir()
    (tmp_path / "s1" / "ledger.db").touch()
    with upload_folder(tmp_path, "s1"):
        pass
    assert [path.name for path in (tmp_path / "s1").iterdir()] == ["ledger.db"]


def test_an_unwritable_directory_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="name another --directory"), upload_folder(tmp_path / "file", "s1"):
        pass


def test_a_client_that_is_too_old_for_an_upload_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    metadata = tmp_path / "wandb-0.29.1.dist-info" / "METADATA"
    metadata.parent.mkdir()
    metadata.write_text("Metadata-Version: 2.1\nName: wandb\nVersion: 0.29.1\n")
    monkeypatch.syspath_prepend(tmp_path)
    too_old = pytest.raises(UsageError, match=r"upload needs wandb .*; this is 0\.29\.1")
    with too_old, client_in(tmp_path, {}):
        pass
