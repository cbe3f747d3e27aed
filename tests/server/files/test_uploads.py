"""Files that runs upload are stored under their run, at their own URL, completely or not at all."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from urllib.parse import urlsplit

import pytest

from parallel_hpo.server.files import storage as run_files
from parallel_hpo.server.files.storage import FileRef
from parallel_hpo.server.store.runs import RunPath
from parallel_hpo.server.values import RefusedError
from tests.server.application import URL, Web
from tests.server.server_logic import Services

RUN = RunPath("local", "p", "r")


@pytest.fixture
def web(services: Services) -> Iterator[Web]:
    """A client without a key, and a run to upload for."""
    services.upsert("r")
    with Web(services, key=None) as web:
        yield web


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


def test_an_upload_url_is_valid_only_for_its_own_file_and_expires(services: Services, web: Web) -> None:
    url = address(services, "config.yaml")
    query = urlsplit(url).query
    services.clock.now += 3600
    for path in (
        f"1/other.yaml?{query}",
        f"2/config.yaml?{query}",
        "1/config.yaml",
        "1/config.yaml?expires=9999999999&signature=%FF",
    ):
        assert web.put(f"/uploads/{path}", content=b"x").status_code == 403
    assert not services.world.files.exists()
    assert web.put(url, content=b"x").status_code == 200
    services.clock.now += 1
    assert web.put(url, content=b"x").status_code == 403


def test_an_upload_that_conflicts_with_a_folder_is_refused_with_409(services: Services, web: Web) -> None:
    for name, status in (("a", 200), ("a/b", 409), ("c/d", 200), ("c", 409)):
        assert web.put(address(services, name), content=b"x").status_code == status


def test_creating_files_of_an_unknown_run_is_refused(services: Services) -> None:
    with pytest.raises(RefusedError, match="doesn't exist"):
        run_files.create(services.world, URL, RunPath("local", "p", "nobody"), ["a"])
