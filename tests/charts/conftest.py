"""A browser with the charts of an artificial sweep."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import BrowserContext

from tests import chromium
from tests.charts.scene import Scene
from tests.charts.site import serving
from tests.chromium import Sight
from tests.folders import shared


@pytest.fixture(scope="module")
def window(request: pytest.FixtureRequest) -> BrowserContext:
    """A window of a real browser for all files here; their tests are skipped where there is none."""
    return shared(request, chromium.WINDOW, chromium.running)


@pytest.fixture(scope="module")
def site() -> Iterator[str]:
    """The address of the charts of 60 runs with 400 points each."""
    with serving(Scene(runs=60, points=400)) as address:
        yield address


@pytest.fixture
def sight(window: BrowserContext, site: str) -> Iterator[Sight]:
    """The charts of the sweep, drawn."""
    with chromium.looking(window) as seen:
        open_charts(seen, site)
        yield seen


@pytest.fixture(scope="module")
def drawn_once(window: BrowserContext, site: str) -> Iterator[Sight]:
    with chromium.looking(window) as seen:
        open_charts(seen, site)
        yield seen


@pytest.fixture
def drawn(drawn_once: Sight) -> Sight:
    """The charts of the sweep, drawn once for all tests of a file that only read them."""
    drawn_once.page.bring_to_front()
    return drawn_once


def open_charts(sight: Sight, site: str) -> None:
    """Open the charts of a sweep and wait until the last one is drawn."""
    sight.page.goto(site)
    sight.page.wait_for_selector("[data-chart=histories] canvas")
