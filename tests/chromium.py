"""A real browser for tests of pages: Debian's Chromium, driven by Playwright."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final, Literal
from urllib.parse import urlsplit

import pytest
from axe_playwright_python.base import AXE_SCRIPT
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import (
    BrowserContext,
    ConsoleMessage,
    Error,
    Page,
    Request,
    Response,
    expect,
    sync_playwright,
)

NAMES: Final = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")
"""Names of the browser's program. The first starts in a quarter of the time of the others."""
FLAGS: Final = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
    "--process-per-site",  # a new process for each page would be a third of its cost
)
Scheme = Literal["light", "dark"]
WATCH_POLICY: Final = """
    window.violations = [];
    document.addEventListener("securitypolicyviolation", (event) =>
        window.violations.push(`${event.violatedDirective}: ${event.blockedURI}`));
"""
FORGET: Final = "() => { localStorage.clear(); sessionStorage.clear(); }"
IS_THERE: Final = "() => 'axe' in window"
EMPTY: Final = "about:blank"
TIMEOUT_MS: Final = 30_000
"""Timeout of a page's expectations in milliseconds; a busy machine needs seconds."""
WINDOW: Final = pytest.StashKey[BrowserContext]()
"""Stash key of the window that the files of a folder share."""


def executable() -> str | None:
    """Return the path of an installed Chromium, or None."""
    return next((path for name in NAMES if (path := shutil.which(name))), None)


def why_not() -> str | None:
    """Return why there is no browser to test with, or None if there is one."""
    return None if executable() else "no Chromium is installed (Debian: apt-get install chromium)"


@contextmanager
def running() -> Iterator[BrowserContext]:
    """Run a headless browser that has one window with an empty tab.

    Meanwhile nothing else in this thread may start an event loop. Where there is no browser, the test is
    skipped.
    """
    reason = why_not()
    if reason is not None:
        pytest.skip(reason)
    expect.set_options(timeout=TIMEOUT_MS)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable(), args=list(FLAGS))
        window = browser.new_context(viewport={"width": 1200, "height": 900}, color_scheme="light")
        window.add_init_script(WATCH_POLICY)
        window.new_page()
        yield window
        browser.close()


@contextmanager
def tabs_of_its_own(window: BrowserContext) -> Iterator[None]:
    """Close the tabs that a test opens except an empty one, and clear their storage."""
    before = [page for page in window.pages if page.url != EMPTY]
    try:
        yield
    finally:
        opened = [page for page in window.pages if page not in before]
        for page in opened:
            if page.url.startswith(("http:", "file:")):  # other pages have no storage
                page.evaluate(FORGET)
        for page in opened[:1]:
            leave(page)
        for page in opened[1:]:
            page.close()
        window.clear_cookies()


def leave(page: Page) -> None:
    """Reset a tab to an empty page; its listeners must have been removed."""
    page.mouse.move(0, 0)
    page.goto(EMPTY)


def new_tab(window: BrowserContext, *, width: int, height: int, scheme: Scheme) -> Page:
    """Return an empty tab as if in a window of this size, in light or dark.

    Opening a tab costs as much as loading a page, so a free one is reused.
    """
    free = [page for page in window.pages if page.url == EMPTY]
    page = free[0] if free else window.new_page()
    page.bring_to_front()  # a background tab is drawn once a second
    page.set_viewport_size({"width": width, "height": height})
    page.emulate_media(color_scheme=scheme)
    return page


ALLOWED_TO_FAIL: Final = (401, 404)
"""Error statuses that a test may cause; Chromium writes them on the console, too."""


@dataclass
class Sight:
    """A page with its errors, failed requests, requests to other hosts, and policy violations."""

    page: Page
    errors: list[str] = field(default_factory=list)
    hosts: set[str] = field(default_factory=set)

    def complaints(self) -> list[str]:
        """Return all problems so far."""
        violations: list[str] = self.page.evaluate("() => window.violations")
        foreign = self.hosts - {urlsplit(self.page.url).netloc}
        return [*self.errors, *(f"request to {host}" for host in foreign), *violations]

    def console(self, message: ConsoleMessage) -> None:
        if message.type in {"error", "warning"} and "Failed to load resource" not in message.text:
            self.errors.append(f"{message.type}: {message.text}")

    def pageerror(self, error: Error) -> None:
        self.errors.append(error.stack or str(error))

    def request(self, request: Request) -> None:
        address = urlsplit(request.url)
        if address.scheme in ("http", "https", "ws", "wss"):
            self.hosts.add(address.netloc)

    def response(self, response: Response) -> None:
        if response.status >= 400 and response.status not in ALLOWED_TO_FAIL:
            self.errors.append(f"{response.status} {response.url}")


@contextmanager
def looking(
    window: BrowserContext, *, width: int = 1200, height: int = 900, scheme: Scheme = "light"
) -> Iterator[Sight]:
    """Open an empty tab, and record the errors of its page."""
    with tabs_of_its_own(window):
        page = new_tab(window, width=width, height=height, scheme=scheme)
        sight = Sight(page)
        events: tuple[Any, ...] = ("console", "pageerror", "request", "response")
        for event in events:
            page.on(event, getattr(sight, event))
        yield sight
        for event in events:
            page.remove_listener(event, getattr(sight, event))


def accessibility_faults(sight: Sight) -> list[str]:
    """Return the violations that axe finds on the present page, one line per rule."""
    return [f"{each['rule']}: {each['where']}" for each in axe_findings(sight.page)]


def axe_findings(page: Page) -> list[dict[str, Any]]:
    """Return the violations that axe finds on the present page.

    Preloading would put styles into the page, which the policy forbids. Reporting passed rules takes as
    long as finding violations.
    """
    options = {"preload": False, "resultTypes": ["violations"]}
    axe = Axe("0" if page.evaluate(IS_THERE) else AXE_SCRIPT)
    violations: list[dict[str, Any]] = axe.run(page, options=options).response["violations"]
    return [
        {"rule": each["id"], "where": [node["html"][:120] for node in each["nodes"][:3]]}
        for each in violations
    ]
