"""Access to pages and their actions over plain HTTP: login links, cookies, other hosts, other users."""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from parallel_hpo.core import keys
from parallel_hpo.core.keys import worker_key
from parallel_hpo.core.types import Slot
from parallel_hpo.records.ledger import Ledger
from parallel_hpo.server.pages.browser_auth import BrowserAuth, LocalConnections
from parallel_hpo.server.store import sweeps
from parallel_hpo.session.signals import CommandPipe
from tests.ledgers import record_spawn
from tests.server.application import URL, Web
from tests.server.server_logic import MASTER_KEY, Services, grid

HTML = {"Accept": "text/html,application/xhtml+xml"}
EVIL = {"Host": "evil.example"}


def ticket(services: Services, age_s: float = 0.0) -> str:
    return keys.issue(keys.ticket_key(MASTER_KEY), services.clock() - age_s)


@dataclass
class Browser:
    """A client without a key, and the page of a sweep."""

    services: Services
    web: Web
    sweep: str

    @property
    def page(self) -> str:
        return f"/local/p/sweeps/{self.sweep}"

    def address(self, page: str = "/") -> str:
        """Return a page's address with a new one-time token."""
        return f"{page}?ticket={ticket(self.services)}"

    def status(self, address: str, **headers: str) -> int:
        return self.web.get(address, headers=HTML | headers).status_code

    def let_in(self) -> None:
        assert self.status(self.address()) == 303

    def token(self, origin: str = URL) -> str | None:
        """Log in by a link, as a page does before it asks for its token, and return the token."""
        self.let_in()
        answer = self.web.post("/pages/token", headers={"Origin": origin})
        return answer.json()["token"] if answer.status_code == 200 else None

    def act(self, path: str, do: str, headers: dict[str, str], **more: Any) -> int:
        """Ask a page's server to do something, and return its answer's status."""
        asked = {"do": do} | more
        own = {"Origin": URL} | headers
        return self.web.post(f"/pages/act/local/p/{path}", json=asked, headers=own).status_code

    def acting(self) -> dict[str, str]:
        """Log in, and return the header that lets a page act."""
        return {"X-Parallel-Hpo-Token": self.token() or ""}


@pytest.fixture
def browser(services: Services) -> Iterator[Browser]:
    sweep = services.sweep(grid(3))
    services.perform(sweep, services.agent(sweep))
    with Web(services, None) as web:
        yield Browser(services, web, sweep)


def test_a_login_link_sets_a_cookie_and_redirects_to_the_page_without_the_token(browser: Browser) -> None:
    answer = browser.web.get(f"{browser.address(browser.page)}&b=%26", headers=HTML)
    assert (answer.status_code, answer.headers["location"]) == (303, f"{browser.page}?b=%26")
    cookie = answer.headers["set-cookie"]
    assert cookie.startswith("parallel_hpo_1234=")
    assert "HttpOnly" in cookie and "samesite=lax" in cookie.lower()
    assert MASTER_KEY not in cookie
    shown = browser.web.get(browser.page, headers=HTML)
    assert (shown.status_code, browser.sweep in shown.text) == (200, True)


@pytest.mark.parametrize("path", ["//evil.example", "//evil.example/runs/x", "/\\evil.example/p"])
def test_a_login_link_never_redirects_to_another_host(services: Services, path: str) -> None:
    query = f"ticket={ticket(services)}".encode()
    scope: dict[str, Any] = {"type": "http", "method": "GET", "path": path, "headers": []}
    scope |= {"query_string": query, "server": ("127.0.0.1", 6), "scheme": "http"}
    way_on = BrowserAuth(MASTER_KEY, services.clock).redeem(scope)
    assert way_on is None or way_on.headers["location"].startswith("/%5C")


def test_a_used_login_link_redirects_its_own_browser_and_is_refused_to_another(browser: Browser) -> None:
    address = browser.address(browser.page)
    assert browser.status(address) == 303
    again = browser.web.get(address)
    assert (again.status_code, "set-cookie" in again.headers) == (303, False)
    browser.web.forget_cookies()
    assert browser.status(address) == 401


def test_a_login_link_expires_after_minutes_and_a_browsers_cookie_after_a_month(browser: Browser) -> None:
    clock, late = browser.services.clock, browser.address()
    clock.now += keys.TICKET_VALID_S + 1
    assert browser.status(late) == 401
    browser.let_in()
    clock.now += keys.PASS_VALID_S - 1
    assert browser.status("/") == 200
    clock.now += 2
    assert browser.status("/") == 401


def test_a_login_link_from_before_the_servers_start_is_refused(browser: Browser) -> None:
    assert browser.status(f"/?ticket={ticket(browser.services, age_s=5)}") == 401


@pytest.mark.parametrize("bad", ["", "x", "1-2-3", "0" * 500])
def test_a_malformed_login_link_is_refused(browser: Browser, bad: str) -> None:
    answer = browser.web.get(f"{browser.page}?ticket={bad}", headers=HTML)
    assert (answer.status_code, "set-cookie" in answer.headers) == (401, False)


def test_only_a_get_request_to_our_own_host_uses_up_a_login_link(browser: Browser) -> None:
    address = browser.address(browser.page)
    assert browser.web.send("HEAD", address).status_code == 401
    assert browser.web.post(address).status_code == 401
    assert browser.status(address, **EVIL) == 400
    assert browser.status(address) == 303


def test_without_access_a_browser_gets_instructions_and_a_program_a_json_error(browser: Browser) -> None:
    for page in (browser.page, "/local/p", "/local/p/runs/x", "/"):
        answer = browser.web.get(page, headers=HTML)
        assert (answer.status_code, answer.headers["content-type"]) == (401, "text/html; charset=utf-8")
        assert "parallel-hpo open" in answer.text
        assert browser.sweep not in answer.text
    answer = browser.web.get(browser.page)
    assert (answer.status_code, "error" in answer.json()) == (401, True)


def test_a_browsers_cookie_allows_viewing_pages_only(browser: Browser) -> None:
    browser.let_in()
    assert browser.status("/") == 200
    api = f"/hpo/sweeps/local/p/{browser.sweep}"
    for path in (api, f"/artifactsV2/r/local/p/c/b/{'0' * 32}/f"):
        assert browser.status(path) == 401
    for path in ("/graphql", f"{api}/state", "/files/local/p/r/file_stream", browser.page):
        assert browser.web.post(path, json={}).status_code == 401


@pytest.mark.parametrize(
    ("host", "name"),
    [
        ("localhost:9", "parallel_hpo_9"),
        ("127.0.0.1", "parallel_hpo_default"),
        ("localhost:9999", "parallel_hpo_9999"),
    ],
)
def test_each_port_has_its_own_cookie_name(browser: Browser, host: str, name: str) -> None:
    answer = browser.web.get(browser.address(), headers={"Host": host})
    cookie = answer.headers["set-cookie"].partition(";")[0]
    assert cookie.startswith(f"{name}=")
    browser.web.forget_cookies()
    assert browser.status("/", Host=host, Cookie=cookie) == 200
    assert browser.status("/", Host="localhost:1", Cookie=cookie) == 401


def test_the_token_of_a_login_link_is_not_logged(browser: Browser, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    given = ticket(browser.services)
    for path in (browser.page, "/graphql", "/local/none/runs/x"):
        browser.status(f"{path}?ticket={given}")
        browser.status(f"{path}?ticket={given}", **EVIL)
    said = [record.getMessage() for record in caplog.records if record.name.startswith("parallel_hpo")]
    assert said
    assert not [line for line in said if given.rpartition("-")[2] in line]


@pytest.mark.parametrize("path", ["/", "/local/p", "/favicon.ico", "/pages/data/local/p", "/closed/to/all"])
def test_every_response_to_a_browser_has_the_security_headers(browser: Browser, path: str) -> None:
    browser.let_in()
    headers = browser.web.get(path, headers=HTML).headers
    policy = headers["content-security-policy"]
    assert "default-src 'none'" in policy and "script-src 'self'; style-src 'self'" in policy
    assert "unsafe" not in policy
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["cross-origin-resource-policy"] == "same-origin"
    assert headers["referrer-policy"] == "no-referrer"


def test_a_master_key_reads_all_page_data_and_a_worker_key_that_of_its_sweep(browser: Browser) -> None:
    services, sweep = browser.services, browser.sweep
    other = services.sweep(grid(2))
    with Web(services) as master:
        assert master.get(f"/pages/data/local/p/sweeps/{other}").status_code == 200
    with Web(services, worker_key(MASTER_KEY, "w0", sweep)) as worker:
        assert worker.get(f"/pages/data/local/p/sweeps/{sweep}").status_code == 200
        assert worker.get(f"/pages/data/local/p/sweeps/{other}").status_code == 404
        listed = worker.get("/pages/data/local/p").json()
    assert [each["id"] for each in listed["sweeps"]] == [sweep]


HEAD = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"
LINE = "   0: 0100007F:{:04X} 0100007F:{:04X} 01 00000000:00000000 00:00000000 00000000 {:5d}        0 1\n"


def listed(folder: Path, *sockets: tuple[int, int, int]) -> Path:
    """List sockets by local port, remote port and owner, as Linux does."""
    path = folder / "tcp"
    path.write_text(HEAD + "".join(LINE.format(*each) for each in sockets))
    return path


def scope(client: tuple[str, int] | None = ("127.0.0.1", 5000)) -> dict[str, object]:
    return {"client": client, "server": ("127.0.0.1", 80)}


@pytest.mark.parametrize(
    ("sockets", "is_others"),
    [
        ([(80, 5000, 1000), (5000, 80, 1000)], False),
        ([(80, 5000, 1000), (5000, 80, 0)], False),
        ([(80, 5000, 1000), (5000, 80, 1001)], True),
        ([(5000, 80, 1000), (5000, 80, 1001)], True),
    ],
)
def test_the_user_of_the_clients_socket_decides_whether_it_is_another_users(
    tmp_path: Path, sockets: list[tuple[int, int, int]], is_others: bool
) -> None:
    peers = LocalConnections(lists=(listed(tmp_path, *sockets),), own=lambda: 1000)
    assert peers.is_other_users(scope()) is is_others


@pytest.mark.parametrize("client", [None, ("10.0.0.7", 5000), ("testclient", 1), ("127.0.0.1", 5001)])
def test_a_client_without_a_listed_socket_is_not_treated_as_another_user(
    tmp_path: Path, client: tuple[str, int] | None
) -> None:
    peers = LocalConnections(lists=(listed(tmp_path, (5000, 80, 1001)), tmp_path / "none"), own=lambda: 1000)
    assert not peers.is_other_users(scope(client))


def test_the_user_of_a_connection_is_looked_up_again_after_a_while(tmp_path: Path) -> None:
    now = 0.0
    path = listed(tmp_path, (5000, 80, 1001))
    peers = LocalConnections(lists=(path,), own=lambda: 1000, clock=lambda: now)
    assert peers.is_other_users(scope())
    listed(tmp_path, (5000, 80, 1000))
    assert peers.is_other_users(scope())
    now = 60.0
    assert not peers.is_other_users(scope())


@pytest.mark.skipif(not Path("/proc/net/tcp").exists(), reason="only Linux lists sockets")
def test_the_user_of_a_real_connection_is_found() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        socket.create_connection(server.getsockname()) as client,
    ):
        ends = {"client": client.getsockname(), "server": server.getsockname()}
        assert not LocalConnections().is_other_users(ends)
        if os.getuid() != 0:
            assert LocalConnections(own=lambda: os.getuid() + 1).is_other_users(ends)


class _Strangers(LocalConnections):
    def is_other_users(self, scope: object) -> bool:
        return True


def test_another_user_of_the_machine_gets_no_access_with_a_login_link_or_cookie(services: Services) -> None:
    stranger: dict[str, Any] = {"type": "http", "method": "GET", "path": "/", "headers": []}
    stranger |= {"client": ("127.0.0.1", 5), "server": ("127.0.0.1", 6)}
    stranger["query_string"] = f"ticket={ticket(services)}".encode()
    assert BrowserAuth(MASTER_KEY, services.clock, _Strangers()).redeem(stranger) is None
    good = keys.viewing_pass(MASTER_KEY, services.clock())
    stranger["headers"] = [(b"host", b"h:6"), (b"cookie", f"parallel_hpo_6={good}".encode())]
    assert not BrowserAuth(MASTER_KEY, services.clock, _Strangers()).may_view(stranger)
    assert BrowserAuth(MASTER_KEY, services.clock).may_view(stranger)


def test_the_page_of_a_login_link_may_change_a_sweeps_state(browser: Browser) -> None:
    headers, page = browser.acting(), f"sweeps/{browser.sweep}"
    states = {"pause": "PAUSED", "resume": "RUNNING", "stop": "FINISHED", "cancel": "CANCELED"}
    for do, state in states.items():
        assert browser.act(page, do, headers) == 200
        assert browser.services.state(browser.sweep) == state
    assert browser.act(page, "rename", headers) == 400
    assert browser.act("sweeps/none", "stop", headers) == 404


def test_a_page_may_stop_runs_edit_and_delete_ended_ones_and_rename_a_sweep(browser: Browser) -> None:
    services, headers = browser.services, browser.acting()
    name = services.begun(browser.sweep)
    run, sweep = f"runs/{name}", f"sweeps/{browser.sweep}"
    assert browser.act(run, "edit", headers, name="too early") == 409
    assert browser.act(run, "delete", headers) == 409
    assert (browser.act(run, "stop", headers), services.run(name).stop_requested) == (200, True)
    services.finish(browser.sweep, name)
    assert browser.act(run, "edit", headers, name=" better ", tags="a, b,,a", notes="") == 200
    edited = services.run(name)
    assert (edited.display_name, edited.tags, edited.notes) == ("better", '["a", "b"]', "")
    assert [browser.act(run, "delete", headers) for _ in range(2)] == [200, 404]
    assert browser.act(sweep, "edit", headers, name="warm-up") == 200
    with services.world.database.read() as transaction:
        found = sweeps.find(transaction, browser.sweep)
    assert found is not None and found.display_name == "warm-up"
    for wrong in ({"name": ""}, {"name": "x" * 129}, {}):
        assert browser.act(sweep, "edit", headers, **wrong) == 400


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
    services: Services, tmp_path: Path, path: str, asked: dict[str, Any], status: int
) -> None:
    sweep = services.sweep(grid(3))
    folder = tmp_path / "sweeps" / sweep
    services.world = replace(services.world, sweeps_in=folder.parent)
    with (
        Ledger(folder / "ledger.db") as ledger,
        CommandPipe(folder) as mailbox,
        Web(services, key=None) as web,
    ):
        ledger.record_facts({"path": path.format(sweep)})
        record_spawn(ledger, Slot(1), None, again=False)
        browser = Browser(services, web, sweep)
        assert browser.act(f"sweeps/{sweep}", headers=browser.acting(), **asked) == status
        assert len(mailbox.take()) == int(status == 200)


@pytest.mark.parametrize(
    "headers",
    [
        {"X-Parallel-Hpo-Token": ""},
        {"X-Parallel-Hpo-Token": "0" * 64},
        {"Origin": "http://127.0.0.1:9"},
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Origin": ""},
        {"Sec-Fetch-Site": "same-site"},
        {"Cookie": "parallel_hpo_1234=1-2"},
    ],
)
def test_an_action_with_a_wrong_token_or_origin_is_refused(browser: Browser, headers: dict[str, str]) -> None:
    before = browser.services.state(browser.sweep)
    assert browser.act(f"sweeps/{browser.sweep}", "cancel", browser.acting() | headers) == 401
    assert browser.services.state(browser.sweep) == before


def test_a_token_is_issued_once_per_login_to_its_own_origin_within_a_minute(browser: Browser) -> None:
    web, own = browser.web, {"Origin": URL}
    cookies = web.get(browser.address()).headers.get_list("set-cookie")
    stolen = own | {"Cookie": "; ".join(cookie.partition(";")[0] for cookie in cookies)}
    web.forget_cookies()
    assert [web.post("/pages/token", headers=stolen).status_code for _ in range(2)] == [200, 204]
    assert browser.token(origin="http://127.0.0.1:9") is None
    browser.let_in()
    browser.services.clock.now += 61
    assert web.post("/pages/token", headers=own).status_code == 204


def test_a_page_action_with_an_api_key_is_refused(browser: Browser) -> None:
    with Web(browser.services) as master:
        asking = Browser(browser.services, master, browser.sweep)
        assert asking.act(f"sweeps/{browser.sweep}", "cancel", {}) == 403
