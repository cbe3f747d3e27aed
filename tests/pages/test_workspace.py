"""A sweep's workspace with small, ugly and empty data: its labels, charts, filters and comparisons."""

from __future__ import annotations

import io
import re
import time
from collections.abc import Callable
from typing import Any, Final

import pytest
from PIL import Image
from playwright.sync_api import Page, expect

from tests.chromium import axe_findings
from tests.pages.page_actions import open_table
from tests.pages.scenes import SMALL, UGLY, Scenes
from tests.pages.serving import Served

Visit = Callable[..., Page]
SETTLED_S: Final = 30.0
"""Maximum time until a page has drawn all; a busy machine needs seconds."""
SCENES: Final[dict[str, dict[str, Any]]] = {
    "small": {"config": SMALL, "runs": 40, "states": "fffrffxff", "points": 20},
    "ugly": {"config": UGLY, "runs": 40, "states": "fffxffff", "points": 20},
    "one": {"config": SMALL, "runs": 1, "points": 20},
    "none": {"config": SMALL, "runs": 0, "state": "RUNNING"},
    "failed": {"config": SMALL, "runs": 12, "states": "x", "points": 9},
}
LABEL_FAULTS: Final = """() => {
  const faults = [];
  const overlap = (one, other) =>
    Math.min(one.right, other.right) - Math.max(one.left, other.left) > 1 &&
    Math.min(one.bottom, other.bottom) - Math.max(one.top, other.top) > 2;
  const pairs = (boxes, where) => boxes.forEach((one, index) => {
    for (const other of boxes.slice(index + 1)) {
      const same = one.node && one.node === other.node;
      if (!same && overlap(one, other)) faults.push(`${where}: "${one.text}" lies on "${other.text}"`);
    }
  });
  for (const figure of document.querySelectorAll("[data-chart]")) {
    const name = figure.dataset.chart;
    const words = figure.querySelector(".chart-words")?.textContent ?? "";
    if (!words || words.includes("loading")) faults.push(`${name} is not drawn yet`);
    for (const canvas of figure.querySelectorAll("canvas")) {
      const boxes = (canvas.texts ?? []).filter(({ text }) => text);
      const [width, height] = [parseFloat(canvas.style.width), parseFloat(canvas.style.height)];
      pairs(boxes, name);
      if (width > canvas.parentElement.clientWidth + 1) faults.push(`${name} runs off to the right`);
      for (const { text, whole, left, top, right, bottom } of boxes) {
        const isOut = left < -1 || top < -1 || right > width + 1 || bottom > height + 1;
        if (isOut) faults.push(`${name}: "${text}" is cut`);
        if (text.includes("…") && whole.length <= 12) faults.push(`${name}: "${whole}" is shortened`);
      }
    }
  }
  for (const control of document.querySelectorAll("button, input, select, summary")) {
    const { right, width } = control.getBoundingClientRect();
    const scrolls = control.closest(".scroll, .pop");
    const isOut = width && right > innerWidth + 1;
    if (isOut && !scrolls) faults.push(`${control.outerHTML} ends outside the page`);
  }
  const texts = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  for (let node = walker.nextNode(); node; node = walker.nextNode()) {
    const text = node.textContent.trim();
    const parent = node.parentElement;
    if (!text || parent.closest("script, style, option, .hearing-only, .skip")) continue;
    if (!parent.checkVisibility()) continue;
    const range = document.createRange();
    range.selectNodeContents(node);
    for (const line of range.getClientRects()) {
      const box = { node, text, left: line.left, right: line.right, top: line.top, bottom: line.bottom };
      for (let around = parent; around !== document.body; around = around.parentElement) {
        const { overflowX, textOverflow } = getComputedStyle(around);
        if (overflowX === "visible") continue;
        const frame = around.getBoundingClientRect();
        const isHalf = box.top < frame.bottom - 2 && box.bottom > frame.bottom + 2;
        if (isHalf && around.closest("[data-chart]")) faults.push(`only a part of "${text}" is seen`);
        const told = textOverflow === "ellipsis" && (around.title || around.closest("[title]"));
        const scrolls = overflowX === "auto" || overflowX === "scroll";
        if (box.right > frame.right + 1 && !told && !scrolls) faults.push(`"${text}" is cut`);
        for (const side of ["left", "top"]) box[side] = Math.max(box[side], frame[side]);
        for (const side of ["right", "bottom"]) box[side] = Math.min(box[side], frame[side]);
      }
      if (box.right > innerWidth + 1) faults.push(`"${text}" ends outside the page`);
      if (box.right > box.left && box.bottom > box.top) texts.push(box);
    }
  }
  pairs(texts, "page");
  return faults;
}"""


def settled_faults(page: Page) -> list[str]:
    """Return the faults of labels that remain when all is drawn."""
    end = time.monotonic() + SETTLED_S
    while True:
        faults: list[str] = page.evaluate(LABEL_FAULTS)
        if not faults or time.monotonic() > end:
            return faults
        page.wait_for_timeout(200)


@pytest.mark.parametrize("scene", SCENES)
def test_labels_do_not_overlap_and_axe_finds_nothing(visit: Visit, site: Served, scene: str) -> None:
    sweep = Scenes(site.services).sweep(**SCENES[scene])
    page = visit(f"/local/p/sweeps/{sweep}", width=1400)
    assert "\n".join(settled_faults(page)) == ""
    assert axe_findings(page) == []
    if scene == "small":
        assert_the_first_screen_has_what_one_looks_for(page)
        assert_a_charts_picture_shows_its_title_and_its_axes(page)
        assert_a_charts_picture_shows_the_scale_of_its_colours(page)
    page.set_viewport_size({"width": 390, "height": 844})
    assert "\n".join(settled_faults(page)) == ""
    if scene == "ugly":
        assert_a_value_is_seen_without_scrolling(page)


def assert_a_value_is_seen_without_scrolling(page: Page) -> None:
    cell = open_table(page).locator("#runs tbody tr").first.locator("td").nth(2)
    expect(cell).to_have_text(re.compile(r"^-0\.1"))
    box = cell.bounding_box()
    assert box is not None and box["x"] + box["width"] <= 390


def assert_the_first_screen_has_what_one_looks_for(page: Page) -> None:
    for chart in ("best", "parallel", "importance", "histories"):
        box = page.locator(f"[data-chart={chart}] .chart-host").bounding_box()
        assert box is not None
        assert (chart, box["y"] + box["height"] <= 900, box["height"] > 120) == (chart, True, True)
    assert page.evaluate("() => document.getElementById('cards').getBoundingClientRect().bottom") <= 1800


def picture(page: Page, chart: str, title: str) -> tuple[Image.Image, int]:
    """Download a chart as a picture; also return its height without what is above it."""
    page.get_by_label(f"Menu of {title}").click()
    with page.expect_download() as download:
        page.locator(f"[data-card={chart}]").get_by_role("button", name="Download as PNG").click()
    assert download.value.suggested_filename == f"{chart}.png"
    shot = Image.open(io.BytesIO(download.value.path().read_bytes()))
    drawn = page.locator(f"[data-chart={chart}] canvas").first.bounding_box()
    assert drawn is not None
    assert shot.width == round(drawn["width"])
    return shot, round(drawn["height"])


def assert_a_charts_picture_shows_its_title_and_its_axes(page: Page) -> None:
    shot, height = picture(page, "best", "Best value so far")
    assert shot.height == height + 32
    for part in ((0, 0, shot.width, 32), (0, 32, shot.width, shot.height)):
        counts = shot.convert("L").crop(part).histogram()
        assert sum(counts[:100]) > 20 < sum(counts[240:])  # text on the page's ground


def assert_a_charts_picture_shows_the_scale_of_its_colours(page: Page) -> None:
    shot, height = picture(page, "parallel", "Parameters and metric")
    assert shot.height == height + 32 + 16
    scale, words = (shot.convert("RGB").crop((left, 40, left + 80, 41)) for left in (8, 96))
    assert len(scale.getcolors() or ()) > 40 and len(words.getcolors() or ()) > 1


def test_selected_runs_are_compared_side_by_side_with_their_differences(visit: Visit, site: Served) -> None:
    sweep = Scenes(site.services).sweep(SMALL, 6)
    page = visit(f"/local/p/sweeps/{sweep}")
    page.get_by_role("tab", name="Compare").click()
    expect(page.locator("#compare-words")).to_contain_text("No run is selected; these are the best")
    expect(page.locator(".side thead th")).to_have_count(3)
    for box in page.locator("#rail-list input").all()[:2]:
        box.check()
    expect(page.locator("#compare-words")).to_contain_text("2 selected runs")
    expect(page.locator(".side tbody th").first).to_have_text("val/loss")
    expect(page.locator(".side tbody th", has_text="epochs")).to_have_count(0)  # 100 in all runs
    page.get_by_label("also what is the same").check()
    expect(page.locator(".side tbody tr", has_text="epochs").locator("td")).to_have_text(["100", "100"])
    assert axe_findings(page) == []


def test_a_value_range_filters_the_run_list_and_the_charts(visit: Visit, site: Served) -> None:
    page = visit(f"/local/p/sweeps/{Scenes(site.services).sweep(**SCENES['small'])}", width=1400)
    words = page.locator("[data-chart=histories] .chart-words")
    expect(words).to_contain_text("val/loss of 40 shown runs.")
    box = page.locator("[data-chart=parallel] canvas.chart-over").bounding_box()
    assert box is not None
    last_axis, foot = box["x"] + box["width"] - 70, box["y"] + box["height"] - 45
    page.mouse.move(last_axis, foot)
    page.mouse.down()
    page.mouse.move(last_axis, foot - 70)
    page.mouse.up()
    count = page.locator("#rail-count")
    expect(count).to_contain_text("of 40 runs")
    expect(words).to_have_text(f"val/loss of {count.inner_text().split()[0]} shown runs.")
    expect(page.locator("#ranges li")).to_contain_text(["val/loss: ≤ 0."])
    page.click("#ranges button")
    expect(count).to_have_text("40 runs")
    page.fill("#filter-text", "val/loss <= 0.2")
    expect(words).to_have_text("val/loss of 12 shown runs.")
    page.click("#filter-menu summary")
    page.locator("#filter-top").select_option("top 10 %")
    expect(words).to_have_text("val/loss of 4 shown runs.")
    page.get_by_role("button", name="Clear filters").click()
    expect(words).to_contain_text("val/loss of 40 shown runs.")


def test_runs_are_compared_by_another_logged_value(visit: Visit, site: Served) -> None:
    page = visit(f"/local/p/sweeps/{Scenes(site.services).sweep(**SCENES['small'])}", width=1400)
    expect(page.locator("#best-title")).to_have_text("best val/loss")
    page.get_by_label("Compare by").select_option("train/accuracy")
    expect(page.get_by_label("Which values are better")).to_have_value("maximize")
    expect(page.locator("#best-title")).to_have_text("best train/accuracy")
    expect(page.locator("[data-chart=importance] .chart-words")).not_to_be_empty()
    open_table(page)
    expect(page.locator('#runs th[data-column="value"]')).to_have_text("train/accuracy")
    page.reload()
    expect(page.locator("#best-title")).to_have_text("best train/accuracy")
    page.get_by_label("Compare by").select_option("val/loss")
    expect(page.locator("#best-title")).to_have_text("best val/loss")
    expect(page.get_by_label("Which values are better")).to_be_disabled()


def test_any_logged_value_can_be_a_column_or_a_filter(visit: Visit, site: Served) -> None:
    page = open_table(visit(f"/local/p/sweeps/{Scenes(site.services).sweep(**SCENES['small'])}", width=1400))
    page.fill("#filter-text", "accuracy > 0.8 and state = finished")
    expect(page.locator("#shown")).to_have_text(re.compile(r"^1\d of 40 runs$"))
    page.click("#columns summary")
    page.check('#columns input[name="logged.train/accuracy"]')
    place = '#runs th[data-column="logged.train/accuracy"]'
    page.click(place)
    expect(page.locator(place)).to_have_attribute("aria-sort", "ascending")
    titles = page.locator("#runs thead th").all_inner_texts()
    cells = page.locator(f"#runs tbody td:nth-child({titles.index('train/accuracy') + 2})").all_inner_texts()
    assert all(0.8 < float(text) <= 1 for text in cells) and len(cells) > 9
    page.reload()
    expect(page.locator(place)).to_have_count(1)
    expect(page.locator("#csv")).to_have_attribute("href", re.compile("logged=train"))
    with page.expect_download() as download:
        page.click("#csv")
    head, *lines = download.value.path().read_text().splitlines()
    assert ("parameters.lr" in head, "summary.train/accuracy" in head, len(lines)) == (True, True, 40)


def test_any_logged_value_can_be_an_axis(visit: Visit, site: Served) -> None:
    page = visit(f"/local/p/sweeps/{Scenes(site.services).sweep(**SCENES['small'])}", width=1400)
    page.get_by_role("combobox", name="Y", exact=True).select_option("train/accuracy")
    expect(page.locator("[data-chart=contour] .chart-words")).to_contain_text("over lr and train/accuracy")
    for menu, option, value in (
        ("Histories", "Over", "epoch"),
        ("Parameters and metric", "Logged value", "train/loss"),
    ):
        page.get_by_label(f"Menu of {menu}").click()
        page.get_by_role("combobox", name=option, exact=True).select_option(value)
        page.keyboard.press("Escape")
    names = "() => [...document.querySelector('[data-chart=NAME] canvas').texts].map(({ text }) => text)"
    for chart, name in (("histories", "epoch"), ("parallel", "train/loss"), ("contour", "train/accuracy")):
        page.wait_for_function(f"({names.replace('NAME', chart)})().includes('{name}')")
    assert "\n".join(settled_faults(page)) == ""


def test_the_home_page_searches_and_compares_sweeps(visit: Visit, site: Served) -> None:
    scenes = Scenes(site.services)
    scenes.sweep(SMALL, 12)
    scenes.sweep({**SMALL, "name": "Random instead", "method": "random"}, 8, states="fx", state="RUNNING")
    scenes.sweep(UGLY, 3)
    page = visit("/", width=1400)
    expect(page.locator("#sweeps .badge")).to_have_text(["running", "finished", "finished"])
    page.get_by_label("Search the sweeps").fill("loss learning")
    expect(page.locator("#sweeps-count")).to_have_text("1 of 3 sweeps")
    page.get_by_label("Search the sweeps").fill("")
    page.get_by_label("State of the sweeps").select_option("running")
    expect(page.locator("#sweeps .name:visible")).to_have_text(["Random instead"])
    page.get_by_label("State of the sweeps").select_option("all states")
    for name in ("Random instead", "Learning rate and optimizer"):
        page.get_by_label(f"Compare {name}").check()
    expect(page.locator(".side tbody th")).to_have_text(
        ["best", "state", "runs", "method", "name", "run_cap"]
    )
    expect(page.locator(".side tbody tr", has_text="method").locator("td")).to_have_text(["random", "bayes"])
    expect(page.locator("#sweeps-chart .chart-legend li")).to_have_count(2)
    assert axe_findings(page) == []
    page.set_viewport_size({"width": 390, "height": 844})
    assert settled_faults(page) == []
