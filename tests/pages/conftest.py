from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest
from playwright.sync_api import Browser, Page

from tests import chromium as browsers
from tests.conftest import clean_env_in
from tests.pages.seen import Seen
from tests.pages.serving import Served, served

Open = Callable[..., Page]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A server that a file's tests share, one after the other."""
    folder = tmp_path_factory.mktemp("site")
    with clean_env_in(folder / "home") as environment, served(folder, environment) as site:
        yield site


@pytest.fixture
def site(server: Served) -> Served:
    """A server over an empty database."""
    server.empty()
    return server


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """A real browser for a file's tests, each with windows of its own; skipped where there is none."""
    with browsers.running() as browser:
        yield browser


@pytest.fixture
def seen(site: Served) -> Iterator[Seen]:
    """What pages did; after the test they must not have failed, violated the policy, or asked others."""
    seen = Seen(site.url)
    yield seen
    assert (seen.trouble, seen.foreign) == ([], [])


@pytest.fixture
def visit(chromium: Browser, site: Served, seen: Seen) -> Iterator[Open]:
    """Open a page in a window of its own, which has no cookie of another, and is let in."""
    with ExitStack() as contexts:

        def visit(page: str, *, scheme: str = "light", width: int = 1200, let_in: bool = True) -> Page:
            context = chromium.new_context(
                color_scheme="dark" if scheme == "dark" else "light",
                viewport={"width": width, "height": 900},
                accept_downloads=True,
            )
            contexts.callback(context.close)
            opened = context.new_page()
            opened.set_default_timeout(30_000)
            seen.watch(opened)
            opened.goto(site.address(page) if let_in else site.url + page)
            return opened

        yield visit
