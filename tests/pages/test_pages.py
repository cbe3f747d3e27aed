"""Pages in a real browser: login, live updates, accessibility, phone size, dark mode."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any, Final

from playwright.sync_api import Locator, Page, Route, expect

from parallel_hpo.core.messages import AttemptEnd
from parallel_hpo.core.types import Outcome, RunId, Slot
from parallel_hpo.records.ledger import Ledger
from parallel_hpo.server.services.file_stream import Batch, Chunk
from parallel_hpo.server.store.lines import Stream
from parallel_hpo.session.decide.events import DrainAsked, ScaleAsked
from parallel_hpo.session.signals import CommandPipe
from tests.chromium import Scheme, axe_findings
from tests.ledgers import record_attempt_end, record_end, record_spawn, record_start
from tests.pages.page_actions import confirm, open_table
from tests.pages.scenes import CODE, LINK, SMALL, Scenes
from tests.pages.serving import SPACE, Served

Visit = Callable[..., Page]
ROWS = "#runs tbody tr"
BY_SERVER: Final = "from start to end by the server's times, pauses included"
SCHEMES: Final[tuple[Scheme, ...]] = ("light", "dark")
NOTHING: Final[dict[Scheme, list[dict[str, Any]]]] = {scheme: [] for scheme in SCHEMES}


def running(site: Served) -> tuple[str, str]:
    """Create a sweep with a running run; return both ids."""
    sweep = site.services.sweep(SPACE | {"run_cap": 4})
    name = site.services.issued(site.services.agent(sweep, "mark_0_1"))
    site.services.start(sweep, name, opener="mark_0_1")
    return sweep, name


def log(site: Served, name: str, loss: float) -> None:
    step = site.services.run(name).history_lines
    line = json.dumps({"_step": step, "loss": loss})
    batches = (Batch(Stream.HISTORY, step, (line,)), Batch(Stream.CONSOLE, step, (f"step {step}",)))
    site.services.stream(name, Chunk(batches, json.dumps({"loss": loss})))


def cell(page: Page, run: str, title: str) -> Locator:
    """Return the cell below a title; it is located anew at each retry, as the header loads later."""
    before = f'//table[@id="runs"]/thead/tr/th[normalize-space(.)="{title}"]/preceding-sibling::th'
    return page.locator(f'xpath=//tr[@data-run="{run}"]/td[count({before}) + 2]')


def test_a_live_update_keeps_selection_order_and_scroll(visit: Visit, site: Served) -> None:
    sweep, name = running(site)
    filled_too = [site.services.perform(sweep, site.services.agent(sweep)) for _ in range(3)]
    page = open_table(visit(f"/local/p/sweeps/{sweep}", width=500))
    expect(page.locator(ROWS)).to_have_count(4)
    page.click('#runs th[data-column="name"]')
    page.check(f'tr[data-run="{filled_too[0]}"] input')
    page.focus(f'tr[data-run="{name}"] a')
    page.evaluate("() => document.getElementById('table-scroll').scrollLeft = 77")
    log(site, name, 0.75)
    expect(cell(page, name, "loss")).to_have_text("0.75")
    log(site, name, 0.5)
    expect(cell(page, name, "loss")).to_have_text("0.5")
    expect(page.locator("#best")).to_have_text(f"1 {filled_too[0]}")
    assert page.locator("tr.selected").get_attribute("data-run") == filled_too[0]
    assert page.locator('th[aria-sort="ascending"]').get_attribute("data-column") == "name"
    assert page.evaluate("() => document.getElementById('table-scroll').scrollLeft") == 77
    assert page.evaluate("() => document.activeElement.textContent") == name
    expect(page.locator("#counts li")).to_have_text(["3 finished", "1 running"])
    site.services.finish(sweep, name, loss=0.25)
    expect(cell(page, name, "state")).to_have_text("finished")
    expect(page.locator("#progress")).to_have_text("4 of 4 ended")
    expect(page.locator("#best")).to_have_text(f"0.25 {name}")


def test_a_runs_page_follows_its_values_and_its_log_that_is_searched(visit: Visit, site: Served) -> None:
    _, name = running(site)
    log(site, name, 3.0)
    page = visit(f"/local/p/runs/{name}")
    expect(page.locator("#log")).to_contain_text("step 0")
    for step in range(1, 60):
        log(site, name, 3.0 - step / 30)
    expect(page.locator("#log")).to_contain_text("step 59")
    expect(page.locator("#summary")).to_contain_text("1.033")
    expect(page.locator("[data-key=loss] .chart-words")).to_have_text("last 1.033, minimum 1.033, maximum 3")
    left_px = page.evaluate(
        "log => log.scrollHeight - log.scrollTop - log.clientHeight", page.query_selector("#log")
    )
    assert left_px < 9
    page.evaluate("() => document.getElementById('log').scrollTop = 0")
    expect(page.locator("#follow")).not_to_be_checked()
    log(site, name, 0.0)
    expect(page.locator("#log")).to_contain_text("step 60")
    assert page.evaluate("() => document.getElementById('log').scrollTop") == 0
    page.get_by_label("Find").fill("STEP 5")
    expect(page.locator("#log-found")).to_have_text("11 of 61 lines")
    expect(page.locator("#log span:visible").first).to_have_text("step 5")
    with page.expect_download() as download:
        page.get_by_role("link", name="Download").click()
    assert download.value.suggested_filename == f"{name}.log"
    assert download.value.path().read_text() == "".join(f"step {step}\n" for step in range(61))


def test_a_runs_media_are_shown_step_by_step(visit: Visit, site: Served) -> None:
    _, name = running(site)
    steps = [
        {"_step": step, "h": {"_type": "histogram", "values": [1], "bins": [step, step + 1]}}
        for step in (0, 7)
    ]
    batch = Batch(Stream.HISTORY, 0, tuple(map(json.dumps, steps)))
    site.services.stream(name, Chunk((batch,), json.dumps({"h": steps[-1]["h"]})))
    page = visit(f"/local/p/runs/{name}")
    caption = page.locator("#media figcaption")
    expect(caption).to_have_text("h, from 7 to 8")
    page.focus("#media-step")
    page.keyboard.press("ArrowLeft")
    expect(caption).to_have_text("h, from 0 to 1")
    expect(page.locator("#media-at")).to_have_text("0")
    assert axe_findings(page) == []


def test_a_project_shows_its_sweeps_and_runs(visit: Visit, site: Served) -> None:
    sweep, name = running(site)
    page = visit("/local/p")
    expect(page.locator("#sweeps a.name")).to_have_text([sweep])
    expect(page.locator(f"{ROWS} a")).to_have_text([name])
    site.services.finish(sweep, name, loss=0.125)
    expect(page.locator("#sweeps .best")).to_have_text("0.125 loss")
    page.click("#sweeps a.name")
    page.wait_for_url(f"**/sweeps/{sweep}")
    page.click(".crumbs a")
    expect(page.locator("#sweeps a")).to_have_text([sweep, "local/p"])
    expect(page.locator(".projects a")).to_have_text(["local/p"])


def test_a_runs_code_diff_and_artifacts_are_shown_in_the_page(visit: Visit, site: Served) -> None:
    scenes = Scenes(site.services)
    sweep = scenes.sweep(SMALL, 2)
    first, second = (f"{sweep[-3:]}{place:05d}" for place in range(2))
    scenes.save(first, second)
    page = visit(f"/local/p/runs/{first}")
    expect(page.locator("#files a")).to_have_text(["code/train.py", "diff.patch", "model.bin"])
    expect(page.locator("#files button")).to_have_count(2)
    page.get_by_label("Show diff.patch").click()
    expect(page.locator("dialog .added")).to_have_text("+    run.log({'loss': 0.5})")
    expect(page.locator("dialog .removed")).to_have_count(1)
    assert axe_findings(page) == []
    page.get_by_label("Close").click()
    page.get_by_role("button", name="network:v1").click()
    files = ["net/train.py", f"net/w.bin: {LINK}"]
    expect(page.locator("dialog tr")).to_contain_text([*files, "v1best, latest", "v0", second])
    address = page.locator("dialog").get_by_role("link", name="net/train.py").get_attribute("href") or ""
    assert page.request.get(site.url + address).ok
    assert page.request.get(site.url + address.replace("train.py", "w.bin")).status == 404
    page.get_by_label("Show net/train.py").click()
    expect(page.locator("dialog pre")).to_contain_text("import wandb")
    page.keyboard.press("Escape")
    with page.expect_download() as download:
        page.locator("dialog").get_by_role("link", name="net/train.py").click()
    assert download.value.path().read_text() == CODE
    page.locator("dialog").get_by_role("link", name=second).click()
    expect(page.locator("#artifacts tbody td").nth(2)).to_have_text("used")


def test_text_of_a_run_is_escaped(visit: Visit, site: Served) -> None:
    evil = "<img src=x onerror=alert(1)>"
    sweep = site.services.sweep({"method": "grid", "parameters": {evil: {"values": [evil, 1]}}})
    name = site.services.issued(site.services.agent(sweep))
    site.services.start(sweep, name)
    site.services.stream(name, Chunk((Batch(Stream.CONSOLE, 0, (evil,)),), json.dumps({evil: evil})))
    page = open_table(visit(f"/local/p/sweeps/{sweep}"))
    expect(page.locator(ROWS)).to_contain_text([evil])
    page.goto(f"{site.url}/local/p/runs/{name}")
    expect(page.locator("#log")).to_have_text(evil)
    expect(page.locator("#summary")).to_contain_text(evil)
    assert page.locator("img").count() == 0


def test_a_page_without_login_shows_how_to_log_in(visit: Visit, site: Served) -> None:
    sweep, _ = running(site)
    page = visit(f"/local/p/sweeps/{sweep}", let_in=False)
    expect(page.locator("main")).to_contain_text("parallel-hpo open")
    assert axe_findings(page) == []


def axe_findings_in_light_and_dark(page: Page) -> dict[Scheme, list[dict[str, Any]]]:
    findings: dict[Scheme, list[dict[str, Any]]] = {}
    for scheme in SCHEMES:
        page.emulate_media(color_scheme=scheme)
        page.wait_for_function(
            "(scheme) => matchMedia(`(prefers-color-scheme: ${scheme})`).matches", arg=scheme
        )
        findings[scheme] = axe_findings(page)
    return findings


def test_axe_finds_nothing_in_light_and_dark(visit: Visit, site: Served) -> None:
    sweep, name = running(site)
    log(site, name, 0.5)
    Scenes(site.services).sweep(SPACE, 30, states="fffffffffx")
    site.services.finish(sweep, site.services.issued(site.services.agent(sweep)), exitcode=1)
    page = visit(f"/local/p/sweeps/{sweep}")
    expect(page.locator("#rail-list li")).to_have_count(2)
    page.click("#filter-menu summary")
    page.check(f'li[data-run="{name}"] input')
    assert axe_findings_in_light_and_dark(page) == NOTHING
    open_table(page)
    page.click("#columns summary")
    page.check(f'tr[data-run="{name}"] input')
    assert axe_findings_in_light_and_dark(page) == NOTHING
    for address, there in (
        ("/local/p", "#sweeps a"),
        (f"/local/p/runs/{name}", "#log span"),
        ("/", "main a"),
    ):
        page.goto(site.url + address)
        expect(page.locator(there).first).to_be_visible()
        assert (address, axe_findings_in_light_and_dark(page)) == (address, NOTHING)
    page.goto(f"{site.url}/local/none")
    assert axe_findings_in_light_and_dark(page) == NOTHING


def test_a_page_loads_one_script_and_fits_a_phones_width(visit: Visit, site: Served) -> None:
    sweep, name = running(site)
    log(site, name, 0.5)
    page = visit("/local/p", width=360)
    for address in ("", f"/sweeps/{sweep}", f"/runs/{name}"):
        page.goto(f"{site.url}/local/p{address}")
        expect(page.locator("#live")).to_have_text("live")
        assert page.evaluate("() => document.documentElement.scrollWidth") <= 360
        loaded = page.evaluate("() => performance.getEntriesByType('resource').map((entry) => entry.name)")
        assert len([each for each in loaded if each.endswith(".js")]) == 1


def test_a_sweep_is_paused_and_stopped_from_its_page(visit: Visit, site: Served) -> None:
    sweep, name = running(site)
    page = visit(f"/local/p/sweeps/{sweep}")
    page.click("#actions button:has-text('Pause')")
    expect(page.locator("#state")).to_have_text("paused")
    page.click("#actions button:has-text('Resume')")
    expect(page.locator("#state")).to_have_text("running")
    page.click("#rail-list a")
    confirm(page, "Stop")
    expect(page.locator("#actions")).to_contain_text("requested")
    assert site.services.run(name).stop_requested
    page.goto(f"{site.url}/local/p/sweeps/{sweep}")
    confirm(page, "Cancel")
    expect(page.locator("#state")).to_have_text("canceled")
    expect(page.locator("#actions button")).to_have_text(["Edit", "Delete"])


def test_workers_of_this_machine_are_drained_and_scaled_from_the_sweeps_page(
    visit: Visit, site: Served
) -> None:
    sweep, _ = running(site)
    folder = site.services.folder / sweep
    with Ledger(folder / "ledger.db") as ledger, CommandPipe(folder) as mailbox:
        ledger.record_facts({"path": f"local/p/{sweep}", "count": 4})
        for slot in (0, 1):
            record_spawn(ledger, Slot(slot), None, again=False)
        page = visit(f"/local/p/sweeps/{sweep}")
        page.get_by_label("Worker to drain").select_option("worker 1")
        confirm(page, "Drain")
        expect(page.locator("#actions")).to_contain_text("drain: requested")
        assert mailbox.take() == [DrainAsked(Slot(1))]
        page.locator("#actions").get_by_role("button", name="Scale").click()
        expect(page.locator("dialog").get_by_label("workers")).to_have_value("2")
        page.locator("dialog").get_by_label("workers").fill("3")
        page.locator("dialog").get_by_role("button", name="Scale").click()
        expect(page.locator("#actions")).to_contain_text("scale: requested")
        assert mailbox.take() == [ScaleAsked(3)]


def test_a_runs_duration_is_that_of_its_attempts_if_a_ledger_has_them(visit: Visit, site: Served) -> None:
    sweep, name = running(site)
    site.services.finish(sweep, name)
    other = site.services.perform(sweep, site.services.agent(sweep))
    with Ledger(site.services.folder / sweep / "ledger.db") as ledger:
        ledger.record_facts({"path": f"local/p/{sweep}", "count": 4})
        for attempt in (1, 2):
            record_start(ledger, RunId(name), parameters={}, attempt=attempt, slot=Slot(0), device=None)
        record_attempt_end(ledger, RunId(name), 1, AttemptEnd(outcome=Outcome.CRASHED))
        record_end(ledger, RunId(name), 2, AttemptEnd(outcome=Outcome.FINISHED, duration_s=15.0))
    page = open_table(visit(f"/local/p/sweeps/{sweep}"))
    expect(cell(page, name, "duration")).to_have_text("15.0 s")
    expect(cell(page, name, "duration")).not_to_have_attribute("title", BY_SERVER)
    expect(cell(page, other, "duration")).to_have_attribute("title", BY_SERVER)
    took = page.locator('dd[data-fact="took"]')
    page.goto(f"{site.url}/local/p/runs/{name}")
    expect(took).to_have_text("15.0 s")
    expect(page.get_by_label("Dim earlier attempts")).to_be_checked()
    page.goto(f"{site.url}/local/p/runs/{other}")
    expect(took).to_contain_text(BY_SERVER)
    expect(page.get_by_label("Dim earlier attempts")).to_have_count(0)


def test_a_second_tab_is_read_only(visit: Visit, site: Served) -> None:
    sweep, _ = running(site)
    first = visit(f"/local/p/sweeps/{sweep}")
    expect(first.locator("#actions button")).to_have_count(4)
    second = first.context.new_page()
    second.goto(f"{site.url}/local/p/sweeps/{sweep}")
    expect(second.locator("#rail-list li")).to_have_count(1)
    assert second.locator("#actions button").count() == 0


def test_a_failed_run_shows_its_reason_at_the_top(visit: Visit, site: Served) -> None:
    sweep, name = running(site)
    page = visit(f"/local/p/runs/{name}")
    expect(page.locator("#live")).to_have_text("live")
    expect(page.locator("#failure")).to_be_hidden()
    said = ("step 0", "ERROR 2026-12-02T10:00:01.000000 ZeroDivisionError: division by zero")
    site.services.stream(name, Chunk((Batch(Stream.CONSOLE, 0, said),)))
    site.services.finish(sweep, name, exitcode=1)
    expect(page.locator("#failure-reason")).to_have_text("exit code 1")
    expect(page.locator("#failure-errors")).to_have_text("ZeroDivisionError: division by zero")
    expect(page.locator("#live")).to_have_text("")
    assert axe_findings(page) == []


def test_names_tags_and_notes_are_edited_on_their_page(visit: Visit, site: Served) -> None:
    sweep, name = running(site)
    site.services.finish(sweep, name)
    page = visit(f"/local/p/runs/{name}")
    page.locator("#actions").get_by_role("button", name="Edit").click()
    page.locator("dialog").get_by_label("name").fill("a better name")
    page.locator("dialog").get_by_label("tags").fill("baseline, again, baseline")
    page.locator("dialog").get_by_label("notes").fill("longer\nwarm-up")
    assert axe_findings(page) == []
    page.locator("dialog").get_by_role("button", name="Save").click()
    expect(page.locator("h1")).to_have_text("a better name")
    expect(page.locator('dd[data-fact="tags"]')).to_have_text("baseline, again")
    expect(page.locator('dd[data-fact="notes"]')).to_have_text("longer warm-up")
    page.goto(f"{site.url}/local/p/sweeps/{sweep}")
    expect(page.locator("#rail-list a")).to_have_text(["a better name"])
    page.locator("#actions").get_by_role("button", name="Edit").click()
    page.locator("dialog").get_by_label("name").fill("warm-up")
    page.locator("dialog").get_by_role("button", name="Save").click()
    expect(page.locator("#name")).to_have_text("warm-up")


def test_neighbouring_runs_are_opened_and_a_run_and_its_sweep_deleted(visit: Visit, site: Served) -> None:
    sweep, name = running(site)
    site.services.finish(sweep, name)
    after = site.services.perform(sweep, site.services.agent(sweep))
    page = visit(f"/local/p/runs/{name}")
    expect(page.get_by_role("link", name="Previous run")).to_have_count(0)
    page.get_by_role("link", name="Next run").click()
    page.wait_for_url(f"**/runs/{after}")
    expect(page.get_by_role("link", name="Previous run")).to_be_visible()
    page.keyboard.press("ArrowLeft")
    page.wait_for_url(f"**/runs/{name}")
    confirm(page, "Delete")
    page.wait_for_url(f"**/sweeps/{sweep}")
    expect(page.locator("#rail-count")).to_have_text("1 run")
    confirm(page, "Cancel")
    confirm(page, "Delete")
    page.wait_for_url(site.url + "/")
    expect(page.locator("main")).to_contain_text("There are no sweeps yet")


def test_a_page_recovers_from_failed_requests(visit: Visit, site: Served) -> None:
    sweep, _ = running(site)
    broken: list[str] = []

    def once(route: Route) -> None:
        """Break the first request of each kind: no answer, or a proxy's page instead of JSON."""
        kind = route.request.url.split("?")[0].removeprefix(site.url)
        if kind in broken:
            route.fallback()
        elif len(broken) % 2:
            broken.append(kind)
            route.fulfill(status=200, body="<html>the service is starting</html>")
        else:
            broken.append(kind)
            route.abort()

    site_context = visit(f"/local/p/sweeps/{sweep}").context
    site_context.route("**/pages/data/**", once)
    site_context.route("**/pages/act/**", once)
    site_context.route("**/pages/token", once)
    page = visit(f"/local/p/sweeps/{sweep}")
    expect(page.locator("#live")).to_have_text("live")
    expect(page.locator("[data-chart=timeline] .chart-words")).to_have_text(re.compile("^1 worker"))
    page.locator("#actions").get_by_role("button", name="Pause").click()
    expect(page.locator("#actions")).to_contain_text("pause: trying again")
    expect(page.locator("#state")).to_have_text("paused")
    assert len(broken) >= 4
    site_context.unroute_all()
