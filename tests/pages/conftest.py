from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

import pytest
from playwright.sync_api import BrowserContext, Page

from tests import chromium
from tests.chromium import Scheme
from tests.conftest import clean_env_in
from tests.folders import shared
from tests.pages.serving import Served, served

Open = Callable[..., Page]
SERVER: Final = pytest.StashKey[Served]()


@contextmanager
def serving(folder: Path) -> Iterator[Served]:
    """Run a new server in a clean environment."""
    with clean_env_in(folder / "home") as environment, served(folder, environment) as site:
        yield site


@pytest.fixture(scope="module")
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Served:
    """A server that the tests of all files share."""
    return shared(request, SERVER, lambda: serving(tmp_path_factory.mktemp("site")))


@pytest.fixture
def site(server: Served) -> Served:
    """A server over an empty database."""
    server.empty()
    return server


@pytest.fixture(scope="module")
def window(request: pytest.FixtureRequest) -> BrowserContext:
    """A window of a real browser, with tabs for each test; without a browser the tests are skipped."""
    return shared(request, chromium.WINDOW, chromium.running)


@pytest.fixture
def visit(window: BrowserContext, site: Served) -> Iterator[Open]:
    """Open a page in a new tab and log in; the test fails on any complaint of its pages."""
    seen: list[chromium.Sight] = []
    with ExitStack() as tabs:

        def visit(page: str, *, scheme: Scheme = "light", width: int = 1200, let_in: bool = True) -> Page:
            sight = tabs.enter_context(chromium.looking(window, width=width, scheme=scheme))
            seen.append(sight)
            sight.page.set_default_timeout(30_000)
            sight.page.goto(site.address(page) if let_in else site.url + page)
            return sight.page

        yield visit
        assert [complaint for sight in seen for complaint in sight.complaints()] == []
