"""The charts of a sweep in a real browser: what they show, with one filter and one selection for all."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import pytest
from playwright.sync_api import BrowserContext, Locator, Page

from tests.charts.scene import Scene
from tests.charts.site import CHARTS, serving
from tests.chromium import Scheme, Sight, accessibility_faults, looking

RUNS: Final = 60
FAILED: Final = 6
SIDE: Final = 70
TOP: Final = 64
"""Where the first axis of the parallel coordinates stands, in its canvas."""
FRAMES: Final = "() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))"
"""Waits until what was asked for is drawn."""
TOOLTIP: Final = "() => document.querySelector('.chart-tooltip:not([hidden])')?.innerText ?? ''"


def section(page: Page, name: str) -> Locator:
    return page.locator(f"[data-chart={name}]")


def words(page: Page, name: str) -> str:
    return section(page, name).locator(".chart-words").inner_text()


def shown(page: Page) -> list[int]:
    """Return the rows that all filters let through."""
    rows: list[int] = page.evaluate("() => [...store.shown].flatMap((one, row) => (one ? [row] : []))")
    return rows


def column(page: Page, name: str) -> list[Any]:
    values: list[Any] = page.evaluate("(name) => store.column(name)", name)
    return values


def drag_first_axis(page: Page, start: float, end: float) -> None:
    """Drag along the axis of the learning rate between two heights of its canvas."""
    canvas = section(page, "parallel").locator("canvas.chart-over")
    canvas.scroll_into_view_if_needed()
    box = canvas.bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + SIDE, box["y"] + start)
    page.mouse.down()
    page.mouse.move(box["x"] + SIDE, box["y"] + (start + end) / 2)
    page.mouse.move(box["x"] + SIDE, box["y"] + end)
    page.mouse.up()


def hover_everywhere(page: Page, canvas: Locator) -> Iterator[str]:
    """Move over a picture along a net of points, and yield what the tooltips say."""
    canvas.scroll_into_view_if_needed()
    box = canvas.bounding_box()
    assert box is not None
    for across in range(1, 7):
        for down in range(1, 5):
            page.mouse.move(box["x"] + box["width"] * across / 7, box["y"] + box["height"] * down / 5)
            yield page.evaluate(TOOLTIP)


def picture(page: Page, name: str) -> str:
    """Return the pixels of a chart's first canvas."""
    pixels: str = section(page, name).locator("canvas").first.evaluate("(canvas) => canvas.toDataURL()")
    return pixels


def in_scheme(page: Page, scheme: Scheme) -> None:
    """Have a page be light or dark, and drawn so."""
    page.emulate_media(color_scheme=scheme)
    page.wait_for_function("(scheme) => matchMedia(`(prefers-color-scheme: ${scheme})`).matches", arg=scheme)
    page.evaluate(FRAMES)


def test_each_chart_says_what_it_shows(drawn: Sight) -> None:
    page = drawn.page
    assert words(page, "parallel").startswith(
        f"{RUNS} of {RUNS} runs over 6 varied parameters, {FAILED} of them failed"
    )
    assert f"Best of {RUNS - FAILED - 1} finished runs" in words(page, "best")
    assert words(page, "importance").startswith("optimizer.lr matters most.")
    assert "against 6 varied parameters" in words(page, "scatter")
    assert "1 restart (▲), 2 retries (↻), 1 quarantine (■)" in words(page, "timeline")
    assert words(page, "histories").startswith(f"loss of {RUNS} shown runs. The best are in colour")
    assert drawn.complaints() == []


def test_dragging_along_an_axis_filters_all_charts_until_a_click(sight: Sight) -> None:
    page = sight.page
    drag_first_axis(page, TOP - 10, TOP + 130)
    rates = column(page, "parameters.optimizer.lr")
    chosen = shown(page)
    assert 0 < len(chosen) < RUNS
    assert min(rates[row] for row in chosen) > max(rates[row] for row in range(RUNS) if row not in chosen)
    assert "Ranges: optimizer.lr: ≥" in words(page, "parallel")
    page.wait_for_function(
        "(many) => document.body.innerText.includes(`loss of ${many} shown runs`)", arg=len(chosen)
    )
    drag_first_axis(page, TOP + 60, TOP + 60)  # a click takes the brush away
    assert len(shown(page)) == RUNS
    assert sight.complaints() == []


def test_ranges_and_categories_are_chosen_by_keyboard_too(sight: Sight) -> None:
    page = sight.page
    section(page, "parallel").locator("summary").press("Enter")
    fields = page.get_by_role("group", name="optimizer.lr")
    fields.get_by_label("at most").press_sequentially("0.001")
    fields.get_by_label("at most").press("Enter")
    rates = column(page, "parameters.optimizer.lr")
    assert shown(page) == [row for row, rate in enumerate(rates) if rate <= 0.001]
    page.get_by_role("button", name="Clear ranges").press("Enter")
    assert len(shown(page)) == RUNS
    assert fields.get_by_label("at most").input_value() == ""
    names = page.get_by_role("group", name="optimizer.name")
    names.get_by_label("adam").check()
    names.get_by_label("sgd").check()
    of_each = column(page, "parameters.optimizer.name")
    assert shown(page) == [row for row, name in enumerate(of_each) if name in {"adam", "sgd"}]


def test_runs_without_a_parameter_are_chosen_as_such_and_beside_a_range(sight: Sight) -> None:
    page = sight.page
    section(page, "parallel").locator("summary").click()
    fields = page.get_by_role("group", name="optimizer.momentum")
    fields.get_by_label("without a value").check()
    momentum = column(page, "parameters.optimizer.momentum")
    assert shown(page) == [row for row, value in enumerate(momentum) if value is None]
    fields.get_by_label("at least").fill("0.5")
    fields.get_by_label("at least").blur()
    assert shown(page) == [row for row, value in enumerate(momentum) if value is None or value >= 0.5]
    fields.get_by_label("without a value").uncheck()
    assert shown(page) == [row for row, value in enumerate(momentum) if value is not None and value >= 0.5]


def test_a_filter_that_is_dropped_elsewhere_takes_the_brushes_along(sight: Sight) -> None:
    page = sight.page
    drag_first_axis(page, TOP, TOP + 130)
    page.evaluate("() => store.setFilter('parallel', null)")
    page.wait_for_function("() => document.body.innerText.includes('Drag along an axis')")
    assert len(shown(page)) == RUNS


def test_a_click_on_a_line_selects_its_run_and_its_history_alone_is_drawn(sight: Sight) -> None:
    page = sight.page
    canvas = section(page, "parallel").locator("canvas.chart-over")
    canvas.click(position={"x": SIDE + 90, "y": TOP + 200})
    selected = page.evaluate("() => [...store.selected]")
    assert len(selected) == 1
    page.wait_for_function("() => document.body.innerText.includes('loss of 1 selected run.')")
    canvas.click(position={"x": SIDE + 90, "y": TOP + 200})
    assert page.evaluate("() => store.selected.size") == 0


@pytest.mark.parametrize("name", [name for name in CHARTS if name != "importance"])
def test_hovering_shows_text_and_breaks_no_policy(drawn: Sight, name: str) -> None:
    drawn.page.mouse.move(0, 0)
    assert drawn.page.evaluate(TOOLTIP) == ""
    canvases = section(drawn.page, name).locator("canvas")
    said = list(hover_everywhere(drawn.page, canvases.last))
    assert any("run" in text for text in said)
    assert drawn.complaints() == []


def test_a_tooltip_stays_while_runs_come_and_goes_with_the_pointer(sight: Sight) -> None:
    page = sight.page
    said = next(filter(None, hover_everywhere(page, section(page, "histories").locator("canvas.chart-over"))))
    page.evaluate("() => store.merge({ runs: store.runs, complete: true })")
    page.evaluate(FRAMES)
    assert page.evaluate(TOOLTIP) == said
    page.mouse.move(0, 0)
    page.evaluate("() => store.merge({ runs: store.runs, complete: true })")
    page.evaluate(FRAMES)
    assert page.evaluate(TOOLTIP) == ""


def test_pictures_turn_dark_with_the_page(sight: Sight) -> None:
    page = sight.page
    light = {name: picture(page, name) for name in CHARTS if name != "importance"}
    in_scheme(page, "dark")
    assert [name for name in light if picture(page, name) == light[name]] == []
    assert sight.complaints() == []


def test_a_zoom_outlives_new_runs(sight: Sight) -> None:
    page = sight.page
    plot = section(page, "best").locator("canvas.chart-over")
    plot.scroll_into_view_if_needed()
    box = plot.bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + 200, box["y"] + 20)
    page.mouse.down()
    page.mouse.move(box["x"] + 400, box["y"] + 21, steps=3)
    page.mouse.up()
    zoomed = picture(page, "best")
    page.evaluate("() => store.merge({ runs: store.runs, complete: true })")
    page.evaluate(FRAMES)
    page.mouse.move(0, 0)
    assert picture(page, "best") == zoomed
    plot.dblclick()
    page.evaluate(FRAMES)
    assert picture(page, "best") != zoomed


def test_the_history_of_a_run_that_goes_on_is_read_again_and_once_more_at_its_end(sight: Sight) -> None:
    page = sight.page
    last = f"runs=run{RUNS - 1:05d}"
    page.evaluate("() => setInterval(() => store.merge({ runs: store.runs, complete: true }), 1000)")
    with page.expect_request(lambda request: last in request.url) as asked:
        pass
    asked.value.response()
    with page.expect_request(lambda request: last in request.url):
        page.evaluate("(row) => { store.runs.state[row] = 'finished'; }", RUNS - 1)


def test_log_axes_smoothing_and_time_change_the_pictures(sight: Sight) -> None:
    page = sight.page
    histories = section(page, "histories")
    before = picture(page, "histories")
    histories.get_by_label("Log axis").check()
    page.evaluate(FRAMES)
    logarithmic = picture(page, "histories")
    histories.get_by_label("Smoothing").fill("0.9")
    page.evaluate(FRAMES)
    smooth = picture(page, "histories")
    assert len({before, logarithmic, smooth}) == 3
    histories.get_by_label("Over").select_option("time")
    page.wait_for_function(
        "(many) => document.body.innerText.includes(`loss of ${many} shown runs.`)", arg=RUNS
    )
    assert sight.complaints() == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_no_fault_in_light_and_dark(drawn: Sight, scheme: Scheme) -> None:
    in_scheme(drawn.page, scheme)
    details = section(drawn.page, "parallel").locator("details")
    details.locator("summary").click()
    assert accessibility_faults(drawn) == []
    for canvas in drawn.page.locator("canvas:not([aria-hidden])").all():
        assert canvas.get_attribute("role") == "img"
        assert canvas.get_attribute("aria-label")
    details.locator("summary").click()
    assert details.get_attribute("open") is None


@pytest.mark.parametrize("runs", [0, 1, 2])
def test_a_sweep_that_has_hardly_begun_is_drawn_too(window: BrowserContext, runs: int) -> None:
    with serving(Scene(runs=runs, points=3)) as address, looking(window) as sight:
        sight.page.goto(address)
        sight.page.wait_for_function("() => document.querySelectorAll('.chart-words').length === 7")
        for box in sight.page.locator(".chart-controls input[type=checkbox]:visible").all():
            box.check()
        sight.page.evaluate(FRAMES)
        assert words(sight.page, "parallel").startswith(f"{runs} of {runs} runs")
        assert sight.complaints() == []
