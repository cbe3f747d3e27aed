"""A real browser for tests of pages: Debian's Chromium, driven by Playwright."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final, Literal

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, ConsoleMessage, Page, sync_playwright

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


def executable() -> str | None:
    """Return where a Chromium is, or None."""
    return next((path for name in NAMES if (path := shutil.which(name))), None)


def why_not() -> str | None:
    """Return why there is no browser to test with, or None where there is one."""
    return None if executable() else "no Chromium is installed (Debian: apt-get install chromium)"


@contextmanager
def running() -> Iterator[Browser]:
    """Run the browser, without a window; meanwhile nothing else in this thread may start an event loop.

    Where there is none, the test is skipped.
    """
    reason = why_not()
    if reason is not None:
        pytest.skip(reason)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable(), args=list(FLAGS))
        yield browser
        browser.close()


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
    browser: Browser, *, width: int = 1200, height: int = 900, scheme: Scheme = "light"
) -> Iterator[Sight]:
    """Open a window of a size, in light or dark; nothing is loaded yet."""
    context = browser.new_context(viewport={"width": width, "height": height}, color_scheme=scheme)
    context.add_init_script(WATCH_POLICY)
    page = context.new_page()
    sight = Sight(page)

    def heard(message: ConsoleMessage) -> None:
        if message.type in {"error", "warning"}:
            sight.errors.append(f"{message.type}: {message.text}")

    page.on("console", heard)
    page.on("pageerror", lambda error: sight.errors.append(error.stack or str(error)))
    try:
        yield sight
    finally:
        context.close()


def accessibility_faults(sight: Sight) -> list[str]:
    """Return what axe finds on the page as it is now, one line a rule."""
    return [f"{each['rule']}: {each['where']}" for each in axe_findings(sight.page)]


def axe_findings(page: Page) -> list[dict[str, Any]]:
    """Return what axe has against a page as it is now.

    Its preload would put styles into the page, which the policy forbids.
    """
    violations: list[dict[str, Any]] = Axe().run(page, options={"preload": False}).response["violations"]
    return [
        {"rule": each["id"], "where": [node["html"][:120] for node in each["nodes"][:3]]}
        for each in violations
    ]
