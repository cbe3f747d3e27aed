"""Tables on stdout, for people and for pipes."""

from __future__ import annotations

import os
import sys
from collections.abc import Collection, Sequence
from typing import Any, Final

from rich.cells import cell_len
from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

from parallel_hpo.cli.output import on_stdout, print_for_people
from parallel_hpo.core.visible import visible_on_one_line

ANY_WIDTH: Final = 100_000
"""As wide as any table."""
GAP: Final = 1
"""Cells between two columns."""


def show_table(rows: list[dict[str, Any]], *, missed_least: Sequence[str] = ()) -> None:
    """Print rows of the same keys as a table, without the columns in which nothing stands.

    A row is one line. Without `missed_least` it is as wide as it must be. With it a terminal gets no wider
    table than it is: these columns are left out first, in this order; stderr says which.
    """
    names = [name for name in rows[0] if any(row[name] not in (None, "") for row in rows)]
    cells = {name: [_cell(row[name]) for row in rows] for name in names}
    width = _terminal_width() if missed_least else ANY_WIDTH
    left_out = _columns_to_leave_out(cells, missed_least, width)
    shown = {name: column for name, column in cells.items() if name not in left_out}
    headings = (Column(Text(visible_on_one_line(name)), no_wrap=True) for name in shown)
    table = Table(*headings, box=None, pad_edge=False)
    for row in zip(*shown.values(), strict=True):
        table.add_row(*map(Text, row))
    with on_stdout():
        Console(width=width).print(table)
    if left_out:
        print_for_people(f"not shown: {', '.join(left_out)}; a wider terminal or --json has them")


def _columns_to_leave_out(
    cells: dict[str, list[str]], missed_least: Sequence[str], width: int
) -> Collection[str]:
    """Return as many of the columns that are missed least as the width has no room for."""
    needed = {name: GAP + max(map(cell_len, (name, *column))) for name, column in cells.items()}
    left_out: list[str] = []
    for name in missed_least:
        if sum(needed.values()) - GAP <= width:
            break
        if needed.pop(name, 0):
            left_out.append(name)
    return left_out


def _terminal_width() -> int:
    """Return how many cells wide stdout's terminal is; ANY_WIDTH where stdout is none."""
    if sys.stdout is None or not sys.stdout.isatty():
        return ANY_WIDTH
    try:
        return os.get_terminal_size(sys.stdout.fileno()).columns or ANY_WIDTH
    except (OSError, ValueError):  # it has no descriptor
        return ANY_WIDTH


def _cell(value: Any) -> str:
    text = "" if value is None else f"{value:g}" if isinstance(value, float) else str(value)
    return visible_on_one_line(text)
