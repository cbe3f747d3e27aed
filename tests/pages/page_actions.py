"""Actions on a sweep's page."""

from __future__ import annotations

from playwright.sync_api import Page


def open_table(page: Page) -> Page:
    """Change to the tab with the table of runs."""
    page.get_by_role("tab", name="Table").click()
    return page


def confirm(page: Page, verb: str) -> None:
    """Press an action's button, and answer its question with yes."""
    page.locator("#actions").get_by_role("button", name=verb).click()
    page.locator("dialog").get_by_role("button", name=verb).click()
