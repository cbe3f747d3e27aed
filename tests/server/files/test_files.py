"""Files of runs: complete or not at all, at signed addresses, in the folder of their database."""

from __future__ import annotations

import asyncio
import hashlib
import shutil
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from sqlalchemy import create_engine

from parallel_hpo.core.errors import BackendError
from parallel_hpo.server.files import storage as run_files
from parallel_hpo.server.files.folder import ID_FILE, FolderRequest, find_folder, open_folder
from parallel_hpo.server.files.storage import FileRef
from parallel_hpo.server.http import access
from parallel_hpo.server.store.database import Database, database_url
from parallel_hpo.server.store.migrations import upgrade
from parallel_hpo.server.store.runs import RunPath
from parallel_hpo.server.values import RefusedError
from tests.server.application import URL, Web
from tests.server.server_logic import Services

RUN = RunPath("local", "p", "r")
CONTENT = b"content"
LISTED = """query F { project(name: "p") { run(name: "r") { fileCount files { edges { node {
  id name sizeBytes md5 directUrl } } } } } }"""
DELETE = "mutation D($f: [ID!]!) { deleteFiles(input: {files: $f}) { success } }"


@pytest.fixture
def stranger(services: Services) -> Iterator[Web]:
    """A client without a key, and a run to upload for."""
    services.upsert("r")
    with Web(services, key=None) as stranger:
        yield stranger


def send(services: Services, place: FileRef, content: bytes) -> None:
    """Upload a run's file."""

    async def body() -> AsyncIterator[bytes]:
        yield content

    run_files.record_upload(
        services.world, place, asyncio.run(run_files.store(services.world, place, body()))
    )


def address(services: Services, name: str) -> str:
    (file,) = run_files.create(services.world, URL, RUN, [name]).files
    assert file.upload_url is not None
    return file.upload_url


@pytest.mark.parametrize(
    "name", ["config.yaml", "media/images/a b_1.png", "ü?#%.txt", "media/images/train\\image_0.png", "a\tb"]
)
def test_the_last_upload_of_a_file_is_stored_under_its_run(services: Services, web: Web, name: str) -> None:
    url = address(services, name)
    for content in (b"one, longer", b"two"):
        assert web.put(url, content=content).status_code == 200
    folder = services.world.files / str(services.run("r").id)
    assert [path for path in folder.rglob("*") if path.is_file()] == [folder / name]
    assert (folder / name).read_bytes() == b"two"


@pytest.mark.parametrize("name", ["../x", "a/../../x", "/etc/x", "", ".", "..", "a\0b", "a\nb", "n" * 1001])
def test_an_invalid_file_name_gets_no_upload_url_but_other_files_do(
    services: Services, web: Web, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    before, refused, after = run_files.create(services.world, URL, RUN, ["a", name, "b"]).files
    assert (refused.name, refused.upload_url) == (name, None)
    assert "run r: file name" in caplog.text
    for file in (before, after):
        assert file.upload_url is not None
        assert web.put(file.upload_url, content=b"bytes").status_code == 200


def test_files_beyond_the_limit_get_no_upload_url_but_the_others_do(services: Services, web: Web) -> None:
    files = run_files.create(services.world, URL, RUN, ["a"] * 50_001).files
    assert (len(files), [file.upload_url is None for file in files[-2:]]) == (50_001, [False, True])


def test_unfinished_uploads_are_cleared_except_those_in_progress(services: Services) -> None:
    place = FileRef("1", "config.yaml")

    async def upload() -> None:
        async def body() -> AsyncIterator[bytes]:
            yield b"half"
            (written,) = services.world.files.glob(".incoming/*")
            begun = written.with_name("begun")
            begun.write_bytes(b"by a server that is dead")
            run_files.clear_unfinished(services.world.files)
            assert not begun.exists()
            yield b" whole"

        await run_files.store(services.world, place, body())

    asyncio.run(upload())
    assert place.path_in(services.world.files).read_bytes() == b"half whole"
    assert list(services.world.files.glob(".incoming/*")) == []


def test_an_interrupted_upload_leaves_no_file(services: Services) -> None:
    async def half() -> AsyncIterator[bytes]:
        yield b"half"
        raise ConnectionResetError

    with pytest.raises(ConnectionResetError):
        asyncio.run(run_files.store(services.world, FileRef("1", "config.yaml"), half()))
    assert [path for path in services.world.files.rglob("*") if path.is_file()] == []


def test_an_upload_url_is_valid_only_for_its_own_file_and_expires(services: Services, stranger: Web) -> None:
    url = address(services, "config.yaml")
    query = urlsplit(url).query
    services.clock.now += 3600
    for path in (
        f"1/other.yaml?{query}",
        f"2/config.yaml?{query}",
        "1/config.yaml",
        "1/config.yaml?expires=9999999999&signature=%FF",
    ):
        assert stranger.put(f"/uploads/{path}", content=b"x").status_code == 403
    assert not services.world.files.exists()
    assert stranger.put(url, content=b"x").status_code == 200
    services.clock.now += 1
    assert stranger.put(url, content=b"x").status_code == 403


def test_an_upload_that_conflicts_with_a_folder_is_refused_with_409(services: Services, web: Web) -> None:
    for name, status in (("a", 200), ("a/b", 409), ("c/d", 200), ("c", 409)):
        assert web.put(address(services, name), content=b"x").status_code == status


def test_creating_files_of_an_unknown_run_is_refused(services: Services) -> None:
    with pytest.raises(RefusedError, match="doesn't exist"):
        run_files.create(services.world, URL, RunPath("local", "p", "nobody"), ["a"])


def sent(services: Services, web: Web, name: str = "a.txt") -> dict[str, Any]:
    """Upload a file of the run, and return its listing entry."""
    assert web.put(address(services, name), content=CONTENT).status_code == 200
    (edge,) = web.done(LISTED)["project"]["run"]["files"]["edges"]
    node: dict[str, Any] = edge["node"]
    return node


def test_a_run_file_is_listed_and_served_as_an_opaque_download(services: Services, web: Web) -> None:
    file = sent(services, web, "page.html")
    md5 = hashlib.md5(CONTENT, usedforsecurity=False).hexdigest()
    assert (file["name"], file["sizeBytes"], file["md5"]) == ("page.html", len(CONTENT), md5)
    assert file["directUrl"].startswith(f"{URL}/downloads/")
    answer = web.get(file["directUrl"])
    assert answer.content == CONTENT
    assert answer.headers["content-type"] == "application/octet-stream"
    assert answer.headers["x-content-type-options"] == "nosniff"


def test_a_download_url_does_not_permit_an_upload_and_expires(services: Services, web: Web) -> None:
    url = sent(services, web)["directUrl"]
    assert web.put(url.replace("/downloads/", "/uploads/"), content=b"x").status_code == 403
    assert web.get(url.replace("signature=", "signature=0")).status_code == 403
    services.clock.now += 24 * 3600 + 1
    assert web.get(url).status_code == 403


def test_deleting_a_file_or_its_run_removes_the_stored_content(services: Services, web: Web) -> None:
    file = sent(services, web)
    assert web.done(DELETE, f=[file["id"]])["deleteFiles"]["success"]
    assert web.done(LISTED)["project"]["run"]["fileCount"] == 0
    assert web.get(file["directUrl"]).status_code == 404
    sent(services, web)
    folder = services.world.files / str(services.run("r").id)
    assert folder.exists()
    services.delete("r")
    assert not folder.exists()


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
