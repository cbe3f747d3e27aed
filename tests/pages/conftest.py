from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import pytest
from playwright.sync_api import BrowserContext, Page

from tests import chromium
from tests.chromium import Scheme
from tests.conftest import clean_env_in
from tests.folders import shared
from tests.pages.seen import TableRun
from tests.pages.serving import Served, served

Open = Callable[..., Page]
SERVER: Final = pytest.StashKey[Served]()


@contextmanager
def serving(folder: Path) -> Iterator[Served]:
    """A server of its own, in a clean environment."""
    with clean_env_in(folder / "home") as environment, served(folder, environment) as site:
        yield site


@pytest.fixture(scope="module")
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Served:
    """A server that all files' tests share, one after the other."""
    return shared(request, SERVER, lambda: serving(tmp_path_factory.mktemp("site")))


@pytest.fixture
def site(server: Served) -> Served:
    """A server over an empty database."""
    server.empty()
    return server


@pytest.fixture(scope="module")
def window(request: pytest.FixtureRequest) -> BrowserContext:
    """A window of a real browser, in which each test has tabs; they are skipped where there is none."""
    return shared(request, chromium.WINDOW, chromium.running)


@pytest.fixture
def seen(site: Served) -> Iterator[TableRun]:
    """Records pages' behaviour; the test fails on errors, policy violations and requests to other hosts."""
    seen = TableRun(site.url)
    yield seen
    assert (seen.trouble, seen.foreign) == ([], [])


@pytest.fixture
def visit(window: BrowserContext, site: Served, seen: TableRun) -> Iterator[Open]:
    """Open a page in a new tab and log in; the login of an earlier test is removed."""
    visited: list[Page] = []

    def visit(page: str, *, scheme: Scheme = "light", width: int = 1200, let_in: bool = True) -> Page:
        opened = chromium.new_tab(window, width=width, height=900, scheme=scheme)
        opened.set_default_timeout(30_000)
        seen.watch(opened)
        visited.append(opened)
        opened.goto(site.address(page) if let_in else site.url + page)
        return opened

    with chromium.tabs_of_its_own(window):
        yield visit
        for page in visited:
            seen.leave(page)
