"""Arguments and options that several commands have."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

Sweep = Annotated[str, typer.Argument(help="The sweep's id.", metavar="SWEEP")]
Directory = Annotated[
    Path | None, typer.Option(help="Where sweeps are kept; missing: as for run.", metavar="FOLDER")
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def directory_of(given: Path | None) -> Path:
    """Return the folder in which sweeps are kept."""
    from parallel_hpo.config.directory import find_directory

    return find_directory(given, os.environ)
