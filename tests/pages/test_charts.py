"""The charts on the pages of a real server: they draw its data, filter the table, and obey the policy."""

from __future__ import annotations

import json
import re
from collections.abc import Callable

import pytest
from playwright.sync_api import Locator, Page, expect

from parallel_hpo.server.services.file_stream import Batch, Chunk
from parallel_hpo.server.store.lines import Stream
from tests.pages.serving import SPACE, Served

Visit = Callable[..., Page]
RUNS = 12


def performed(site: Served) -> str:
    """The id of a sweep with some runs that logged a few values each; one failed."""
    sweep = site.stage.sweep(SPACE | {"run_cap": RUNS})
    for number in range(RUNS):
        name = site.stage.issued(site.stage.agent(sweep, f"mark_{number % 2}_{number}"))
        site.stage.start(sweep, name, opener=f"mark_{number % 2}_{number}")
        lines = tuple(
            json.dumps({"_step": step, "_runtime": step, "loss": number + 1 / (step + 1)})
            for step in range(9)
        )
        site.stage.stream(
            name, Chunk((Batch(Stream.HISTORY, 0, lines),), json.dumps({"loss": float(number)}))
        )
        site.stage.stream(name, Chunk((), None, exitcode=int(number == 3)))
        site.stage.clock.now += 10
    return sweep


def words(page: Page, chart: str) -> Locator:
    return page.locator(f"[data-chart={chart}] .chart-words")


def test_every_chart_shows_what_the_server_says(visit: Visit, site: Served) -> None:
    page = visit(f"/local/p/sweeps/{performed(site)}")
    expect(words(page, "parallel")).to_have_text(re.compile(f"^{RUNS} of {RUNS} runs"))
    expect(words(page, "best")).to_have_text(re.compile(f"^Best of {RUNS - 1} finished runs: 0, by "))
    expect(words(page, "timeline")).to_have_text(re.compile(f"^2 workers, {RUNS} attempts"))
    expect(words(page, "histories")).to_have_text(f"loss of {RUNS} shown runs.")
    expect(words(page, "scatter")).to_have_text(re.compile("^loss of "))
    expect(words(page, "importance")).not_to_be_empty()


def test_a_brush_filters_the_table_and_the_tables_filters_the_charts(visit: Visit, site: Served) -> None:
    page = visit(f"/local/p/sweeps/{performed(site)}")
    page.wait_for_selector("[data-chart=histories] canvas")
    page.get_by_text("Choose by values").click()
    page.get_by_role("group", name="loss", exact=True).get_by_label("at most").fill("4")
    page.get_by_role("group", name="loss", exact=True).get_by_label("at most").blur()
    expect(page.locator("#rail-count")).to_have_text(f"4 of {RUNS} runs")  # the one that failed has no value
    expect(words(page, "histories")).to_have_text("loss of 4 shown runs.")
    page.click("#filter-menu summary")
    page.locator("#filter-top").select_option("top 25 %")
    expect(words(page, "histories")).to_have_text("loss of 3 shown runs.")
    page.get_by_role("button", name="Clear filters").click()
    expect(words(page, "histories")).to_have_text(f"loss of {RUNS} shown runs.")
    expect(words(page, "parallel")).to_contain_text("Drag along an axis")


@pytest.mark.parametrize("address", ["sweeps/{sweep}", "runs/{run}", ""])
def test_a_page_asks_for_one_script(visit: Visit, site: Served, address: str) -> None:
    sweep = performed(site)
    run = site.stage.issued(site.stage.agent(site.stage.sweep(SPACE)))
    page = visit(f"/local/p/{address.format(sweep=sweep, run=run)}".rstrip("/"))
    expect(page.locator("#live")).to_have_text(re.compile("live|over"))
    names = page.evaluate("() => performance.getEntriesByType('resource').map((entry) => entry.name)")
    assert len([name for name in names if name.endswith(".js")]) == 1


def test_pointing_at_pictures_breaks_no_policy(visit: Visit, site: Served) -> None:
    page = visit(f"/local/p/sweeps/{performed(site)}")
    page.wait_for_selector("[data-chart=histories] canvas")
    for canvas in page.locator("[data-chart] canvas").all():
        canvas.scroll_into_view_if_needed()
        box = canvas.bounding_box()
        assert box is not None
        for share in (0.1, 0.3, 0.5, 0.7, 0.9):
            page.mouse.move(box["x"] + box["width"] * share, box["y"] + box["height"] * share)


def test_a_runs_charts_grow_with_it(visit: Visit, site: Served) -> None:
    sweep = site.stage.sweep(SPACE)
    name = site.stage.issued(site.stage.agent(sweep, "mark_0_1"))
    site.stage.start(sweep, name, opener="mark_0_1")
    for step, loss in enumerate((3.0, 2.0)):
        lines = (json.dumps({"_step": step, "loss": loss}),)
        site.stage.stream(name, Chunk((Batch(Stream.HISTORY, step, lines),)))
    page = visit(f"/local/p/runs/{name}")
    expect(page.locator("[data-key=loss] .chart-words")).to_have_text("last 2, minimum 2, maximum 3")
    site.stage.stream(name, Chunk((Batch(Stream.HISTORY, 2, (json.dumps({"_step": 2, "loss": 0.5}),)),)))
    expect(page.locator("[data-key=loss] .chart-words")).to_have_text("last 0.5, minimum 0.5, maximum 3")
