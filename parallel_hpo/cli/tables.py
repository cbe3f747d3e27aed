"""Tables on stdout, for people and for pipes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from parallel_hpo.cli.output import on_stdout

ANY_WIDTH: Final = 100_000
"""As wide as any table."""


def show_table(rows: list[dict[str, Any]]) -> None:
    """Print rows of the same keys as a table, without the columns in which nothing stands.

    A row is one line, however wide the terminal is, which breaks it, or the pipe, which must not.
    """
    names = [name for name in rows[0] if any(row[name] not in (None, "") for row in rows)]
    table = Table(*names, box=None, pad_edge=False)
    for row in rows:
        table.add_row(*map(escape, _cells(row, names)))
    with on_stdout():
        Console(width=ANY_WIDTH).print(table)


def _cells(row: dict[str, Any], names: list[str]) -> Iterator[str]:
    for name in names:
        value = row[name]
        yield "" if value is None else f"{value:g}" if isinstance(value, float) else str(value)
