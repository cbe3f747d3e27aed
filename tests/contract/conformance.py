"""The table in docs/conformance.md: what each client found, by feature; read, merged and written here."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from tests.contract.serving import CLIENTS, ROOT, Server

FILE: Final = ROOT / "docs" / "conformance.md"
NEWEST: Final = "newest client"
OLDEST: Final = "0.28"
PARTS: Final = ("runs", "artifacts", "analysis", "sweeps", "commands", "tools")
_DEADLINE_S: Final = 280.0  # the longest part takes 40 s on an idle machine
_COLUMNS: Final = (NEWEST, OLDEST)
_TITLES: Final = {part: (CLIENTS / f"usage/{part}.py").read_text().split('"""')[1] for part in PARTS}
SURFACE_TITLE: Final = "## All that the client documents"
_HEAD: Final = """\
# What works of wandb's client with the embedded sweep server

Look up a feature that you use. *works*: the step succeeded, and checked its result. *clear error*: it fails
at once, with a message that names what is missing. *not in this client*: that version has no such feature.

`scripts/conformance` writes this page; don't edit it by hand. It runs the steps in
`tests/contract/clients/usage/` with a real client against a real server.
`tests/contract/test_ordinary_usage.py` checks the column "newest client" with the installed client. To update
a column:

    scripts/conformance                      # the newest client: the one that is installed
    scripts/conformance --client 0.28.2      # the oldest one that is supported, in an environment of its own
    scripts/conformance --surface            # the section at the end, by the installed client
"""

Found = Mapping[str, str]
"""What a client found, by feature."""


def find(server: Server, part: str, *, python: Path | None = None) -> Found:
    """Run a part's steps with a client in a process of its own, and return what it found."""
    answers: dict[str, str] = server.client("usage/steps.py", part, python=python, deadline_s=_DEADLINE_S)
    return answers


def read(text: str) -> dict[str, dict[str, str]]:
    """Return the table's cells: by column, then by feature."""
    table: dict[str, dict[str, str]] = {column: {} for column in _COLUMNS}
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if line.startswith(SURFACE_TITLE):
            break
        if line.startswith("| ") and len(cells) == 3 and cells[0] != "feature":
            for column, cell in zip(_COLUMNS, cells[1:], strict=True):
                table[column][cells[0]] = cell
    return table


def write(path: Path, column: str, found: Mapping[str, Found]) -> None:
    """Write the table with one column (its cells by part and feature) in the place of what it held."""
    table = read(path.read_text(encoding="utf-8")) if path.exists() else {name: {} for name in _COLUMNS}
    for cells in found.values():
        table[column] |= cells
    sections = [_section(part, list(cells), table) for part, cells in found.items()]
    surface = _surface_in(path.read_text(encoding="utf-8")) if path.exists() else ""
    path.write_text("\n".join([_HEAD, *sections, *([surface] if surface else [])]), encoding="utf-8")


def write_surface(path: Path, section: str) -> None:
    """Write the section on the client's whole surface in the place of what the page has of it."""
    text = path.read_text(encoding="utf-8")
    path.write_text(text.removesuffix(_surface_in(text)).rstrip("\n") + "\n\n" + section, encoding="utf-8")


def _surface_in(text: str) -> str:
    begin = text.find(SURFACE_TITLE)
    return "" if begin < 0 else text[begin:]


def _section(part: str, features: list[str], table: Mapping[str, Found]) -> str:
    head = f"## {_TITLES[part]}\n\n| feature | {' | '.join(_COLUMNS)} |\n|---|{'---|' * len(_COLUMNS)}\n"
    rows = [[feature, *(table[column].get(feature, "") for column in _COLUMNS)] for feature in features]
    return head + "".join(f"| {' | '.join(row)} |\n" for row in rows)
