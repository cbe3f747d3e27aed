"""Open pages whose server ends: it is started for this test, as the other tests share a server."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.pages.conftest import serving
from tests.pages.scenes import Scenes
from tests.pages.serving import SPACE, Served
from tests.pages.test_pages import running

Visit = Callable[..., Page]


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Served]:
    with serving(tmp_path) as served:
        yield served


def test_an_open_page_shows_that_its_sweep_or_its_server_has_ended(visit: Visit, site: Served) -> None:
    over, (going_on, run) = Scenes(site.services).sweep(SPACE, 1), running(site)
    pages = [
        visit(f"/local/p/{address}") for address in (f"sweeps/{over}", f"sweeps/{going_on}", f"runs/{run}")
    ]
    ended, surprised, of_run = pages
    for page in (surprised, of_run):
        expect(page.locator("#live")).to_have_text("live")
    expect(ended.locator("#rail-count")).to_have_text("1 run")
    expect(ended.locator("#live")).to_have_text("")
    expect(surprised.locator("#actions button")).to_have_count(4)
    site.end()
    expect(ended.locator("#live")).to_have_text(
        f"the sweep has ended; parallel-hpo open {over} shows it again"
    )
    expect(surprised.locator("#live")).to_have_text(
        f"the sweep's server has ended; parallel-hpo open {going_on} shows the sweep's current state"
    )
    expect(surprised.locator("#state")).to_have_text("was running")
    expect(surprised.locator("#actions button")).to_have_count(0)
    expect(of_run.locator("#live")).to_have_text(
        f"the server has ended; parallel-hpo open {going_on} shows its sweep again"
    )
    expect(of_run.locator('dd[data-fact="state"]')).to_have_text("was running")
