"""The run table in a real browser: order, filters, columns, pages, selection, all of them by keyboard too."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from playwright.sync_api import Page, expect

from tests.pages.page_actions import open_table
from tests.pages.scenes import Scenes
from tests.pages.serving import SPACE, Served

Visit = Callable[..., Page]
ROWS = "#runs tbody tr"
STATES = "fffffffffx"
"""Every tenth run fails."""


@pytest.fixture
def sweep(site: Served) -> str:
    return Scenes(site.services).sweep(SPACE, 120, states=STATES)


@pytest.fixture
def page(visit: Visit, sweep: str) -> Page:
    page = open_table(visit(f"/local/p/sweeps/{sweep}"))
    expect(page.locator(ROWS)).to_have_count(50)
    return page


def column(page: Page, title: str) -> list[str]:
    """Return the texts of a column on the shown page of runs."""
    titles = page.locator("#runs thead th").all_inner_texts()
    place = titles.index(title) + 2
    return page.locator(f"{ROWS} td:nth-child({place})").all_inner_texts()


def numbers(texts: list[str]) -> list[float]:
    return [float(text) for text in texts if text]


def until(page: Page, holds: Callable[[], bool]) -> None:
    """Wait for the table, which follows filters a frame later."""
    for _ in range(200):
        if holds():
            return
        page.wait_for_timeout(50)
    assert holds()


def header(page: Page, name: str) -> str:
    return f'#runs th[data-column="{name}"]'


def test_the_best_run_comes_first_and_clicks_and_enter_sort_both_ways(
    page: Page,
) -> None:
    values = numbers(column(page, "loss"))
    assert values == sorted(values)
    page.click(header(page, "value"))
    expect(page.locator(header(page, "value"))).to_have_attribute("aria-sort", "descending")
    values = numbers(column(page, "loss"))
    assert len(values) == 50 and values == sorted(values, reverse=True)
    page.click("#page-last")
    expect(page.locator("#page-where")).to_have_text("page 3 of 3")
    assert column(page, "state")[-12:] == ["failed"] * 12
    page.select_option("#page-size", "250")
    expect(page.locator(ROWS)).to_have_count(120)
    page.click(header(page, "parameters.lr"))
    expect(page.locator(header(page, "parameters.lr"))).to_have_attribute("aria-sort", "ascending")
    rates = numbers(column(page, "lr"))
    assert rates == sorted(rates)
    page.focus(header(page, "parameters.lr"))
    page.keyboard.press("Enter")
    expect(page.locator(header(page, "parameters.lr"))).to_have_attribute("aria-sort", "descending")
    rates = numbers(column(page, "lr"))
    assert rates == sorted(rates, reverse=True)
    page.focus(header(page, "parameters.optimizer.name"))
    page.keyboard.press("Enter")
    expect(page.locator(header(page, "parameters.optimizer.name"))).to_have_attribute(
        "aria-sort", "ascending"
    )
    names = column(page, "optimizer.name")
    assert names == sorted(names) and names[0] == "adam"


def test_filters_work_by_keyboard_alone(page: Page) -> None:
    shown = page.locator("#shown")
    page.focus("#filter-text")
    page.keyboard.type("adam sweep-1")
    expect(shown).to_contain_text(" of 120 runs")
    until(page, lambda: set(column(page, "optimizer.name")) == {"adam"})
    page.keyboard.press("Control+A")
    page.keyboard.press("Delete")
    expect(shown).to_have_text("120 runs")
    page.focus("#filter-menu summary")
    page.keyboard.press("Enter")
    page.focus('#filter-states input[value="failed"]')
    page.keyboard.press("Space")
    expect(shown).to_have_text("108 of 120 runs")
    page.focus("#filter-column")
    page.keyboard.type("lr")
    page.keyboard.press("Tab")
    page.keyboard.type("0.001")
    page.keyboard.press("Enter")
    expect(page.locator("#ranges li")).to_have_text(["state: finished", "0.001 ≤ lr ≤ …"])
    until(page, lambda: min(numbers(column(page, "lr"))) >= 0.001)
    page.focus("#ranges li:last-child button")
    page.keyboard.press("Enter")
    expect(shown).to_have_text("108 of 120 runs")
    page.click("#filter-menu summary")
    page.focus("#filter-top")
    page.keyboard.type("top 10")
    expect(shown).to_have_text("11 of 120 runs")
    page.focus("#ranges li:last-child button")
    page.keyboard.press("Enter")
    expect(shown).to_have_text("108 of 120 runs")
    expect(page.locator("#filter-top")).to_have_value("")
    page.focus("#filter-clear")
    page.keyboard.press("Enter")
    expect(shown).to_have_text("120 runs")
    expect(page.locator("#filter-states input:checked")).to_have_count(2)


def test_hidden_columns_stay_hidden_after_a_reload(page: Page) -> None:
    page.click("#columns summary")
    page.uncheck('#columns input[name="worker"]')
    page.check('#columns input[name="parameters.epochs"]')
    expect(page.locator(header(page, "worker"))).to_have_count(0)
    page.reload()
    expect(page.locator(header(page, "parameters.epochs"))).to_have_count(1)
    expect(page.locator(header(page, "worker"))).to_have_count(0)


def test_a_table_of_10000_runs_is_paginated_sorted_and_filtered(visit: Visit, site: Served) -> None:
    sweep = Scenes(site.services).sweep(SPACE, 10_000, states=STATES)
    page = visit(f"/local/p/sweeps/{sweep}")
    expect(page.locator("#counts")).to_contain_text("9000 finished")
    expect(page.locator("#rail-list li.run")).to_have_count(200)
    open_table(page)
    expect(page.locator("#page-where")).to_have_text("page 1 of 200")
    page.click(header(page, "parameters.lr"))
    expect(page.locator(header(page, "parameters.lr"))).to_have_attribute("aria-sort", "ascending")
    page.fill("#filter-text", "sweep-10000")
    expect(page.locator(ROWS)).to_have_count(1)
