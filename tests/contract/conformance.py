"""The table in docs/conformance.md: each client's result by feature; `scripts/conformance` writes it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from tests.contract.serving import ROOT, Server

FILE: Final = ROOT / "docs" / "conformance.md"
NEWEST: Final = "newest client"
OLDEST: Final = "0.28"
PARTS: Final = ("runs", "artifacts", "analysis", "sweeps", "commands", "tools")
_DEADLINE_S: Final = 280.0  # the longest part takes 40 s on an idle machine
COLUMNS: Final = (NEWEST, OLDEST)
SURFACE_TITLE: Final = "## All that the client documents"

Found = Mapping[str, str]
"""A client's result by feature."""


def find(server: Server, part: str, *, python: Path | None = None) -> Found:
    """Run a part's steps with a client in its own process, and return its results."""
    answers: dict[str, str] = server.client("usage/steps.py", part, python=python, deadline_s=_DEADLINE_S)
    return answers


def read(text: str) -> dict[str, dict[str, str]]:
    """Return the table's cells: by column, then by feature."""
    table: dict[str, dict[str, str]] = {column: {} for column in COLUMNS}
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if line.startswith(SURFACE_TITLE):
            break
        if line.startswith("| ") and len(cells) == 3 and cells[0] != "feature":
            for column, cell in zip(COLUMNS, cells[1:], strict=True):
                table[column][cells[0]] = cell
    return table
