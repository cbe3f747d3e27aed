"""A real Chromium, and what it saw of a page: errors, violations of the policy, requests to other hosts."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import urlsplit

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, ConsoleMessage, Page, Request, Response, sync_playwright

NAMES: Final = ("chromium", "chromium-browser", "google-chrome")
FLAGS: Final = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)
ALLOWED_TO_FAIL: Final = (401, 404)
"""Answers that a test may ask for; Chromium writes them on the console."""


def executable() -> str | None:
    """Return where a Chromium is, or None."""
    return next((path for name in NAMES if (path := shutil.which(name))), None)


@contextmanager
def launched() -> Iterator[Browser]:
    """A browser without a window."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable(), args=list(FLAGS))
        yield browser
        browser.close()


@dataclass
class Seen:
    """What a page did that it should not."""

    origin: str
    trouble: list[str] = field(default_factory=list)
    foreign: list[str] = field(default_factory=list)
    bytes: int = 0
    """That came over the wire, bodies alone."""

    def watch(self, page: Page) -> None:
        page.on("console", self._console)
        page.on("pageerror", lambda error: self.trouble.append(str(error)))
        page.on("request", self._request)
        page.on("response", self._response)

    def _console(self, message: ConsoleMessage) -> None:
        failed = "Failed to load resource" in message.text
        if message.type in ("error", "warning") and not failed:
            self.trouble.append(message.text)

    def _request(self, request: Request) -> None:
        parts = urlsplit(request.url)
        if parts.scheme in ("http", "https", "ws", "wss") and parts.netloc != urlsplit(self.origin).netloc:
            self.foreign.append(request.url)

    def _response(self, response: Response) -> None:
        self.bytes += int(response.headers.get("content-length", 0))
        if response.status >= 400 and response.status not in ALLOWED_TO_FAIL:
            self.trouble.append(f"{response.status} {response.url}")


def axe_findings(page: Page) -> list[dict[str, Any]]:
    """Return what axe has against a page as it is now.

    Its preload would put styles into the page, which the policy forbids.
    """
    violations: list[dict[str, Any]] = Axe().run(page, options={"preload": False}).response["violations"]
    return [
        {"rule": each["id"], "where": [node["html"][:120] for node in each["nodes"][:3]]}
        for each in violations
    ]
