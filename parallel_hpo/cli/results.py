"""The commands that take something out of sweeps, with their arguments and options."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from parallel_hpo.cli.options import Directory, ExportFormat, Json, Sweep, directory_of, sweep_ids
from parallel_hpo.cli.output import errors_as_exit_codes


def compare(
    sweeps: Annotated[
        list[str], typer.Argument(help="The sweeps' ids.", metavar="SWEEP SWEEP...", autocompletion=sweep_ids)
    ],
    reach: Annotated[
        float | None, typer.Option(help="The value to be reached; missing: the worst of the best ones.")
    ] = None,
    directory: Directory = None,
    as_json: Json = False,
) -> None:
    """Put sweeps side by side: their best, what it took to reach a value, what they cost."""
    from parallel_hpo.cli.compare import perform_compare

    with errors_as_exit_codes():
        perform_compare(directory_of(directory), sweeps, reach, as_json=as_json)


def export(
    sweep: Sweep,
    wanted: Annotated[
        ExportFormat | None,
        typer.Option("--format", help="Missing: by the suffix of FILE. optuna: a storage with a study."),
    ] = None,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="Missing: stdout.", metavar="FILE")
    ] = None,
    directory: Directory = None,
) -> None:
    """Write a sweep's runs as CSV, Parquet, JSON or an Optuna storage; of a file print its path."""
    from parallel_hpo.cli.export import perform_export

    with errors_as_exit_codes():
        perform_export(directory_of(directory), sweep, wanted, output)


def report(
    sweep: Sweep,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="Missing: SWEEP.html, here.", metavar="FILE")
    ] = None,
    directory: Directory = None,
) -> None:
    """Write a sweep's charts and runs into one HTML file that needs no server; print its path."""
    from parallel_hpo.cli.report import perform_report

    with errors_as_exit_codes():
        perform_report(directory_of(directory), sweep, output)
