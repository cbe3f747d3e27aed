from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from parallel_hpo.errors import ConfigError
from parallel_hpo.supervisor.records.directory import prepare_directory


def test_a_directory_is_made_and_left_empty(tmp_path: Path) -> None:
    prepare_directory(tmp_path / "new" / "one")
    assert list((tmp_path / "new" / "one").iterdir()) == []


@pytest.mark.parametrize("place", ["file/below", "/proc/nothing"])
def test_a_directory_that_cannot_be_is_named_with_the_reason(tmp_path: Path, place: str) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError) as refused:
        prepare_directory(tmp_path / place)
    assert str(refused.value).startswith(
        f"hpo.directory is {tmp_path / place}, where nothing can be written: "
    )


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP])
def test_a_file_system_without_locks_is_refused(tmp_path: Path, number: int) -> None:
    def knows_no_locks(fd: int) -> None:
        raise OSError(number, os.strerror(number))

    with pytest.raises(ConfigError, match="whose file system has no file locks") as refused:
        prepare_directory(tmp_path, lock=knows_no_locks)
    assert os.strerror(number) in str(refused.value)
