"""A report opened from its file in a real browser, without a server."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import pytest
from playwright.sync_api import BrowserContext, expect

from parallel_hpo.server.pages.report import Contents, document
from tests.charts.scene import DANGEROUS, START, Scene
from tests.charts.test_sweep_charts import TOP, drag_first_axis, in_scheme, words
from tests.chromium import Scheme, Sight, accessibility_faults, looking

RUNS: Final = 60
MB: Final = 1 << 20


def contents(scene: Scene, points: int) -> Contents:
    """Return an artificial sweep as a server would provide it for a report."""
    histories = [
        scene.histories(key, axis, points, None) for key in ("loss", "accuracy") for axis in ("step", "time")
    ]
    return Contents(scene.sweep(), histories, scene.timeline())


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("report") / "report.html"
    path.write_text(document(contents(Scene(runs=RUNS, points=400), 100), START), encoding="utf-8")
    return path


@contextmanager
def opened(window: BrowserContext, file: Path) -> Iterator[Sight]:
    """Open the report, and check that it makes no request to any host."""
    with looking(window) as sight:
        sight.page.goto(file.as_uri())
        sight.page.wait_for_selector("[data-chart=histories] canvas")
        assert sight.hosts == set()
        yield sight


@pytest.fixture
def report(window: BrowserContext, file: Path) -> Iterator[Sight]:
    with opened(window, file) as sight:
        yield sight


@pytest.fixture(scope="module")
def drawn_once(window: BrowserContext, file: Path) -> Iterator[Sight]:
    with opened(window, file) as sight:
        yield sight


@pytest.fixture
def drawn(drawn_once: Sight) -> Sight:
    """The report, drawn once for all tests that only read it."""
    drawn_once.page.bring_to_front()
    return drawn_once


def test_a_report_shows_charts_and_runs_without_violating_its_policy(drawn: Sight) -> None:
    page = drawn.page
    assert words(page, "histories").startswith(f"loss of {RUNS} shown runs.")
    assert words(page, "parallel").startswith(f"{RUNS} of {RUNS} runs over 6 varied parameters")
    assert "1 quarantine" in words(page, "timeline")
    assert page.locator("#rail-list li.run").count() == RUNS
    facts = dict(zip(*(page.locator(f".facts {one}").all_inner_texts() for one in ("dt", "dd")), strict=True))
    assert facts["outcomes"] == "53 finished, 6 failed, 1 running"
    assert facts["best"].startswith("loss = 0.05")
    assert page.get_by_text("made up").count() == 1
    assert drawn.complaints() == []


def test_its_table_sorts_its_charts_filter_it_and_html_is_text(report: Sight, file: Path) -> None:
    page = report.page
    page.get_by_role("tab", name="Table").click()
    assert page.locator("#runs tbody tr").count() == 50
    page.get_by_role("columnheader", name="started", exact=True).click()
    page.wait_for_selector('#runs th[data-column="started"][aria-sort="descending"]')
    page.get_by_role("tab", name="Charts").click()
    drag_first_axis(page, TOP, TOP + 60)
    page.wait_for_function(
        "(all) => !document.getElementById('rail-count').textContent.startsWith(all)", arg=f"{RUNS} runs"
    )
    assert page.locator("#rail-list li.run").count() < RUNS
    page.get_by_role("button", name="Clear filters").click()
    page.get_by_label("search").fill("run00001")
    page.wait_for_function("() => document.getElementById('rail-count').textContent.startsWith('1 of')")
    page.get_by_role("tab", name="Table").click()
    expect(page.get_by_role("cell", name=DANGEROUS, exact=True)).to_have_count(1)
    assert page.locator("img").count() == 0
    assert file.read_text().count("</script>") == 3
    assert report.complaints() == []


def test_the_policy_of_a_report_blocks_other_scripts(report: Sight) -> None:
    report.page.evaluate("""() => {
        const script = Object.assign(document.createElement("script"), { text: "window.ran = 1" });
        document.body.append(script);
    }""")
    assert report.page.evaluate("() => window.ran") is None
    assert any("script-src" in said for said in report.complaints())


def test_a_report_can_be_read_without_javascript(window: BrowserContext, file: Path) -> None:
    assert window.browser is not None
    context = window.browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(file.as_uri())
    assert page.locator("#runs tbody tr").count() == RUNS
    assert page.get_by_text("run00000").count() >= 1
    context.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_no_violation_in_light_or_dark_mode(drawn: Sight, scheme: Scheme) -> None:
    in_scheme(drawn.page, scheme)
    assert accessibility_faults(drawn) == []


def test_a_report_of_200_runs_is_smaller_than_3_mb() -> None:
    text = document(contents(Scene(runs=200, points=312), 312), START)
    assert len(text.encode()) < 3 * MB
