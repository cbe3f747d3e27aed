"""A sweep's runs in columns: `--sort` takes one of them, `--csv` prints them all."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any, Final

from parallel_hpo.config.sweep_checks import nearest
from parallel_hpo.errors import UsageError
from parallel_hpo.nested import dotted
from parallel_hpo.supervisor.records.ledger_reader import RunRow

FIXED: Final = ("run_id", "outcome", "value", "duration_s")
"""The columns before those of the parameters."""
PARAMETERS: Final = "parameters"


def columns_of(run: RunRow) -> dict[str, Any]:
    """Return a run by its columns; each parameter stands under its dotted name after `parameters.`.

    `machine` is among them where there are many, and of its consumption what is known.
    """
    fixed = {name: getattr(run, name) for name in FIXED}
    if run.machine is not None:
        fixed["machine"] = run.machine
    fixed |= {name: value for name, value in asdict(run.consumption).items() if value is not None}
    inner = {f"{PARAMETERS}.{name}": value for name, value in dotted(run.parameters)}
    return fixed | {"outcome": run.outcome or "open"} | inner


def sorted_by(column: str, runs: Sequence[RunRow]) -> list[RunRow]:
    """Return runs in the order of a column, those without a value there last.

    Raises:
        UsageError: there is no such column.
    """
    rows = [columns_of(run) for run in runs]
    names = names_of(rows)
    if column not in names:
        raise UsageError(f"--sort {column}: there is no such column; {nearest(column, names)}")
    order = sorted(range(len(runs)), key=lambda index: _rank(rows[index].get(column)))
    return [runs[index] for index in order]


def names_of(rows: Iterable[Mapping[str, Any]]) -> tuple[str, ...]:
    """Return the columns that rows have, the fixed ones first."""
    return tuple(dict.fromkeys([*FIXED, *(name for row in rows for name in row)]))


def as_csv(runs: Iterable[RunRow]) -> str:
    """Return runs as CSV with a header; what is no text stands as in JSON, nothing as nothing."""
    rows = [columns_of(run) for run in runs]
    text = io.StringIO()
    writer = csv.DictWriter(text, names_of(rows), restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: _cell(value) for name, value in row.items()} for row in rows)
    return text.getvalue()


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return str(value) if isinstance(value, str) else json.dumps(value)


def _rank(value: Any) -> tuple[int, float, str]:
    """Return what values of any kind are ordered by: numbers, then texts and the rest, then nothing."""
    if value is None or value != value:  # NaN
        return (2, 0.0, "")
    if isinstance(value, int | float):
        return (0, value, "")
    return (1, 0.0, value if isinstance(value, str) else json.dumps(value))
