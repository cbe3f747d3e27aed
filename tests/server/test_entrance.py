"""Who gets to see pages: tickets, cookies, other hosts, other users; over plain HTTP."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from parallel_hpo.core import keys
from parallel_hpo.core.keys import worker_key
from parallel_hpo.core.types import Slot
from parallel_hpo.records.ledger import Ledger
from parallel_hpo.server.pages.browser_auth import BrowserAuth, LocalConnections
from parallel_hpo.session.signals import CommandPipe
from tests.ledgers import record_spawn
from tests.server.acting import MASTER_KEY, Services, grid
from tests.server.web import Web

HTML = {"Accept": "text/html,application/xhtml+xml"}
PAGE = "/local/p/sweeps/{}"


@pytest.fixture
def sweep(services: Services) -> str:
    sweep = services.sweep(grid(3))
    services.perform(sweep, services.agent(sweep))
    return sweep


@pytest.fixture
def browser(services: Services) -> Iterator[Web]:
    """A client without a key."""
    with Web(services, None) as web:
        yield web


def ticket(services: Services, age_s: float = 0.0) -> str:
    return keys.issue(keys.ticket_key(MASTER_KEY), services.clock() - age_s)


def with_ticket(services: Services, page: str) -> str:
    return f"{page}?ticket={ticket(services)}"


def test_a_ticket_becomes_a_cookie_and_the_address_without_it(
    services: Services, browser: Web, sweep: str
) -> None:
    page = PAGE.format(sweep)
    answer = browser.get(with_ticket(services, page), headers=HTML)
    assert (answer.status_code, answer.headers["location"]) == (303, page)
    cookie = answer.headers["set-cookie"]
    assert cookie.startswith("parallel_hpo_1234=")
    assert "HttpOnly" in cookie and "samesite=lax" in cookie.lower()
    assert MASTER_KEY not in cookie
    shown = browser.get(page, headers=HTML)
    assert (shown.status_code, sweep in shown.text) == (200, True)


def test_a_ticket_keeps_the_rest_of_its_address(services: Services, browser: Web, sweep: str) -> None:
    page = PAGE.format(sweep)
    answer = browser.get(f"{page}?a=1&ticket={ticket(services)}&b=%26", headers=HTML)
    assert answer.headers["location"] == f"{page}?a=1&b=%26"


@pytest.mark.parametrize("path", ["//evil.example", "//evil.example/runs/x", "/\\evil.example/p"])
def test_a_ticket_leads_to_no_other_host(services: Services, path: str) -> None:
    scope: dict[str, Any] = {"type": "http", "method": "GET", "path": path, "headers": []}
    scope |= {
        "query_string": f"ticket={ticket(services)}".encode(),
        "server": ("127.0.0.1", 6),
        "scheme": "http",
    }
    way_on = BrowserAuth(MASTER_KEY, services.clock).redeem(scope)
    assert way_on is None or way_on.headers["location"].startswith("/%5C")


def test_a_ticket_is_good_once(services: Services, browser: Web, sweep: str) -> None:
    address = with_ticket(services, PAGE.format(sweep))
    assert browser.get(address).status_code == 303
    browser.forget_cookies()
    assert browser.get(address, headers=HTML).status_code == 401


def test_a_used_ticket_is_left_away_for_who_was_let_in(services: Services, browser: Web, sweep: str) -> None:
    address = with_ticket(services, PAGE.format(sweep))
    browser.get(address)
    answer = browser.get(address)
    assert (answer.status_code, "set-cookie" in answer.headers) == (303, False)


def test_a_ticket_is_good_for_minutes(services: Services, sweep: str) -> None:
    with Web(services, None) as web:
        fresh = with_ticket(services, PAGE.format(sweep))
        services.clock.now += keys.TICKET_VALID_S + 1
        assert web.get(fresh, headers=HTML).status_code == 401


def test_a_browser_that_was_let_in_is_let_in_for_a_month(services: Services, browser: Web) -> None:
    browser.get(with_ticket(services, "/"))
    services.clock.now += keys.PASS_VALID_S - 1
    assert browser.get("/").status_code == 200
    services.clock.now += 2
    assert browser.get("/").status_code == 401


def test_a_ticket_from_before_a_servers_start_may_have_been_used(services: Services, sweep: str) -> None:
    address = f"{PAGE.format(sweep)}?ticket={ticket(services, age_s=5)}"
    with Web(services, None) as web:
        assert web.get(address, headers=HTML).status_code == 401


@pytest.mark.parametrize("bad", ["", "x", "1-2-3", "0" * 500])
def test_what_is_no_ticket_lets_nobody_in(services: Services, browser: Web, sweep: str, bad: str) -> None:
    answer = browser.get(f"{PAGE.format(sweep)}?ticket={bad}", headers=HTML)
    assert (answer.status_code, "set-cookie" in answer.headers) == (401, False)


def test_only_a_get_uses_a_ticket_up(services: Services, browser: Web, sweep: str) -> None:
    address = with_ticket(services, PAGE.format(sweep))
    assert browser.send("HEAD", address).status_code == 401
    assert browser.post(address).status_code == 401
    assert browser.get(address).status_code == 303


def test_who_was_not_let_in_reads_how_to_come_in(browser: Web, sweep: str) -> None:
    for page in (PAGE.format(sweep), "/local/p", "/local/p/runs/x", "/"):
        answer = browser.get(page, headers=HTML)
        assert (answer.status_code, answer.headers["content-type"]) == (401, "text/html; charset=utf-8")
        assert "parallel-hpo open" in answer.text
        assert sweep not in answer.text


def test_a_program_without_a_key_is_answered_as_before(browser: Web, sweep: str) -> None:
    answer = browser.get(PAGE.format(sweep))
    assert (answer.status_code, "error" in answer.json()) == (401, True)


def test_a_browser_that_was_let_in_looks_and_does_nothing_else(
    services: Services, browser: Web, sweep: str
) -> None:
    browser.get(with_ticket(services, "/"))
    assert browser.get("/").status_code == 200
    assert browser.post("/graphql", json={"query": "{ viewer { entity } }"}).status_code == 401
    assert browser.get(f"/hpo/sweeps/local/p/{sweep}").status_code == 401
    assert browser.post(f"/hpo/sweeps/local/p/{sweep}/state", json={"state": "CANCELED"}).status_code == 401
    assert browser.post("/files/local/p/r/file_stream", json={}).status_code == 401
    digest = "0" * 32
    assert browser.get(f"/artifactsV2/r/local/p/c/b/{digest}/f").status_code == 401
    assert browser.post(PAGE.format(sweep)).status_code == 401


def test_each_ports_cookie_has_a_name_of_its_own(services: Services, browser: Web) -> None:
    for host, name in (("localhost:9", "parallel_hpo_9"), ("127.0.0.1", "parallel_hpo_default")):
        answer = browser.get(with_ticket(services, "/"), headers={"Host": host})
        assert answer.headers["set-cookie"].startswith(f"{name}=")


def test_the_cookie_of_a_forwarded_port_is_looked_for_under_that_port(
    services: Services, browser: Web
) -> None:
    answer = browser.get(with_ticket(services, "/"), headers={"Host": "localhost:9999"})
    cookie = answer.headers["set-cookie"].partition(";")[0]
    browser.forget_cookies()
    assert browser.get("/", headers={"Host": "localhost:9999", "Cookie": cookie}).status_code == 200
    assert browser.get("/", headers={"Host": "localhost:1", "Cookie": cookie}).status_code == 401


def test_a_foreign_host_is_refused_before_its_ticket_is_used(
    services: Services, browser: Web, sweep: str
) -> None:
    address = with_ticket(services, PAGE.format(sweep))
    assert browser.get(address, headers={"Host": "evil.example", **HTML}).status_code == 400
    assert browser.get(address).status_code == 303


def test_no_ticket_comes_into_the_log(
    services: Services, browser: Web, sweep: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    given = ticket(services)
    for path in (PAGE.format(sweep), "/graphql", "/local/none/runs/x"):
        browser.get(f"{path}?ticket={given}")
        browser.get(f"{path}?ticket={given}", headers={"Host": "evil.example"})
    said = [record.getMessage() for record in caplog.records if record.name.startswith("parallel_hpo")]
    assert said
    assert not [line for line in said if given.rpartition("-")[2] in line]


@pytest.mark.parametrize("path", ["/", "/local/p", "/favicon.ico", "/pages/data/local/p", "/closed/to/all"])
def test_every_answer_to_a_browser_has_the_same_guards(
    services: Services, browser: Web, sweep: str, path: str
) -> None:
    browser.get(with_ticket(services, "/"))
    headers = browser.get(path, headers=HTML).headers
    policy = headers["content-security-policy"]
    assert "default-src 'none'" in policy and "script-src 'self'; style-src 'self'" in policy
    assert "unsafe" not in policy
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["cross-origin-resource-policy"] == "same-origin"
    assert headers["referrer-policy"] == "no-referrer"


def test_a_key_opens_the_pages_data_too_a_workers_that_of_its_sweep(services: Services, sweep: str) -> None:
    other = services.sweep(grid(2))
    with Web(services) as master:
        assert master.get(f"/pages/data/local/p/sweeps/{other}").status_code == 200
    with Web(services, worker_key(MASTER_KEY, "w0", sweep)) as worker:
        assert worker.get(f"/pages/data/local/p/sweeps/{sweep}").status_code == 200
        assert worker.get(f"/pages/data/local/p/sweeps/{other}").status_code == 404
        listed = json.loads(worker.get("/pages/data/local/p").content)
    assert [each["id"] for each in listed["sweeps"]] == [sweep]


def test_another_user_of_the_machine_gets_nothing_for_a_ticket_or_a_cookie(services: Services) -> None:
    stranger: dict[str, Any] = {
        "type": "http",
        "method": "GET",
        "path": "/",
        "headers": [],
        "client": ("127.0.0.1", 5),
        "server": ("127.0.0.1", 6),
        "query_string": f"ticket={ticket(services)}".encode(),
    }
    assert BrowserAuth(MASTER_KEY, services.clock, _Strangers()).redeem(stranger) is None
    good = keys.viewing_pass(MASTER_KEY, services.clock())
    stranger["headers"] = [(b"host", b"h:6"), (b"cookie", f"parallel_hpo_6={good}".encode())]
    assert not BrowserAuth(MASTER_KEY, services.clock, _Strangers()).may_view(stranger)
    assert BrowserAuth(MASTER_KEY, services.clock).may_view(stranger)


class _Strangers(LocalConnections):
    def is_other_users(self, scope: object) -> bool:
        return True


def let_in_to_act(services: Services, browser: Web, origin: str = "http://127.0.0.1:1234") -> str | None:
    """Be let in by a ticket, as a page does that then asks for its token; return the token."""
    browser.get(with_ticket(services, "/"))
    answer = browser.post("/pages/token", headers={"Origin": origin})
    return answer.json()["token"] if answer.status_code == 200 else None


def acting(services: Services, browser: Web) -> dict[str, str]:
    """Be let in, and return the headers with which the page may act."""
    token = let_in_to_act(services, browser)
    return {"Origin": "http://127.0.0.1:1234", "X-Parallel-Hpo-Token": token or ""}


def act(browser: Web, sweep: str, do: str, **headers: str) -> int:
    own = {"Origin": "http://127.0.0.1:1234"} | {
        name.replace("_", "-"): value for name, value in headers.items()
    }
    return browser.post(f"/pages/act/local/p/sweeps/{sweep}", json={"do": do}, headers=own).status_code


def test_the_page_that_a_ticket_led_to_may_act(services: Services, browser: Web, sweep: str) -> None:
    token = let_in_to_act(services, browser)
    assert token is not None
    for do, state in (
        ("pause", "PAUSED"),
        ("resume", "RUNNING"),
        ("stop", "FINISHED"),
        ("cancel", "CANCELED"),
    ):
        assert act(browser, sweep, do, X_Parallel_Hpo_Token=token) == 200
        assert services.progress(sweep).state == state
    assert act(browser, sweep, "rename", X_Parallel_Hpo_Token=token) == 400
    assert act(browser, "none", "stop", X_Parallel_Hpo_Token=token) == 404


def test_a_page_may_ask_a_run_to_stop(services: Services, browser: Web, sweep: str) -> None:
    name = services.begun(sweep)
    headers = acting(services, browser)
    answer = browser.post(f"/pages/act/local/p/runs/{name}", json={"do": "stop"}, headers=headers)
    assert (answer.status_code, services.run(name).stop_requested) == (200, True)


def test_a_page_may_edit_the_texts_of_an_ended_run_and_the_name_of_a_sweep(
    services: Services, browser: Web, sweep: str
) -> None:
    name = services.begun(sweep)
    headers = acting(services, browser)

    def edit(path: str, **texts: str) -> int:
        asked = {"do": "edit"} | texts
        return browser.post(f"/pages/act/local/p/{path}", json=asked, headers=headers).status_code

    assert edit(f"runs/{name}", name="too early") == 409
    services.finish(sweep, name)
    assert edit(f"runs/{name}", name=" better ", tags="a, b,,a", notes="") == 200
    run = services.run(name)
    assert (run.display_name, run.tags, run.notes) == ("better", '["a", "b"]', "")
    assert edit(f"sweeps/{sweep}", name="warm-up") == 200
    assert edit(f"sweeps/{sweep}", name="") == 400
    assert edit(f"sweeps/{sweep}", name="x" * 129) == 400
    assert edit(f"sweeps/{sweep}") == 400


def test_a_page_may_delete_an_ended_run(services: Services, browser: Web, sweep: str) -> None:
    name = services.begun(sweep)
    headers = acting(services, browser)

    def delete() -> int:
        asked = {"do": "delete"}
        return browser.post(f"/pages/act/local/p/runs/{name}", json=asked, headers=headers).status_code

    assert delete() == 409
    services.finish(sweep, name)
    assert (delete(), delete()) == (200, 404)


@pytest.mark.parametrize(
    ("path", "asked", "status"),
    [
        ("local/p/{}", {"do": "drain", "worker": 1}, 200),
        ("local/p/{}", {"do": "drain", "worker": 2}, 409),
        ("local/p/{}", {"do": "drain", "worker": "1"}, 400),
        ("local/other/{}", {"do": "drain", "worker": 1}, 409),
        ("local/p/{}", {"do": "scale", "workers": "3"}, 200),
        ("local/p/{}", {"do": "scale", "workers": 0}, 400),
        ("local/other/{}", {"do": "scale", "workers": 3}, 409),
        ("local/p/{}", {"do": "delete"}, 409),
    ],
)
def test_a_page_may_drain_and_scale_the_workers_of_its_own_sweep(
    services: Services, sweep: str, tmp_path: Path, path: str, asked: dict[str, Any], status: int
) -> None:
    folder = tmp_path / "sweeps" / sweep
    services.world = replace(services.world, sweeps_in=folder.parent)
    with (
        Ledger(folder / "ledger.db") as ledger,
        CommandPipe(folder) as mailbox,
        Web(services, key=None) as browser,
    ):
        ledger.record_facts({"path": path.format(sweep)})
        record_spawn(ledger, Slot(1), None, again=False)
        token = let_in_to_act(services, browser) or ""
        headers = {"Origin": "http://127.0.0.1:1234", "X-Parallel-Hpo-Token": token}
        answer = browser.post(f"/pages/act/local/p/sweeps/{sweep}", json=asked, headers=headers)
        assert (answer.status_code, len(mailbox.take())) == (status, int(status == 200))


@pytest.mark.parametrize(
    "headers",
    [
        {"X_Parallel_Hpo_Token": ""},
        {"X_Parallel_Hpo_Token": "0" * 64},
        {"Origin": "http://127.0.0.1:9"},
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Origin": ""},
        {"Sec_Fetch_Site": "same-site"},
        {"Cookie": "parallel_hpo_1234=1-2"},
    ],
)
def test_nobody_else_acts(services: Services, browser: Web, sweep: str, headers: dict[str, str]) -> None:
    token = let_in_to_act(services, browser) or ""
    before = services.progress(sweep).state
    assert act(browser, sweep, "cancel", **({"X_Parallel_Hpo_Token": token} | headers)) == 401
    assert services.progress(sweep).state == before


def test_a_stolen_cookie_gets_no_token(services: Services, browser: Web, sweep: str) -> None:
    own = {"Origin": "http://127.0.0.1:1234"}
    cookies = browser.get(with_ticket(services, "/")).headers.get_list("set-cookie")
    stolen = own | {"Cookie": "; ".join(cookie.partition(";")[0] for cookie in cookies)}
    browser.forget_cookies()
    assert [browser.post("/pages/token", headers=stolen).status_code for _ in range(2)] == [200, 204]
    assert let_in_to_act(services, browser, origin="http://127.0.0.1:9") is None
    browser.get(with_ticket(services, "/"))
    services.clock.now += 61
    assert browser.post("/pages/token", headers=own).status_code == 204


def test_a_key_does_not_act_as_a_page(services: Services, sweep: str) -> None:
    with Web(services) as master:
        assert act(master, sweep, "cancel") == 403
