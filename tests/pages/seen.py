"""Records a page's errors, policy violations and requests to other hosts."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import urlsplit

from playwright.sync_api import ConsoleMessage, Error, Page, Request, Response

ALLOWED_TO_FAIL: Final = (401, 404)
"""Error statuses that a test may cause; Chromium writes them on the console."""


@dataclass
class TableRun:
    """A page's errors and violations."""

    origin: str
    trouble: list[str] = field(default_factory=list)
    foreign: list[str] = field(default_factory=list)
    bytes: int = 0
    """Number of transferred bytes, without headers."""

    def watch(self, page: Page) -> None:
        for event, listener in self._listeners():
            page.on(event, listener)

    def leave(self, page: Page) -> None:
        """Stop watching a page."""
        for event, listener in self._listeners():
            page.remove_listener(event, listener)

    def _listeners(self) -> Iterator[tuple[Any, Callable[[Any], None]]]:
        yield "console", self._console
        yield "pageerror", self._error
        yield "request", self._request
        yield "response", self._response

    def _error(self, error: Error) -> None:
        self.trouble.append(str(error))

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


def open_table(page: Page) -> Page:
    """Change to the tab with the table of runs."""
    page.get_by_role("tab", name="Table").click()
    return page


def confirm(page: Page, verb: str) -> None:
    """Press an action's button, and answer its question with yes."""
    page.locator("#actions").get_by_role("button", name=verb).click()
    page.locator("dialog").get_by_role("button", name=verb).click()
