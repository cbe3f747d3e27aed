"""The charts of a sweep in a real browser: what they show, with one filter and one selection for all."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import pytest
from playwright.sync_api import BrowserContext, Locator, Page, expect

from tests.charts.scene import Scene
from tests.charts.site import CHARTS, serving
from tests.chromium import Scheme, Sight, accessibility_faults, looking

RUNS: Final = 60
SCHEMES: Final[tuple[Scheme, ...]] = ("light", "dark")
FAILED: Final = 6
SIDE: Final = 70
TOP: Final = 40
"""Position of the first axis of the parallel coordinates in its canvas."""
FRAMES: Final = "() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))"
"""Script that waits until pending drawing is done."""
TOOLTIP: Final = "() => document.querySelector('.chart-tooltip:not([hidden])')?.innerText ?? ''"


def section(page: Page, name: str) -> Locator:
    return page.locator(f"[data-chart={name}]")


def words(page: Page, name: str) -> str:
    return section(page, name).locator(".chart-words").inner_text()


def shown(page: Page) -> list[int]:
    """Return the rows that pass all filters."""
    rows: list[int] = page.evaluate("() => [...store.shown].flatMap((one, row) => (one ? [row] : []))")
    return rows


def active(page: Page) -> list[str]:
    """Return the words of the active filters."""
    texts: list[str] = page.evaluate("() => [...store.filters.values()]")
    return texts


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
    """Move over a chart along a grid of points, and yield the tooltips' texts."""
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


def is_brushed(page: Page) -> bool:
    """Return whether anything is drawn over the parallel coordinates."""
    brushed: bool = page.evaluate("""() => {
        const canvas = document.querySelector("[data-chart=parallel] canvas.chart-over");
        const { width, height } = canvas;
        const empty = Object.assign(document.createElement("canvas"), { width, height });
        return canvas.toDataURL() !== empty.toDataURL();
    }""")
    return brushed


def in_scheme(page: Page, scheme: Scheme) -> None:
    """Switch a page to light or dark and wait until it is drawn."""
    page.emulate_media(color_scheme=scheme)
    page.wait_for_function("(scheme) => matchMedia(`(prefers-color-scheme: ${scheme})`).matches", arg=scheme)
    page.evaluate(FRAMES)


def test_each_chart_describes_its_content(drawn: Sight) -> None:
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


def test_dragging_along_an_axis_filters_all_charts_until_a_click_or_its_filter_goes(sight: Sight) -> None:
    page = sight.page
    drag_first_axis(page, TOP - 10, TOP + 130)
    rates = column(page, "parameters.optimizer.lr")
    chosen = shown(page)
    assert 0 < len(chosen) < RUNS
    assert min(rates[row] for row in chosen) > max(rates[row] for row in range(RUNS) if row not in chosen)
    assert active(page)[0].startswith("optimizer.lr: ≥ ")
    page.wait_for_function(
        "(many) => document.body.innerText.includes(`loss of ${many} shown runs`)", arg=len(chosen)
    )
    drag_first_axis(page, TOP + 60, TOP + 60)  # a click takes the brush away
    assert (len(shown(page)), active(page)) == (RUNS, [])
    drag_first_axis(page, TOP, TOP + 130)
    page.mouse.move(0, 0)
    page.evaluate(FRAMES)
    assert (len(shown(page)) < RUNS, is_brushed(page)) == (True, True)
    page.evaluate("() => store.setFilter('axis optimizer.lr', null)")
    page.evaluate(FRAMES)
    assert (len(shown(page)), is_brushed(page)) == (RUNS, False)
    assert sight.complaints() == []


def test_a_click_on_a_line_selects_its_run_and_draws_only_its_history(sight: Sight) -> None:
    page = sight.page
    canvas = section(page, "parallel").locator("canvas.chart-over")
    canvas.click(position={"x": SIDE + 90, "y": TOP + 200})
    selected = page.evaluate("() => [...store.selected]")
    assert len(selected) == 1
    page.wait_for_function("() => document.body.innerText.includes('loss of 1 selected run.')")
    canvas.click(position={"x": SIDE + 90, "y": TOP + 200})
    assert page.evaluate("() => store.selected.size") == 0


@pytest.mark.parametrize("name", [name for name in CHARTS if name != "importance"])
def test_hovering_shows_a_tooltip_without_violating_the_policy(drawn: Sight, name: str) -> None:
    drawn.page.mouse.move(0, 0)
    assert drawn.page.evaluate(TOOLTIP) == ""
    canvases = section(drawn.page, name).locator("canvas")
    said = list(hover_everywhere(drawn.page, canvases.last))
    assert any("run" in text for text in said)
    assert drawn.complaints() == []


def test_a_tooltip_and_a_zoom_stay_while_runs_come(sight: Sight) -> None:
    page = sight.page
    curves = section(page, "histories").locator("canvas.chart-over")
    said = next(filter(None, hover_everywhere(page, curves)))
    expect(curves).to_have_css("cursor", "pointer")
    page.evaluate("() => store.merge({ runs: store.runs, complete: true })")
    page.evaluate(FRAMES)
    assert page.evaluate(TOOLTIP) == said
    page.mouse.move(0, 0)
    page.evaluate("() => store.merge({ runs: store.runs, complete: true })")
    page.evaluate(FRAMES)
    assert page.evaluate(TOOLTIP) == ""
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


def test_the_history_of_an_active_run_is_reloaded_and_once_more_at_its_end(sight: Sight) -> None:
    page = sight.page
    last = f"runs=run{RUNS - 1:05d}"
    page.evaluate("() => setInterval(() => store.merge({ runs: store.runs, complete: true }), 1000)")
    with page.expect_request(lambda request: last in request.url) as asked:
        pass
    asked.value.response()
    with page.expect_request(lambda request: last in request.url):
        page.evaluate("(row) => { store.runs.state[row] = 'finished'; }", RUNS - 1)


def test_log_axes_smoothing_and_time_change_the_charts(sight: Sight) -> None:
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


def test_pictures_turn_dark_with_the_page_and_axe_finds_no_fault(drawn: Sight) -> None:
    pictures: dict[Scheme, dict[str, str]] = {}
    for scheme in SCHEMES:
        in_scheme(drawn.page, scheme)
        assert (scheme, accessibility_faults(drawn)) == (scheme, [])
        pictures[scheme] = {name: picture(drawn.page, name) for name in CHARTS if name != "importance"}
    assert [name for name, one in pictures["light"].items() if one == pictures["dark"][name]] == []
    for canvas in drawn.page.locator("canvas:not([aria-hidden])").all():
        assert canvas.get_attribute("role") == "img"
        assert canvas.get_attribute("aria-label")
    assert drawn.complaints() == []


@pytest.mark.parametrize("runs", [0, 1, 2])
def test_a_sweep_with_at_most_two_runs_is_drawn(window: BrowserContext, runs: int) -> None:
    with serving(Scene(runs=runs, points=3)) as address, looking(window) as sight:
        sight.page.goto(address)
        sight.page.wait_for_function("() => document.querySelectorAll('.chart-words').length === 7")
        for box in sight.page.locator(".chart-controls input[type=checkbox]:visible").all():
            box.check()
        sight.page.evaluate(FRAMES)
        assert words(sight.page, "parallel").startswith(f"{runs} of {runs} runs")
        assert sight.complaints() == []
