"""The charts of a run in a real browser: one per key, loaded in view and reloaded as it grows."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from playwright.sync_api import BrowserContext, Page, expect

from tests.charts.scene import Scene
from tests.charts.site import serving
from tests.chromium import Sight, accessibility_faults, looking

NEWS = "(news) => document.body.dispatchEvent(new CustomEvent('run-data', { detail: { ...data, ...news } }))"


@pytest.fixture(scope="module")
def long_run() -> Iterator[str]:
    """The address of the charts of a run with 100,000 points."""
    with serving(Scene(runs=1, points=100_000)) as address:
        yield f"{address}/run"


@pytest.fixture
def sight(window: BrowserContext, long_run: str) -> Iterator[Sight]:
    with looking(window, height=1200) as seen:
        seen.page.goto(long_run)
        seen.page.locator("[data-charts=system] summary").click()
        for key in ("loss", "accuracy", "cpu"):
            seen.page.wait_for_selector(f"[data-key={key}] canvas")
        yield seen


def words(page: Page, key: str) -> str:
    shown = page.locator(f"[data-key={key}] .chart-words")
    expect(shown).to_contain_text("last ")
    return shown.inner_text()


def test_each_key_has_a_chart_and_a_spike_is_kept(sight: Sight) -> None:
    assert float(words(sight.page, "loss").rpartition("maximum ")[2]) > 3
    assert words(sight.page, "accuracy").startswith("last ")
    assert words(sight.page, "cpu").startswith("last ")
    assert sight.complaints() == []
    assert accessibility_faults(sight) == []


def test_keys_are_found_by_their_names_and_drawn_over_another_value(sight: Sight) -> None:
    section = sight.page.locator("[data-charts=run]")
    section.get_by_label("Over").select_option("accuracy")
    texts = "document.querySelector('[data-key=loss] canvas').texts"
    sight.page.wait_for_function(f"() => {texts}.some(({{ text }}) => text === 'accuracy')")
    section.get_by_label("Keys that contain").fill("acc")
    expect(sight.page.locator("[data-key=loss]")).to_be_hidden()
    expect(sight.page.locator("[data-key=accuracy]")).to_be_visible()


def test_charts_with_new_lines_are_reloaded_and_a_new_key_gets_a_chart(sight: Sight) -> None:
    page = sight.page
    keys = ["loss", "accuracy", "rate"]
    with ExitStack() as requests:
        for key in keys:
            requests.enter_context(page.expect_request(re.compile(rf"key={key}\b")))
        page.evaluate(NEWS, {"run": {"history_lines": 101, "event_lines": 10}, "keys": keys})
    page.wait_for_selector("[data-key=rate] canvas")
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.evaluate(NEWS, {"run": {"history_lines": 101, "event_lines": 10}})
    with page.expect_request(lambda request: "system=1" in request.url):
        page.evaluate(NEWS, {"run": {"history_lines": 101, "event_lines": 11}})
    assert all("system=1" in address for address in asked)


def test_a_chart_out_of_view_is_not_loaded(window: BrowserContext, long_run: str) -> None:
    with looking(window, height=300) as sight:
        asked: list[str] = []
        sight.page.on("request", lambda request: asked.append(request.url))
        sight.page.goto(long_run)
        sight.page.wait_for_selector("[data-key=loss] canvas")
        assert not any("key=cpu" in address for address in asked)
        sight.page.locator("[data-charts=system] summary").click()
        sight.page.locator("[data-key=cpu]").scroll_into_view_if_needed()
        sight.page.wait_for_selector("[data-key=cpu] canvas")
