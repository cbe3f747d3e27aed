"""Arguments and options that several commands have, and what an option may say."""

from __future__ import annotations

import os
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Final

import typer


def sweep_ids(context: typer.Context, incomplete: str) -> list[str]:
    """Return the ids of known sweeps that begin so, for a shell's completion."""
    from parallel_hpo.records.folders import folders_of_sweeps

    folders = folders_of_sweeps(directory_of(context.params.get("directory")))
    return [folder.name for folder in folders if folder.name.startswith(incomplete)]


def run_ids(context: typer.Context, incomplete: str) -> list[str]:
    """Return what names a run of the sweep that stands before it, and begins so."""
    from parallel_hpo.core.errors import ParallelHPOError
    from parallel_hpo.records.folders import find_sweep

    try:
        known = find_sweep(directory_of(context.params.get("directory")), context.params.get("sweep") or "")
    except ParallelHPOError:
        return []
    return [name for name in ("best", *(run.run_id for run in known.runs)) if name.startswith(incomplete)]


Sweep = Annotated[str, typer.Argument(help="The sweep's id.", metavar="SWEEP", autocompletion=sweep_ids)]
Directory = Annotated[
    Path | None, typer.Option(help="Where sweeps are kept; missing: as for run.", metavar="FOLDER")
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def directory_of(given: Path | None) -> Path:
    """Return the folder in which sweeps are kept."""
    from parallel_hpo.core.folders import find_directory

    return find_directory(given, os.environ)


def parse_slot(text: str) -> int:
    """Return the slot of a worker, which is named as the display does, `w0`, or by its number alone."""
    digits = text.removeprefix("w")
    if not (digits.isascii() and digits.isdigit()):
        raise typer.BadParameter(f"{text!r} is no worker; allowed: its slot, as 0 or w0")
    return int(digits)


class ExportFormat(StrEnum):
    """What a sweep is exported as."""

    CSV = "csv"
    PARQUET = "parquet"
    JSON = "json"
    OPTUNA = "optuna"


SUFFIXES: Final = {
    ".csv": ExportFormat.CSV,
    ".parquet": ExportFormat.PARQUET,
    ".json": ExportFormat.JSON,
    ".log": ExportFormat.OPTUNA,
    ".journal": ExportFormat.OPTUNA,
}
"""What a file's name says of its format."""
