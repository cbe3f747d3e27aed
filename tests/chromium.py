"""A real browser for tests of pages: Debian's Chromium, driven by Playwright."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final, Literal

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import BrowserContext, ConsoleMessage, Page, sync_playwright

NAMES: Final = ("chromium", "chromium-browser", "google-chrome")
FLAGS: Final = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)
Scheme = Literal["light", "dark"]
WATCH_POLICY: Final = """
    window.violations = [];
    document.addEventListener("securitypolicyviolation", (event) =>
        window.violations.push(`${event.violatedDirective}: ${event.blockedURI}`));
"""
FORGET: Final = "() => localStorage.clear()"


def executable() -> str | None:
    """Return where a Chromium is, or None."""
    return next((path for name in NAMES if (path := shutil.which(name))), None)


def why_not() -> str | None:
    """Return why there is no browser to test with, or None where there is one."""
    return None if executable() else "no Chromium is installed (Debian: apt-get install chromium)"


@contextmanager
def running() -> Iterator[BrowserContext]:
    """Run the browser, with one window that is not shown, for tabs beside an empty one.

    A page costs half as much in a window that has another: with the last one of a window all that was ready
    for the next goes too. Meanwhile nothing else in this thread may start an event loop. Where there is no
    browser, the test is skipped.
    """
    reason = why_not()
    if reason is not None:
        pytest.skip(reason)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable(), args=list(FLAGS))
        window = browser.new_context(viewport={"width": 1200, "height": 900}, color_scheme="light")
        window.add_init_script(WATCH_POLICY)
        window.new_page()
        yield window
        browser.close()


@contextmanager
def tabs_of_its_own(window: BrowserContext) -> Iterator[None]:
    """Close the tabs that a test opens, and forget what they kept: cookies and `localStorage`."""
    before = window.pages
    try:
        yield
    finally:
        for page in [each for each in window.pages if each not in before]:
            if page.url.startswith(("http:", "file:")):  # others have nothing where they could keep it
                page.evaluate(FORGET)
            page.close()
        window.clear_cookies()


def new_tab(window: BrowserContext, *, width: int, height: int, scheme: Scheme) -> Page:
    """Open a tab as if in a window of this size, in light or dark; nothing is loaded yet."""
    page = window.new_page()
    page.set_viewport_size({"width": width, "height": height})
    page.emulate_media(color_scheme=scheme)
    return page


@dataclass
class Sight:
    """A page, with all that it complained of: errors, and what its Content-Security-Policy refused."""

    page: Page
    errors: list[str] = field(default_factory=list)

    def complaints(self) -> list[str]:
        """Return what went wrong until now."""
        violations: list[str] = self.page.evaluate("() => window.violations")
        return self.errors + violations


@contextmanager
def looking(
    window: BrowserContext, *, width: int = 1200, height: int = 900, scheme: Scheme = "light"
) -> Iterator[Sight]:
    """Open a tab, and hear what its page complains of; nothing is loaded yet."""
    with tabs_of_its_own(window):
        page = new_tab(window, width=width, height=height, scheme=scheme)
        sight = Sight(page)

        def heard(message: ConsoleMessage) -> None:
            if message.type in {"error", "warning"}:
                sight.errors.append(f"{message.type}: {message.text}")

        page.on("console", heard)
        page.on("pageerror", lambda error: sight.errors.append(error.stack or str(error)))
        yield sight


def accessibility_faults(sight: Sight) -> list[str]:
    """Return what axe finds on the page as it is now, one line a rule."""
    return [f"{each['rule']}: {each['where']}" for each in axe_findings(sight.page)]


def axe_findings(page: Page) -> list[dict[str, Any]]:
    """Return what axe has against a page as it is now.

    Its preload would put styles into the page, which the policy forbids; to tell of what is well takes as
    long as to find what is not.
    """
    options = {"preload": False, "resultTypes": ["violations"]}
    violations: list[dict[str, Any]] = Axe().run(page, options=options).response["violations"]
    return [
        {"rule": each["id"], "where": [node["html"][:120] for node in each["nodes"][:3]]}
        for each in violations
    ]
