"""The table of results, for the terminal, and in docs/devices.md with card and date."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final, Protocol

from scripts.gpu_rows.rows import Result, Row
from scripts.gpu_rows.stage import ROOT

FILE: Final = ROOT / "docs" / "devices.md"
HEADING: Final = "## Tried on real devices\n"
_WORDS: Final = {True: "as promised", False: "**not as promised**", None: "not tried"}

Tried = tuple[Row, Result]


class Promise(Protocol):
    """What a row promises."""

    @property
    def name(self) -> str:
        """Return the row's short name."""

    @property
    def promise(self) -> str:
        """Return the promise in one line."""


def table(tried: Iterable[tuple[Promise, Result]]) -> str:
    """Return rows of this or another script as a table."""
    lines = [(row.name, row.promise, _WORDS[result.whole], result.seen) for row, result in tried]
    head = ("row", "what is promised", "", "what was seen")
    return "\n".join(map(_line, [head, ("---",) * len(head), *lines])) + "\n"


def write(tried: Iterable[Tried], where: str, path: Path = FILE) -> None:
    """Replace the content of the page's last section by the table; `where`: card, driver, date."""
    before, heading, _ = path.read_text(encoding="utf-8").partition(HEADING)
    note = f"{where}; by `scripts/gpu_check --write`, and not to be edited by hand.\n"
    path.write_text(f"{before}{heading or HEADING}\n{note}\n{table(tried)}", encoding="utf-8")


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |"
