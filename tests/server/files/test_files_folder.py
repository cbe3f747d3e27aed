"""A database's files are in one folder, and a server with another folder doesn't start."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine

from parallel_hpo.core.errors import BackendError
from parallel_hpo.server.files.folder import ID_FILE, FolderRequest, find_folder, open_folder
from parallel_hpo.server.http import access
from parallel_hpo.server.store.database import Database, database_url
from parallel_hpo.server.store.migrations import upgrade
from tests.server.server_logic import Services

NAME = "postgresql://hpo@db/sweeps"


def wish(machine: Path, **more: Any) -> FolderRequest:
    """Return the folder request of a server on a machine with this folder."""
    return FolderRequest(NAME, machine / "server-files", **{"is_on_this_machine": False, **more})


def test_a_server_that_names_another_files_folder_is_refused(services: Services, tmp_path: Path) -> None:
    database = services.world.database
    first = open_folder(database, wish(tmp_path / "a"), host="gpu1")
    assert open_folder(database, wish(tmp_path / "a"), host="gpu1") == first  # as at each later start
    (tmp_path / "a").rename(tmp_path / "on the disk of gpu1")
    with pytest.raises(BackendError) as refused:
        open_folder(database, wish(tmp_path / "b"), host="gpu2")
    assert f"{NAME} should be in {first} on gpu1, and {tmp_path}/b/server-files" in str(refused.value)
    assert "by --files" in str(refused.value)
    assert not (tmp_path / "b").exists()


def test_servers_find_a_shared_folder_under_different_paths(services: Services, tmp_path: Path) -> None:
    shared, mounted = tmp_path / "shared", tmp_path / "mounted"
    open_folder(services.world.database, wish(tmp_path / "a", named=shared), host="gpu1")
    mounted.symlink_to(shared)
    assert open_folder(services.world.database, wish(tmp_path / "b", named=mounted), host="gpu2") == mounted
    # A server that doesn't name the folder again finds it where it was.
    assert open_folder(services.world.database, wish(tmp_path / "a"), host="gpu1") == shared
    assert find_folder(services.world.database, wish(tmp_path / "a")) == shared


def test_a_folder_is_adopted_only_on_request_and_stays_adopted(services: Services, tmp_path: Path) -> None:
    open_folder(services.world.database, wish(tmp_path / "a"), host="gpu1")
    named = wish(tmp_path / "b", named=tmp_path / "new", adopt=True)
    assert open_folder(services.world.database, named, host="gpu2") == tmp_path / "new"
    with pytest.raises(BackendError, match=r"new on gpu2"):
        open_folder(services.world.database, wish(tmp_path, named=tmp_path / "a/server-files"), host="gpu1")


def test_two_databases_cannot_share_one_files_folder(services: Services, tmp_path: Path) -> None:
    other = Database.open(str(tmp_path / "other.db"))
    open_folder(other, FolderRequest("other", tmp_path / "o", True, named=tmp_path / "shared"), host="gpu1")
    with pytest.raises(BackendError, match="has the files of another database, other: name another folder"):
        open_folder(services.world.database, wish(tmp_path / "a", named=tmp_path / "shared"), host="gpu1")
    other.close()


def beside(folder: Path, **more: Any) -> FolderRequest:
    """Return the folder request of a server with a SQLite database in this folder."""
    return FolderRequest(str(folder / "server.db"), folder / "server-files", True, **more)


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    """A SQLite database whose files are beside it."""
    (tmp_path / "old").mkdir()
    database = Database.open(str(tmp_path / "old" / "server.db"))
    open_folder(database, beside(tmp_path / "old"), host="here")
    yield database
    database.close()


def test_a_sqlite_database_may_be_moved_copied_or_lose_its_files(database: Database, tmp_path: Path) -> None:
    old, new, copy = (tmp_path / name for name in ("old", "new", "copy"))
    (old / "server-files" / "1").mkdir()
    shutil.copytree(old, new)
    assert open_folder(database, beside(new), host="here") == new / "server-files"  # both were moved
    (copy / "none").mkdir(parents=True)
    assert open_folder(database, beside(copy), host="here") == copy / "server-files"  # the database alone
    shutil.rmtree(copy / "server-files")
    assert open_folder(database, beside(copy), host="here") == copy / "server-files"


def test_a_migrated_database_adopts_its_existing_folder(tmp_path: Path) -> None:
    engine = create_engine(database_url(str(tmp_path / "server.db")))
    with engine.begin() as connection:
        upgrade(connection, target="0004")
    engine.dispose()
    (tmp_path / "server-files" / "1").mkdir(parents=True)
    migrated = Database.open(str(tmp_path / "server.db"))
    assert open_folder(migrated, beside(tmp_path), host="here") == tmp_path / "server-files"
    assert {path.name for path in (tmp_path / "server-files").iterdir()} == {"1", ID_FILE}
    migrated.close()


def test_a_new_sqlite_database_takes_over_the_folder_beside_it(database: Database, tmp_path: Path) -> None:
    anew = Database.open(str(tmp_path / "anew.db"))
    folder = tmp_path / "old"
    id_file = (folder / "server-files" / ID_FILE).read_text()
    assert open_folder(anew, beside(folder), host="here") == folder / "server-files"
    assert (folder / "server-files" / ID_FILE).read_text() == id_file
    anew.close()


def test_an_unmounted_files_folder_is_not_silently_replaced(database: Database, tmp_path: Path) -> None:
    old = tmp_path / "old"
    disk = tmp_path / "disk"
    open_folder(database, beside(old, named=disk, adopt=True), host="here")
    shutil.rmtree(old / "server-files")
    disk.rename(tmp_path / "unmounted")
    with pytest.raises(BackendError, match=r"should be in .*disk on here"):
        open_folder(database, beside(old), host="here")
    (tmp_path / "unmounted").rename(disk)
    assert open_folder(database, beside(old), host="here") == disk


def test_an_unusable_folder_is_refused_by_name(services: Services, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(BackendError, match=r"can't store files in .*file/x: .*; name another --files"):
        open_folder(services.world.database, wish(tmp_path, named=tmp_path / "file" / "x"), host="here")


def test_the_server_key_is_copied_to_the_files_folder_unchanged(tmp_path: Path) -> None:
    own, shared = tmp_path / "own", tmp_path / "shared"
    for folder in (own, shared):
        folder.mkdir()
    before = access.stored_key(own, own)
    assert access.stored_key(shared, own) == before
    assert access.stored_key(shared, tmp_path / "another") == before
    assert (shared / "server.key").stat().st_mode & 0o077 == 0
    assert before == (own / "server.key").read_text().strip()
